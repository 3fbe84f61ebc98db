"""A pipeline proposed from delivered files: what can be told from them is written, and said to be a guess."""
