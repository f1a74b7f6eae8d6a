"""The result of one relaxation. No torch here: the store reads it cheaply."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.relax.audit import Verdict


@dataclass(frozen=True, eq=False)
class Relaxed:
    """A relaxed structure at one level of theory, or the account of why there is none.

    Parameters
    ----------
    atoms
        Final structure; formal charges in `initial_charges` (e), high-spin moments in
        `initial_magmoms`. The start structure where the verdict is "failed".
    energy
        Of the whole cell, in eV; NaN where the verdict is "failed".
    forces
        (n_atoms, 3), in eV/Å; NaN where the verdict is "failed".
    stress
        (3, 3), in eV/Å^3, tension positive as in ASE.
    fmax
        Largest force on any atom (norm), in eV/Å.
    smax
        Largest stress component, in eV/Å^3.
    n_calls
        Evaluations of the potential that it took.
    converged
        Whether force and stress reached their thresholds.
    moments
        (n_atoms,) as the potential or an independent reader gives them, in Bohr magnetons, or None.
    bond_lengths
        (n_redox,) mean length of the bonds of each redox site to its anions, six at most, in Å, in
        the order of the redox sites in `atoms`.
    verdict
        What the audit rule says; only "ok" enters the hull.
    reason
        One line that explains a verdict other than "ok"; "" otherwise.
    audit
        Name and version of the audit rule, such as "orders-2".
    wall_s
        Time that the relaxation took, in seconds.
    penalty
        What is left of a hold at the end, in eV per cell, contained in `energy`; 0 where nothing is
        held by force.
    energy_sigma
        Standard deviation of `energy` by the committee of the potential, in eV per cell; NaN where
        it has none.
    force_sigma
        The same of the largest error of a force on any atom (norm), in eV/Å.
    """

    atoms: Atoms
    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    fmax: float
    smax: float
    n_calls: int
    converged: bool
    moments: NDArray[np.float64] | None
    bond_lengths: NDArray[np.float64]
    verdict: Verdict
    reason: str
    audit: str
    wall_s: float
    penalty: float = 0.0
    energy_sigma: float = float("nan")
    force_sigma: float = float("nan")

    @classmethod
    def failed(cls, start: Atoms, reason: str, n_calls: int = 0, wall_s: float = 0.0) -> Relaxed:
        """Return the account of a structure that could not be relaxed."""
        nan = float("nan")
        return cls(
            atoms=start.copy(),
            energy=nan,
            forces=np.full((len(start), 3), nan),
            stress=np.full((3, 3), nan),
            fmax=nan,
            smax=nan,
            n_calls=n_calls,
            converged=False,
            moments=None,
            bond_lengths=np.empty(0),
            verdict="failed",
            reason=reason,
            audit="none",
            wall_s=wall_s,
        )
