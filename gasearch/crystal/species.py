"""Species, their charges and high-spin moments. What sits where belongs to `host`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ase.data import atomic_numbers

from gasearch.errors import GasearchError, UsageError

_SPECIES = re.compile(r"([A-Z][a-z]?)(\d*)([+-])")
_TRANSITION_ROWS = (range(21, 31), range(39, 49), range(72, 81))
_NOBLE_CORES = (18, 36, 68)  # the last one counts the filled 4f shell too


class UnknownSpeciesError(UsageError):
    """A text that does not name a species."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return (
            f"{self.text!r} is not a species: write the element and its charge, "
            "as in 'Na+', 'Fe3+' or 'O2-', or 'vacancy'."
        )


class NotNeutralError(GasearchError, ValueError):
    """A decoration whose charges do not cancel."""

    def __init__(self, charge: int, formula: str, advice: str = "") -> None:
        super().__init__(charge, formula, advice)
        self.charge = charge
        self.formula = formula
        self.advice = advice

    def __str__(self) -> str:
        advice = self.advice or "each vacant working-ion site needs an oxidised redox site"
        return f"{self.formula} has charge {self.charge:+d}, not 0: {advice}."


@dataclass(frozen=True, order=True)
class Species:
    """An element in an oxidation state; `VACANCY` has no element and charge 0.

    Parameters
    ----------
    element
        Chemical symbol, or "" for the vacancy.
    charge
        Oxidation state, in e.
    """

    element: str
    charge: int

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, text: str) -> Species:
        """Return the species that is written 'Na+', 'Fe3+', 'O2-' or 'vacancy'."""
        if text == "vacancy":
            return VACANCY
        match = _SPECIES.fullmatch(text)
        if match is None or match[1] not in atomic_numbers or match[1] == "X":
            raise UnknownSpeciesError(text)
        charge = int(match[2] or 1) * (1 if match[3] == "+" else -1)
        if not -4 <= charge <= 8 or charge == 0:
            raise UnknownSpeciesError(text)
        return cls(match[1], charge)

    def __str__(self) -> str:
        if self.is_vacancy:
            return "vacancy"
        size = "" if abs(self.charge) == 1 else str(abs(self.charge))
        return f"{self.element}{size}{'+' if self.charge > 0 else '-'}"

    @property
    def is_vacancy(self) -> bool:
        """Whether nothing is there."""
        return not self.element

    @property
    def number(self) -> int:
        """Atomic number; 0 for the vacancy."""
        return int(atomic_numbers[self.element]) if self.element else 0

    @property
    def moment(self) -> float:
        """High-spin magnetic moment, in Bohr magnetons: Fe2+ 4, Fe3+ 5; 0 outside the d block."""
        for row, core in zip(_TRANSITION_ROWS, _NOBLE_CORES, strict=True):
            if self.number in row:
                d_electrons = self.number - core - self.charge
                return float(max(0, min(d_electrons, 10 - d_electrons)))
        return 0.0


VACANCY = Species("", 0)


def formula(elements: Iterable[str]) -> str:
    """Return a formula such as 'Na3Fe4P4O16': elements in order of first appearance, '' skipped."""
    counts: dict[str, int] = {}
    for element in elements:
        if element:
            counts[element] = counts.get(element, 0) + 1
    return "".join(f"{element}{n if n > 1 else ''}" for element, n in counts.items())


MomentRanges = Mapping[Species, tuple[float, float]]
"""Lowest and highest moment (Bohr magnetons, absolute) that a reader gives a species.

They belong to the reader: Fe2+ reads 3.7 in a PAW sphere of GPAW and 3.9 from CHGNet.
"""
