"""Networks fitted to DFT frames. Frames live in `data`, what a model is worth in `evaluation`."""
