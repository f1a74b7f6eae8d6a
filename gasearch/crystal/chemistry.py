"""What a formula unit of a host holds at each x: equal for polymorphs of one material."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from ase.formula import Formula

from gasearch.crystal.host import Composition, Host

_LARGEST_CELL = 10_000  # formula units: fractions of larger denominators are rounding


@dataclass(frozen=True)
class Chemistry:
    """Composition of one formula unit as a function of x; equal for polymorphs of one chemistry.

    Parameters
    ----------
    working_element
        What moves as x changes; "" where nothing does.
    kept
        Atoms of the other elements, per formula unit, in alphabetic order.
    order
        All elements as formulas have them; counts for nothing in comparisons.
    at_zero, per_x
        The working element at x = 0, and what comes in until x = 1, per formula unit.
    """

    working_element: str
    kept: tuple[tuple[str, Fraction], ...]
    at_zero: Fraction
    per_x: Fraction
    order: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, host: Host) -> Chemistry:
        """Return that of a host, in whichever supercell."""
        element = host.working_element
        first, last = host.compositions[0], host.compositions[-1]
        counts = _per_unit(host, last)
        order = tuple(dict.fromkeys([*counts, element]))
        at_last = counts.pop(element, Fraction(0))
        per_x = Fraction(0)
        if last.x > first.x:
            gained = at_last - _per_unit(host, first).get(element, Fraction(0))
            per_x = _fraction(float(gained) / (last.x - first.x))
        elif last.x:  # one composition: all of the working element counts as x
            per_x = _fraction(float(at_last) / last.x)
        at_zero = at_last - per_x * _fraction(last.x)
        return cls(element, tuple(sorted(counts.items())), at_zero, per_x, order)

    def formula(self, x: float) -> str:
        """Return the formula of one formula unit at an x."""
        n_working = self.at_zero + self.per_x * _fraction(x)
        counts: Mapping[str, Fraction] = {self.working_element: n_working, **dict(self.kept)}
        return "".join(
            f"{element}{'' if counts[element] == 1 else f'{float(counts[element]):.4g}'}"
            for element in self.order
            if counts[element]
        )


def _per_unit(host: Host, composition: Composition) -> dict[str, Fraction]:
    counts = Formula(composition.formula).count()
    return {element: Fraction(n, host.n_formula_units) for element, n in counts.items()}


def _fraction(value: float) -> Fraction:
    return Fraction(value).limit_denominator(_LARGEST_CELL)
