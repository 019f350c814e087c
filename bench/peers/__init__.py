"""The same join of four completions on other tools, and on mlfs."""
