"""The built-in methods: one file each, loaded like anybody's plugin."""
