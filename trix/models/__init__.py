"""Whole models: the character model, the look-it-up model, how they are kept and how they write."""
