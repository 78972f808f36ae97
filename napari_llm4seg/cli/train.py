"""``llm4seg train``: a recipe in, a checkpoint with its measured scores out."""
