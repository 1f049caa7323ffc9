"""The quick way to write with a look-it-up model: one character at a time, in numpy and torch."""
