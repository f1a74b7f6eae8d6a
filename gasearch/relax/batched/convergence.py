"""Convergence and failure tests for all structures of a batch at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from ase.data import covalent_radii

from gasearch.potentials.contract import Batch, Evaluated
from gasearch.relax.audit import FUSED, FUSED_EVERY, MAX_VOLUME_CHANGE
from gasearch.relax.batched.state import State


@dataclass(frozen=True, eq=False)
class Judged:
    """What is known about structures (B,) after an evaluation.

    Parameters
    ----------
    converged
        Whether force and stress reached their thresholds.
    broken
        Whether it explodes, its volume ran away, or atoms fused.
    ended
        Whether to stop: for either reason, because a number is not finite, or no call is left.
    """

    converged: torch.Tensor
    broken: torch.Tensor
    ended: torch.Tensor


def judge(state: State, geometry: Batch, found: Evaluated) -> Judged:
    """Return who is finished; calls are counted already."""
    fmax = largest_by_system(found.forces.norm(dim=1), state)
    smax = found.stresses.abs().amax((1, 2))
    finite = found.energies.isfinite() & fmax.isfinite() & smax.isfinite()
    if found.moments is not None:
        finite &= largest_by_system(found.moments.abs(), state).isfinite()
    relaxed_cell = (smax <= state.smax) | ~state.cell_free
    converged = (fmax <= state.fmax) & relaxed_cell
    broken = (fmax > state.max_force) | _ran_away(state) | _fused(state, geometry)
    exhausted = state.n_calls >= state.max_calls
    return Judged(converged, broken, ended=~finite | converged | broken | exhausted)


def largest_by_system(values: torch.Tensor, state: State) -> torch.Tensor:
    """Return the largest of per-atom values (N,) in each structure (B,); NaN where one is."""
    start = values.new_full((len(state),), -torch.inf)
    return start.scatter_reduce(0, state.system, values, "amax")


def _ran_away(state: State) -> torch.Tensor:
    growth = state.strains.diagonal(dim1=1, dim2=2).sum(1).expm1()  # of the volume
    ran_away: torch.Tensor = growth.abs() > MAX_VOLUME_CHANGE
    return ran_away


def _fused(state: State, geometry: Batch) -> torch.Tensor:
    """Return where (B,) two atoms are on top of each other; looks at few structures at a time."""
    fused = torch.zeros(len(state), dtype=torch.bool, device=state.ids.device)
    due = (state.n_calls - 1) % FUSED_EVERY == 0
    if not bool(due.any()):
        return fused
    atoms = due[state.system].nonzero().squeeze(1)
    counts = state.counts[due]
    inside = torch.arange(int(counts.max()), device=due.device) < counts[:, None]
    slots = torch.zeros_like(inside, dtype=torch.int64).masked_scatter(inside, atoms)
    fractional = torch.matmul(geometry.positions[slots], torch.linalg.inv(geometry.cells[due]))
    between = fractional[:, :, None] - fractional[:, None]
    between -= between.round()
    cells = geometry.cells[due][:, None]
    distances = torch.matmul(between, cells).norm(dim=3)
    radii = _radii(state.ids.device)[state.numbers[slots]]
    close = distances < FUSED * (radii[:, :, None] + radii[:, None])
    close &= inside[:, :, None] & inside[:, None]
    close.diagonal(dim1=1, dim2=2)[:] = False
    fused[due] = close.any(2).any(1)
    return fused


@lru_cache(maxsize=4)
def _radii(device: torch.device) -> torch.Tensor:
    return torch.from_numpy(covalent_radii).to(device)
