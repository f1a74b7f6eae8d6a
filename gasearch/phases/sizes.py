"""What the size of the Monte Carlo cell does: the same diagram, coarser, in a smaller cell."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gasearch.phases.diagram import PhaseDiagram, Transition
from gasearch.phases.energies.fitting import Fit
from gasearch.phases.study import Options


@dataclass(frozen=True)
class SizeDifference:
    """What a smaller cell gives at one composition.

    Parameters
    ----------
    difference, error
        Of its free energy from that of the large cell, in eV/f.u., with the standard deviation.
    is_two_phase
        Whether the composition is two phases: F of a cell there is that of no phase, and holds
        the boundaries that fit into it.
    """

    x: float
    difference: float
    error: float
    is_two_phase: bool


@dataclass(frozen=True, eq=False)
class SmallerCell:
    """The same in a cell about half as long: what its size does.

    Parameters
    ----------
    differences
        At a few compositions, at the temperature of the study.
    transitions
        Where orders go that this cell can hold too.
    """

    repeats: tuple[int, int, int]
    differences: tuple[SizeDifference, ...]
    transitions: tuple[Transition, ...]

    def worst(self, *, is_two_phase: bool) -> SizeDifference | None:
        """Return the largest difference of one phase, or of two; None where there is none."""
        own = [one for one in self.differences if one.is_two_phase == is_two_phase]
        return max(own, key=lambda one: abs(one.difference), default=None)

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "cell": list(self.repeats),
            "differences": [
                {
                    "x": one.x,
                    "difference_eV_per_fu": one.difference,
                    "error_eV_per_fu": one.error,
                    "is_two_phase": one.is_two_phase,
                }
                for one in self.differences
            ],
            "transitions": [asdict(one) for one in self.transitions],
        }


def halved(repeats: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return half the repeats where they are even; where none is, about half of each."""
    halves = [n // 2 if n % 2 == 0 and n > 2 else n for n in repeats]
    if tuple(halves) == repeats:
        halves = [(n + 1) // 2 if n > 2 else n for n in repeats]
    return halves[0], halves[1], halves[2]


def compared(
    large: PhaseDiagram, other: PhaseDiagram, repeats: tuple[int, int, int], options: Options
) -> SmallerCell:
    """Return what a diagram of a smaller cell, of so many repeats, says beside that of a large."""
    n, m = large.at(options.temperature_K), other.at(options.temperature_K)
    curve, found = large.curves[n], []
    for branch in other.branches[1:-1]:
        here = float(np.interp(branch.x, curve.fine, curve.curve()))
        error = float(np.hypot(np.interp(branch.x, curve.x, curve.error), branch.error[m]))
        inside = any(gap.x_from < branch.x < gap.x_to for gap in large.gaps[n])
        difference = float(branch.free_energy[m]) - here
        found.append(SizeDifference(branch.x, difference, error, inside))
    return SmallerCell(repeats, tuple(found), other.transitions)


def size_notes(smaller: SmallerCell | None, full: Fit) -> list[str]:
    """Return a line where the size of the cell matters more than the errors of the energies."""
    worst = None if smaller is None else smaller.worst(is_two_phase=False)
    if smaller is None or worst is None or abs(worst.difference) <= full.crystals.low_error:
        return []
    line = (
        f"note: a cell of {' x '.join(map(str, smaller.repeats))} differs by "
        f"{1000 * abs(worst.difference):.1f} meV/f.u. at x = {worst.x:.3g}, more than the "
        "Hamiltonian errs near the hull: take more --sweeps, or a larger --cell"
    )
    return [line]
