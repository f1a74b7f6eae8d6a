"""Species: element, oxidation state and spin state, the moments that follow, and formulas.

What sits where belongs to `host`; which moments mean which species to `moments`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal, cast, get_args

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.formula import Formula

from gasearch.errors import GasearchError, UsageError

Spin = Literal["", "ls", "is"]
"""Of an ion: high (as a rule), low or intermediate."""
SPINS: tuple[Spin, ...] = get_args(Spin)
LABEL_TOLERANCE = 0.05
"""Bohr magnetons within which an initial moment is the label of a spin state, not a guess."""

_PART = re.compile(r"([A-Z][a-z]?)(\d+/\d+|\d+\.?\d*|\.\d+)?")
_DENOMINATORS = (3, 6, 7, 9, 11, 12)  # whose parts no few decimals can write
_ROUNDED = 0.004  # files write 1/3 as 0.33 or 0.333
_SPECIES = re.compile(r"([A-Z][a-z]?)(?:(\d*)([+-]))?(?: (hs|ls|is))?")
_D_ROWS = ((range(21, 31), 18), (range(39, 49), 36), (range(72, 81), 68))  # and noble-gas cores
_F_ROWS = ((range(57, 72), 54), (range(89, 104), 86))
_NEUTRAL_D, _NEUTRAL_F = 2, 3  # outer electrons of a neutral atom, which leave before the shell's
_HOLE = ("O", -1)


class UnknownSpeciesError(UsageError):
    """A text that does not name a species."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return (
            f"{self.text!r} is not a species: write the element and its charge, "
            "as in 'Na+', 'Fe3+' or 'O2-', a low-spin ion as 'Fe2+ ls', a neutral atom as 'C', "
            "or 'vacancy'."
        )


