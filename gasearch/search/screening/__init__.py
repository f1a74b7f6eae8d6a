"""Surrogate-based choice of candidates: acquisition, pools, enumerated compositions, refinement.

The model that predicts their energies lives in `surrogate`.
"""
