"""The built-in weightings, one file each. A new file here is a new weighting."""
