"""A run: what is to be done next, keeping the engine busy, and what is told meanwhile."""
