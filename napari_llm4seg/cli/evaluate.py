"""``llm4seg evaluate``: a model held against masks drawn by people."""
