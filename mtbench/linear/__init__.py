"""Linear task losses of many trials at once, in float64, and the solvers that methods share."""
