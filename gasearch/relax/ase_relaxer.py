"""The reference relaxer: one structure at a time through ASE, with every guard.

Slow and plain. Batched relaxers are tested against it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.species import MomentRanges
from gasearch.potentials.calculator import PotentialCalculator
from gasearch.potentials.contract import Potential
from gasearch.relax.audit import fusion, volume_change
from gasearch.relax.conclusion import (
    End,
    LeftHandedCellError,
    MomentReader,
    conclude,
    explosion,
    largest,
    told,
)
from gasearch.relax.optimizer import make_optimizer
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

_FUSED_EVERY = 10  # calls; the audit looks at the end in any case


class ReferenceRelaxer:
    """Relaxes positions and cell with ASE's cell-aware BFGS.

    Parameters
    ----------
    potential
        What gives energies, forces and stresses.
    settings
        When to stop.
    reader
        Reads moments off the relaxed structures; without one the potential's own count, judged by
        its `moment_ranges` where it has that attribute.
    """

    def __init__(
        self,
        potential: Potential,
        settings: RelaxSettings | None = None,
        reader: MomentReader | None = None,
    ) -> None:
        self.potential = potential
        self.settings = settings or RelaxSettings()
        self.reader = reader

    def relax(self, candidates: Iterable[tuple[int, Atoms]]) -> Iterator[tuple[int, Relaxed]]:
        """Yield each candidate's number with its relaxed structure, in the order of arrival."""
        for number, atoms in candidates:
            yield number, self.relax_one(atoms)

    def relax_one(self, atoms: Atoms) -> Relaxed:
        """Return the relaxed structure; whatever goes wrong becomes its verdict."""
        began = time.perf_counter()
        calculator = PotentialCalculator(self.potential)
        try:
            found = self._relax(atoms, calculator)
        except Exception as error:  # noqa: BLE001 -- one bad structure costs only itself
            found = Relaxed.failed(atoms, told(error))
        return replace(found, n_calls=calculator.n_calls, wall_s=time.perf_counter() - began)

    def _relax(self, start: Atoms, calculator: PotentialCalculator) -> Relaxed:
        if start.cell.handedness != 1:
            raise LeftHandedCellError(str(start.symbols))
        work = start.copy()
        work.calc = calculator
        converged, trouble = self._descend(start, work)
        final = work.copy()
        moments, ranges = self._moments(final, calculator)
        end = End(
            atoms=final,
            energy=float(work.get_potential_energy()),
            forces=work.get_forces(),
            stress=work.get_stress(voigt=False),
            moments=moments,
            ranges=ranges,
            n_calls=calculator.n_calls,
            converged=converged,
            trouble=trouble,
        )
        return conclude(start, end, self.settings)

    def _descend(self, start: Atoms, work: Atoms) -> tuple[bool, str]:
        """Relax `work` in place; return whether it converged, and why it was given up."""
        settings = self.settings
        optimizer = make_optimizer(work, settings)
        for converged in optimizer.irun(fmax=settings.fmax, steps=settings.max_calls - 1):
            trouble = self._trouble(start, work, optimizer.nsteps)
            if trouble or converged:
                return bool(converged), trouble
        return False, ""

    def _trouble(self, start: Atoms, work: Atoms, step: int) -> str:
        """Return why it is no use to go on, or ""."""
        exploded = explosion(largest(work.get_forces()), self.settings)
        fused = "" if step % _FUSED_EVERY else fusion(work)
        return exploded or volume_change(start, work) or fused

    def _moments(
        self, final: Atoms, calculator: PotentialCalculator
    ) -> tuple[NDArray[np.float64] | None, MomentRanges | None]:
        if self.reader is not None:
            return np.asarray(self.reader.read(final), dtype=np.float64), self.reader.ranges
        ranges = getattr(self.potential, "moment_ranges", None)
        return calculator.results.get("magmoms"), ranges
