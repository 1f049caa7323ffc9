"""Things to touch, on a page with no kernel too."""