class NoSuchSpinError(UsageError):
    """A spin state that an ion does not have."""

    def __init__(self, ion: str, spin: str) -> None:
        super().__init__(ion, spin)
        self.ion = ion
        self.spin = spin

    def __str__(self) -> str:
        who = "ls (low spin): ions with four to seven d electrons have one"
        if self.spin == "is":
            who = "is (intermediate spin): ions with five or six d electrons have one"
        elif self.spin != "ls":
            who = f"{self.spin!r}: write ls (low), is (intermediate) or nothing (high spin)"
        return f"{self.ion} has no spin state {who}."


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
        Oxidation state, in e; 0 for a neutral atom, written as the bare symbol.
    spin
        "" for high spin, "ls" for low, "is" for intermediate; the moment follows.

    Raises
    ------
    NoSuchSpinError
        For a spin state that the ion does not have.
    """

    element: str
    charge: int
    spin: Spin = ""

    def __post_init__(self) -> None:
        if self.spin and (self.spin not in SPINS or _moment(self) is None):
            raise NoSuchSpinError(str(Species(self.element, self.charge)), self.spin)

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, text: str) -> Species:
        """Return the species that is written 'Na+', 'Fe3+', 'Fe2+ ls', 'O2-', 'C' or 'vacancy'."""
        if text == "vacancy":
            return VACANCY
        match = _SPECIES.fullmatch(text)
        if match is None or match[1] not in atomic_numbers or match[1] == "X":
            raise UnknownSpeciesError(text)
        if match[3] is None:
            charge = 0
        else:
            charge = int(match[2] or 1) * (1 if match[3] == "+" else -1)
            if not -4 <= charge <= 8 or charge == 0:
                raise UnknownSpeciesError(text)
        spin = "" if match[4] in (None, "hs") else match[4]
        return cls(match[1], charge, cast(Spin, spin))

    @classmethod
    @lru_cache(maxsize=4096)
    def labelled(cls, element: str, charge: int, moment: float | None = None) -> Species:
        """Return the species of an atom by its labels.

        Parameters
        ----------
        moment
            Its initial moment in Bohr magnetons, of either sign; None where it has none. One that
            is exactly that of another spin state stands for that; any other tells nothing.
        """
        plain = cls(element, charge)
        if moment is not None and abs(abs(moment) - plain.moment) > LABEL_TOLERANCE:
            for other in plain.spin_states[1:]:
                if abs(abs(moment) - other.moment) <= LABEL_TOLERANCE:
                    return other
        return plain

    def __str__(self) -> str:
        if self.is_vacancy:
            return "vacancy"
        size = "" if abs(self.charge) <= 1 else str(abs(self.charge))
        sign = "" if not self.charge else "+" if self.charge > 0 else "-"
        return f"{self.element}{size}{sign}{' ' if self.spin else ''}{self.spin}"

    @property
    def is_vacancy(self) -> bool:
        """Whether nothing is there."""
        return not self.element

    @property
    def number(self) -> int:
        """Atomic number; 0 for the vacancy."""
        return int(atomic_numbers[self.element]) if self.element else 0

    @property
    def ion(self) -> Species:
        """The same element in the same oxidation state, high spin."""
        return Species(self.element, self.charge) if self.spin else self

    @property
    def spin_states(self) -> tuple[Species, ...]:
        """The ion in all spin states that it has, high spin first."""
        n = self.d_electrons if self.charge else 0
        others: tuple[Spin, ...] = ("ls", "is") if n in (5, 6) else ("ls",) if n in (4, 7) else ()
        return (self.ion, *(Species(self.element, self.charge, spin) for spin in others))

    @property
    def d_electrons(self) -> int:
        """Electrons in the d shell; 0 outside the d block. A neutral atom keeps two outside."""
        return _electrons(self, _D_ROWS, _NEUTRAL_D, 10)

    @property
    def f_electrons(self) -> int:
        """Electrons in an open f shell: 1 in Ce3+; 0 where there is none."""
        n = _electrons(self, _F_ROWS, _NEUTRAL_F, 14)
        return n if n < 14 else 0

    @property
    def moment(self) -> float:
        """Magnetic moment of the spin state, in Bohr magnetons; 0 outside the d and f blocks.

        High spin Fe2+ 4, Fe3+ 5; low spin, in an octahedron, Fe2+ 0, Co3+ 0, Ni3+ 1; Ce3+ 1; and 1
        of O-, which is O2- with a hole.
        """
        found = _moment(self)
        return 0.0 if found is None else found


def _electrons(
    species: Species, rows: tuple[tuple[range, int], ...], outside: int, most: int
) -> int:
    """Return the electrons in the shell that these rows of the periodic table fill."""
    for row, core in rows:
        if species.number in row:
            left = species.number - core - (species.charge or outside)
            return max(0, min(most, left))
    return 0


def _moment(species: Species) -> float | None:
    """Return the moment of a spin state; None where the ion does not have that state."""
    n = species.d_electrons
    high = float(min(n, 10 - n))
    low = float(abs(6 - n)) if 4 <= n <= 7 and species.charge else high
    if species.spin == "ls":
        return low if low < high else None
    if species.spin == "is":
        return high - 2 if low < high - 2 else None
    f = species.f_electrons
    is_hole = (species.element, species.charge) == _HOLE
    return float(is_hole) or high or float(min(f, 14 - f))


VACANCY = Species("", 0)


def species_of(atoms: Atoms) -> list[Species]:
    """Return the species of each atom, from its symbol and its labels.

    The oxidation state is the initial charge; the spin state is high, unless the initial magnetic
    moment is exactly that of another one.
    """
    charges = np.rint(atoms.get_initial_charges()).astype(int).tolist()
    moments = atoms.arrays.get("initial_magmoms")
    labels = [None] * len(atoms)
    if moments is not None and moments.ndim == 1:
        labels = moments.tolist()
    rows = zip(atoms.symbols, charges, labels, strict=True)
    return [Species.labelled(symbol, charge, moment) for symbol, charge, moment in rows]


def formula(elements: Iterable[str]) -> str:
    """Return a formula such as 'Na3Fe4P4O16': elements in order of first appearance, '' skipped."""
    counts: dict[str, int] = {}
    for element in elements:
        if element:
            counts[element] = counts.get(element, 0) + 1
    return "".join(f"{element}{n if n > 1 else ''}" for element, n in counts.items())


def formula_counts(text: str) -> dict[str, float]:
    """Return how many of each element a formula holds; whole numbers may stand behind brackets.

    Raises
    ------
    ValueError
        For a text that is no formula.
    """
    parts = list(_PART.finditer(text.replace(" ", "")))
    if not parts:
        raise ValueError(f"{text!r} is no formula")
    if "".join(part[0] for part in parts) != text.replace(" ", ""):
        return {element: float(n) for element, n in Formula(text).count().items()}
    counts: dict[str, float] = {}
    for part in parts:
        if part[1] not in atomic_numbers or part[1] == "X" or (part[2] or "").endswith("/0"):
            raise ValueError(f"{part[0]!r} in {text!r} is no number of an element")
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


MomentRanges = Mapping[Species, tuple[float, float]]
"""Lowest and highest moment (Bohr magnetons, absolute) that a reader gives a species.

They belong to the reader: Fe2+ reads 3.7 in a PAW sphere of GPAW and 3.9 from CHGNet.
"""
