"""Where to look: ternary values, signatures, routes."""
