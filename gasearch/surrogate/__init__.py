"""What a search learns from its own results: features of decorations, and a model on them."""
