"""How the end of a relaxation becomes its result with a verdict, the same for every relaxer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.errors import GasearchError
from gasearch.potentials.calculator import BadResultError
from gasearch.potentials.contract import Potential
from gasearch.relax.audit import Audit, audit, rule_of, shortfall
from gasearch.relax.geometry import mean_bond_lengths, redox_sites
from gasearch.relax.moment_reader import MomentReader
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

Array = NDArray[np.float64]

_LABELS = ("numbers", "initial_charges", "initial_magmoms")


class LabelsChangedError(GasearchError, RuntimeError):
    """An oxidation state, moment or element that a relaxation must not touch has changed."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label

    def __str__(self) -> str:
        return f"the potential changed {self.label!r} of the structure: it may only read labels."


class ResultBuilder:
    """Writes the results of relaxations with one potential.

    Parameters
    ----------
    potential
        Whose moments count, judged by its `moment_ranges` where it has that attribute.
    reader
        Reads moments off the relaxed structures instead, where there is one.
    """

    def __init__(self, potential: Potential, reader: MomentReader | None) -> None:
        self._potential = potential
        self._reader = reader

    def build(
        self,
        start: Atoms,
        final: Atoms,
        settings: RelaxSettings,
        *,
        energy: float,
        forces: Array,
        stress: Array,
        moments: Array | None,
        n_calls: int,
        converged: bool,
        trouble: str,
        wall_s: float = 0.0,
        penalty: float = 0.0,
    ) -> Relaxed:
        """Return the result of one relaxation; raise where numbers or labels make no sense.

        Parameters
        ----------
        start, final
            Before and after.
        settings
            Of this relaxation.
        energy, forces, stress, moments
            What the potential says about `final`, as in `Relaxed`.
        n_calls, converged, wall_s, penalty
            As in `Relaxed`.
        trouble
            Why it was given up, or "".
        """
        known: dict[str, Array | float | None] = {
            "energy": energy,
            "forces": forces,
            "stress": stress,
            "moments": moments,
            "penalty": penalty,
        }
        for what, numbers in known.items():
            if numbers is not None and not np.isfinite(numbers).all():
                raise BadResultError(self._potential.name, f"{what} that are not finite numbers")
        ranges = getattr(self._potential, "moment_ranges", None)
        judged, quantity = moments, "moment"
        if self._reader is not None:
            judged = np.asarray(self._reader.read(final), dtype=np.float64)
            ranges, quantity = self._reader.ranges, self._reader.quantity
            moments = judged if quantity == "moment" else moments
        check_labels(start, final)
        fmax, smax = largest(forces), float(np.abs(stress).max())
        found = audit(start, final, judged, ranges, settings.sites, quantity)
        if found.verdict == "ok" and trouble:
            found = Audit("broken", trouble)
        elif found.verdict == "ok" and not converged:
            found = Audit("unconverged", shortfall(fmax, smax, settings))
        return Relaxed(
            atoms=final,
            energy=energy,
            forces=forces,
            stress=stress,
            fmax=fmax,
            smax=smax,
            n_calls=n_calls,
            converged=converged,
            moments=moments,
            bond_lengths=mean_bond_lengths(final, redox_sites(final)),
            verdict=found.verdict,
            reason=found.reason,
            audit=rule_of(settings),
            wall_s=wall_s,
            penalty=penalty,
        )


def with_uncertainty(potential: Potential, found: Relaxed) -> Relaxed:
    """Return a result with what the potential knows of how certain it is of it, if anything."""
    ask = getattr(potential, "uncertainty", None)
    answer = ask([found.atoms]) if ask is not None and found.verdict != "failed" else None
    if answer is None:
        return found
    return replace(
        found,
        energy_sigma=_known(answer.energy_eV[0]),
        force_sigma=_known(answer.force_eV_per_A[0]),
    )


def _known(sigma: float) -> float:
    """Return a standard deviation; NaN where it is not finite."""
    return float(sigma) if np.isfinite(sigma) else float("nan")


def check_labels(start: Atoms, final: Atoms) -> None:
    """Raise where elements, charges or moments are not those of the start."""
    for label in _LABELS:
        before, after = start.arrays.get(label), final.arrays.get(label)
        if before is None and after is None:
            continue
        if before is None or after is None or not np.array_equal(before, after):
            raise LabelsChangedError(label)


def largest(vectors: Array) -> float:
    """Return the largest norm of the rows."""
    return float(np.linalg.norm(vectors, axis=1).max())
