"""Whether a result has the cell, the geometry and the magnetic order that its level stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.dft.codes.inputs import in_order
from gasearch.dft.codes.outputs import ELSEWHERE, Computed, expected_settings
from gasearch.dft.errors import RefusedOutputError
from gasearch.dft.spins import alternating_signs, spins

_SAME_LENGTH = 1e-3  # of each edge of a cell
_SAME_ANGLE = 0.1  # degrees
_MOVED = 0.02  # Å
_HAS_SPIN = 0.5  # Bohr magnetons: below, a moment has no direction


def refuse_other_geometry(computed: Computed, start: Atoms, settings: Mapping[str, Any]) -> None:
    """Raise where a result does not have what the settings of its level say of its geometry.

    Parameters
    ----------
    start
        What the job began with, with oxidation states.
    """
    geometry = settings.get("geometry", ELSEWHERE)
    if geometry == ELSEWHERE:
        return
    problem = ""
    ordered = like(start, computed.atoms)
    if expected_settings(settings, start).tags.get("cell", "fixed") == "fixed":
        problem = _other_cell(start, computed.atoms)
    if not problem and geometry == "as given":
        moved = float(_displacements(ordered, computed.atoms).max())
        if moved > _MOVED:
            problem = (
                f"atoms moved by up to {moved:.2f} Å, in a level that takes geometries as given"
            )
    problem = problem or _other_spins(computed.moments, ordered, settings)
    if problem:
        raise RefusedOutputError(
            computed.source,
            f"{problem}: collect it as another level, with --candidate and --level",
        )


def _other_cell(start: Atoms, final: Atoms) -> str:
    before, after = start.cell.cellpar(), final.cell.cellpar()
    same_edges = np.allclose(before[:3], after[:3], rtol=_SAME_LENGTH, atol=0)
    if same_edges and np.allclose(before[3:], after[3:], rtol=0, atol=_SAME_ANGLE):
        return ""
    growth = 100 * (final.cell.volume / start.cell.volume - 1)
    edges = " x ".join(f"{length:.3f}" for length in after[:3])
    expected = " x ".join(f"{length:.3f}" for length in before[:3])
    return (
        f"its cell is {edges} Å ({growth:+.1f} % in volume), not the {expected} Å that the job "
        "began with, in a level of fixed cells"
    )


def _other_spins(moments: NDArray[np.float64], start: Atoms, settings: Mapping[str, Any]) -> str:
    """Return what is wrong with the directions of moments; all may be turned round at once."""
    order = settings.get("spin")
    states = settings.get("spin_states", {})
    if order not in ("ferromagnetic", "antiferromagnetic"):
        return ""
    expected = np.ones(len(start), dtype=np.int64)
    if order == "antiferromagnetic":
        expected = alternating_signs(start, states)
    sites = np.flatnonzero((spins(start, states) > 0) & (np.abs(moments) > _HAS_SPIN))
    found = np.sign(moments[sites]) * expected[sites]
    if not len(sites) or np.all(found == found[0]):
        return ""
    n_down = int((moments[sites] < 0).sum())
    return (
        f"{min(n_down, len(sites) - n_down)} of {len(sites)} moments are antiparallel to the "
        f"others, which is not the {order} order of its level"
    )


def like(start: Atoms, final: Atoms) -> Atoms:
    """Return the start in the sequence of atoms of the result, which a code may have changed.

    A POSCAR has another one: elements lie together, and Fe2+ before Fe3+.
    """
    ordered, _ = in_order(start)
    known = [one for one in (start, ordered) if list(one.symbols) == list(final.symbols)]
    return min([*known, _nearest(start, final)], key=lambda one: _displacements(one, final).max())


def _nearest(start: Atoms, final: Atoms) -> Atoms:
    placed = start.get_scaled_positions() @ final.cell.array
    order: list[int] = []
    for index, symbol in enumerate(final.symbols):
        rows = [n for n in range(len(start)) if start.symbols[n] == symbol and n not in order]
        between = _shortest(placed[rows] - final.positions[index], final)
        order.append(rows[int(np.argmin(np.linalg.norm(between, axis=1)))])
    again: Atoms = start[order]
    return again


def _displacements(start: Atoms, final: Atoms) -> NDArray[np.float64]:
    """Return how far each atom (n_atoms,) moved, in Å."""
    placed = start.get_scaled_positions() @ final.cell.array
    return np.asarray(np.linalg.norm(_shortest(final.positions - placed, final), axis=1))


def _shortest(between: NDArray[np.float64], atoms: Atoms) -> NDArray[np.float64]:
    fractions = between @ np.linalg.inv(atoms.cell.array)
    return np.asarray((fractions - np.round(fractions)) @ atoms.cell.array)
