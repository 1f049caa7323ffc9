"""Reading a text: tables of counts, the context memory, words, matches, and their gate."""
