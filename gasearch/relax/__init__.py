"""Relaxation of candidates: the result, its verdict, and the relaxers that produce it."""
