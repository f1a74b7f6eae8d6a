"""Chemical formulas as chemists write them: LiFe0.5Mn0.5PO4, NaNi1/3Fe1/3Mn1/3O2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from ase.data import atomic_numbers
from ase.formula import Formula

_PART = re.compile(r"([A-Z][a-z]?)(\d+/\d+|\d+\.?\d*|\.\d+)?")
_DENOMINATORS = (3, 6, 7, 9, 11, 12)  # whose parts no few decimals can write
_ROUNDED = 0.004  # files write 1/3 as 0.33 or 0.333


def formula_counts(text: str) -> dict[str, float]:
    """Return how many of each element a formula holds; whole numbers may stand behind brackets.

    Raises
    ------
    ValueError
        For a text that is no formula.
    """
    parts = list(_PART.finditer(text.replace(" ", "")))
    if "".join(part[0] for part in parts) != text.replace(" ", "") or not parts:
        return {element: float(n) for element, n in Formula(text).count().items()}
    counts: dict[str, float] = {}
    for part in parts:
        if part[1] not in atomic_numbers or part[1] == "X":
            raise ValueError(f"{part[1]!r} in {text!r} is no element")
        counts[part[1]] = counts.get(part[1], 0.0) + float(Fraction(part[2] or 1))
    return counts


def formula_text(counts: Mapping[str, float]) -> str:
    """Return the formula of numbers of atoms, in their order; what is absent is left out."""
    return "".join(f"{e}{_number(n)}" for e, n in counts.items() if n > _ROUNDED)


def _number(n: float) -> str:
    if abs(n - round(n)) < _ROUNDED and round(n):
        return "" if round(n) == 1 else str(round(n))
    if abs(n * 20 - round(n * 20)) > 0.01 and n < 1:
        near = [Fraction(round(n * d), d) for d in _DENOMINATORS if round(n * d)]
        best = min(near, key=lambda f: (abs(float(f) - n) > _ROUNDED, f.denominator))
        if abs(float(best) - n) <= _ROUNDED:
            return str(best)
    return f"{n:.4g}"
