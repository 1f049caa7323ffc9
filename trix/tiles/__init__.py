"""What lies there: layers that read tiles."""
