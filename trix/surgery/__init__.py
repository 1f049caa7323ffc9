"""Surgery: what is built on signatures that can be edited, frozen and claimed."""
