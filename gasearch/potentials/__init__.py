"""Potentials: the contract, its registry, and one file per architecture."""
