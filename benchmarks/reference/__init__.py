"""Every method against a second implementation, written from its paper alone, with loops over tasks and rows."""
