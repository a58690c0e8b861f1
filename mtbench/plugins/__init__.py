"""The plugin host: finds plugins, imports each on its own, checks what they offer, and says whose fault a fault is."""
