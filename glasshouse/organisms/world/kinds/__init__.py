"""Kinds of text, a function each: `(pen) -> Made`. What they write follows from the world; what they label is true."""
