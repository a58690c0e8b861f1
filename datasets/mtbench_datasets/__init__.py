"""The built-in data sets: one file per family, loaded like anybody's plugin."""
