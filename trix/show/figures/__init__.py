"""Figures that follow the page."""
