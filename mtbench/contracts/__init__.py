"""What authors of plugins write against: methods, data sets, engines, and the values that pass between them."""
