"""Exponentials of symmetric strains and their derivatives, for a batch of 3x3 matrices.

Products are spelled out or small enough for torch's own loop, so that a structure's numbers are the
same to the last bit whatever shares the batch.
"""

from __future__ import annotations

import torch

_TERMS = 16
"""Of the exponential series: the rest is below 1e-14 up to strains of norm 1."""


def rows_times(rows: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Return row vectors (..., 3) times matrices (..., 3, 3)."""
    a, b, c = rows[..., 0:1], rows[..., 1:2], rows[..., 2:3]
    return a * matrices[..., 0, :] + b * matrices[..., 1, :] + c * matrices[..., 2, :]


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return matrix products (B, 3, 3)."""
    return rows_times(left, right[:, None])


def symmetric(matrices: torch.Tensor) -> torch.Tensor:
    """Return the symmetric parts (B, 3, 3)."""
    return (matrices + matrices.transpose(1, 2)) / 2


def exponential(strains: torch.Tensor) -> torch.Tensor:
    """Return exp(strain) (B, 3, 3), symmetric with a positive determinant."""
    return symmetric(_series(strains))


def pull_back(strains: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Return derivatives (B, 3, 3) by strains of what has these gradients by their exponentials.

    The derivative of the exponential of S in a direction G is the upper right block of the
    exponential of [[S, G], [0, S]] (Higham, Functions of Matrices, 2008); for a symmetric S it is
    its own transpose.
    """
    blocks = strains.new_zeros(len(strains), 6, 6)
    blocks[:, :3, :3] = blocks[:, 3:, 3:] = strains
    blocks[:, :3, 3:] = symmetric(gradients)
    return symmetric(_series(blocks)[:, :3, 3:])


def _series(matrices: torch.Tensor) -> torch.Tensor:
    """Return the exponentials by Horner's scheme."""
    identity = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    one = identity.expand_as(matrices)
    result = one
    for k in range(_TERMS, 0, -1):
        result = torch.baddbmm(one, matrices, result, alpha=1 / k)
    return result
