"""From a row of a batch to the result of one relaxation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.species import MomentRanges
from gasearch.potentials.calculator import BadResultError
from gasearch.potentials.contract import Evaluated, Potential
from gasearch.relax.audit import fusion, volume_change
from gasearch.relax.batched.chunks import Snapshot
from gasearch.relax.batched.out_of_memory import is_out_of_memory
from gasearch.relax.conclusion import End, MomentReader, conclude, explosion, largest, told
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings


@dataclass(frozen=True, eq=False)
class Ending:
    """One structure that is finished.

    Parameters
    ----------
    snapshot
        Of this structure alone, on the CPU.
    converged
        Whether force and stress reached their thresholds.
    broken
        Whether it was given up for what became of it.
    fault
        Why the last evaluation failed, or "".
    """

    snapshot: Snapshot
    converged: bool
    broken: bool
    fault: str


class Concluder:
    """Writes the results of relaxations.

    Parameters
    ----------
    potential
        What was asked, whose name errors carry and whose moments count.
    reader
        Reads moments instead, where there is one.
    """

    def __init__(self, potential: Potential, reader: MomentReader | None) -> None:
        self._name = potential.name
        self._ranges: MomentRanges | None = getattr(potential, "moment_ranges", None)
        self._reader = reader

    def conclude(self, start: Atoms, settings: RelaxSettings, end: Ending) -> Relaxed:
        """Return the result of one relaxation; raises where memory runs out."""
        fault = end.fault
        try:
            if not fault:
                return conclude(start, self._end(start, settings, end), settings)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            fault = told(error)
        state = end.snapshot.state
        return Relaxed.failed(start, fault, int(state.n_calls[0]), float(state.wall_s[0]))

    def _end(self, start: Atoms, settings: RelaxSettings, end: Ending) -> End:
        state, found = end.snapshot.state, end.snapshot.found
        _check_finite(found, self._name)
        final = state.final_atoms(start, 0, end.snapshot.geometry)
        forces = _array(found.forces)
        moments, ranges = self._moments(final, found)
        trouble = ""
        if end.broken:
            exploded = explosion(largest(forces), settings)
            trouble = exploded or volume_change(start, final) or fusion(final)
        return End(
            atoms=final,
            energy=float(found.energies[0]),
            forces=forces,
            stress=_array(found.stresses[0]),
            moments=moments,
            ranges=ranges,
            n_calls=int(state.n_calls[0]),
            converged=end.converged,
            trouble=trouble,
            wall_s=float(state.wall_s[0]),
        )

    def _moments(
        self, final: Atoms, found: Evaluated
    ) -> tuple[NDArray[np.float64] | None, MomentRanges | None]:
        if self._reader is not None:
            return np.asarray(self._reader.read(final), dtype=np.float64), self._reader.ranges
        return None if found.moments is None else _array(found.moments), self._ranges


def _check_finite(found: Evaluated, name: str) -> None:
    """Raise where the potential gave nonsense, in the words of the calculator."""
    parts = {
        "energy": found.energies,
        "forces": found.forces,
        "stress": found.stresses,
        "moments": found.moments,
    }
    for what, tensor in parts.items():
        if tensor is not None and not bool(tensor.isfinite().all()):
            raise BadResultError(name, f"{what} that are not finite numbers")


def _array(tensor: torch.Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.detach().numpy().astype(np.float64)
    return array
