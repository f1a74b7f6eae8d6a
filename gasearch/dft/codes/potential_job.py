"""Compute one DFT job with a potential. `gasearch dft run` starts a copy of this in its folder.

    python potential_job.py     in the folder, with job.json and start.traj

It needs gasearch, and leaves what `gpaw_job.py` does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gasearch.dft.codes.gpaw_job import (
    Electrons,
    NotConvergedError,
    carry_out,
    compute_samples,
    frozen,
    known_result,
    largest_force,
    note_step,
    outcome_of,
    read_frame,
    write_frames,
)


def main() -> int:
    """Compute the job of the current folder, and return the exit status."""
    return carry_out(_compute, ("gasearch", "torch", "ase", "numpy"))


def _compute(job: dict[str, Any], start_s: float, is_first: bool) -> dict[str, Any]:
    from ase.io import read

    del is_first
    atoms: Any = read("start.traj")
    atoms.calc = _calculator(job)
    known = known_result()
    if known is None:
        n_steps = _relax(atoms, job, start_s)
        known = frozen(atoms)
        known.info["n_steps"] = n_steps
        write_frames("result.traj", [known])
    electrons = Electrons(NotConvergedError, lambda: atoms.calc)
    return outcome_of(known, compute_samples(atoms, electrons, start_s))


def _relax(atoms: Any, job: dict[str, Any], start_s: float) -> int:
    """Relax at fixed cell, or compute one point; return the number of steps."""
    from ase.optimize import BFGS

    is_relaxed = job["task"] == "relax"
    lowest = read_frame("relax.traj", lowest=True) if is_relaxed else None
    if lowest is not None and len(lowest) == len(atoms):
        atoms.positions = lowest.positions
    fmax, most = (job["fmax"], job["max_steps"]) if is_relaxed else (float("inf"), 0)
    optimizer: Any = BFGS(atoms, logfile=None, maxstep=job["max_step_length"])
    for _ in optimizer.irun(fmax=fmax, steps=most):
        note_step(frozen(atoms), "relax", optimizer.nsteps, start_s)
    reached = largest_force(atoms)
    if reached > fmax:
        reason = f"the largest force is {reached:.3f} eV/Å after {most} steps, not {fmax:g}"
        raise NotConvergedError("steps", reason)
    return int(optimizer.nsteps)


def _calculator(job: dict[str, Any]) -> Any:
    """Return the potential as ASE's calculator, with the moments that a result has."""
    import numpy as np

    from gasearch.potentials.calculator import PotentialCalculator
    from gasearch.potentials.registry import load_potential

    potential = load_potential(job["potential"], Path.cwd(), job["device"], job["species"])
    if potential.weights_hash != job["weights_hash"]:
        raise ValueError(
            f"potential {job['potential']!r} has other weights than when this job was prepared "
            f"({potential.weights_hash[:8]}, not {job['weights_hash'][:8]})"
        )

    class WithMoments(PotentialCalculator):
        """Own moments on elements of which it tells all species apart, else those of labels."""

        implemented_properties = [*PotentialCalculator.implemented_properties, "magmom"]

        def calculate(self, atoms: Any = None, *arguments: Any, **options: Any) -> None:
            super().calculate(atoms, *arguments, **options)
            is_own = np.isin(atoms.symbols, job["own_moments"])
            own = self.results.get("magmoms", job["moments"])
            self.results["magmoms"] = np.where(is_own, own, job["moments"])
            self.results["magmom"] = float(self.results["magmoms"].sum())

    return WithMoments(potential)


if __name__ == "__main__":
    sys.exit(main())
