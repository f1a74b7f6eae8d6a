"""Oxidation states of a frame: read as they are, from surrogate elements, or from its moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.moments import MOMENT_RANGES, without_doubtful
from gasearch.crystal.species import MomentRanges, Species
from gasearch.errors import GasearchError, UsageError

Array = NDArray[np.float64]
Source = Literal["auto", "charges", "moments", "surrogates"]
Ranges = Mapping[str, tuple[float, float]]

FIXED: Mapping[str, int] = {
    "H": 1, "Li": 1, "B": 3, "O": -2, "F": -1, "Na": 1, "Mg": 2, "Al": 3, "Si": 4, "P": 5, "S": 6,
    "Cl": -1, "K": 1, "Ca": 2, "Zn": 2, "Rb": 1, "Cs": 1,
}  # fmt: skip
"""Oxidation states of the elements that have one in polyanionic cathodes."""


class UnlabelledError(GasearchError, ValueError):
    """A frame whose oxidation states cannot be told; its text is the reason to count it under."""


class UnknownReaderError(UsageError):
    """A name of a code without moment ranges."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        known = ", ".join(sorted(MOMENT_RANGES))
        return f"no moment ranges for the code {self.code!r}; there are {known}."


@dataclass(frozen=True)
class Labelling:
    """How frames get their oxidation states.

    Parameters
    ----------
    source
        "charges": from `initial_charges`; "surrogates": from elements that stand for a species;
        "moments": by the ranges of a code. "auto" takes the first of these that a frame offers.
    code
        Whose moments they are: a name in `gasearch.crystal.moments.MOMENT_RANGES`.
    ranges
        Lowest and highest moment of a species, in addition to or in place of the code's.
    surrogates
        Elements that stand for a species: the field writes Fe3+ as Ga.
    fixed
        Oxidation states in addition to, or in place of, `FIXED`.
    """

    source: Source = "auto"
    code: str = "vasp"
    ranges: Ranges = field(default_factory=dict)
    surrogates: Mapping[str, str] = field(default_factory=lambda: {"Ga": "Fe3+"})
    fixed: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.code not in MOMENT_RANGES:
            raise UnknownReaderError(self.code)
        for text in [*self.ranges, *self.surrogates.values()]:
            Species.parse(text)

    @property
    def moment_ranges(self) -> MomentRanges:
        """Of every species that moments can tell."""
        own = {Species.parse(text): limits for text, limits in self.ranges.items()}
        return {**without_doubtful(MOMENT_RANGES[self.code]), **own}

    def reduced(self) -> dict[str, int]:
        """Return what an element is where a surrogate stands for its other state: Fe is Fe2+."""
        found: dict[str, int] = {}
        for text in self.surrogates.values():
            species = Species.parse(text)
            found[species.element] = species.charge - 1
        return found


def label(
    atoms: Atoms, moments: Array | None, labelling: Labelling, has_surrogates: bool = False
) -> tuple[Atoms, NDArray[np.int64]]:
    """Return the crystal with its true elements, and its oxidation states (n_atoms,).

    Parameters
    ----------
    moments
        (n_atoms,) in Bohr magnetons; the sign does not count.
    has_surrogates
        Whether the file writes a species as another element, in this frame or in others.

    Raises
    ------
    UnlabelledError
        Where the states are ambiguous, unknown, or do not add up to zero.
    """
    if labelling.source == "charges" or (labelling.source == "auto" and is_formal(atoms)):
        if not is_formal(atoms):
            raise UnlabelledError("no formal charges")
        return atoms, _neutral(np.rint(atoms.get_initial_charges()).astype(np.int64))
    if labelling.source == "surrogates" or (labelling.source == "auto" and has_surrogates):
        return _from_surrogates(atoms, labelling)
    if moments is None:
        raise UnlabelledError("neither formal charges nor moments")
    return _from_moments(atoms, np.abs(moments), labelling)


def is_formal(atoms: Atoms) -> bool:
    """Whether the initial charges are oxidation states: whole numbers, not all zero."""
    charges = atoms.arrays.get("initial_charges")
    if charges is None or not np.any(charges):
        return False
    return bool(np.all(np.abs(charges - np.rint(charges)) < 1e-6))


def cations_positive(charges: Array, atoms: Atoms) -> Array:
    """Return partial charges with the sign of oxidation states, whichever they came with.

    Codes write the charge of an atom or the electrons that it gained; anions tell which.
    """
    anions = np.isin(atoms.symbols, [e for e, state in FIXED.items() if state < 0])
    known = charges[anions & np.isfinite(charges)]
    return -charges if len(known) and known.mean() > 0 else charges


def _from_surrogates(atoms: Atoms, labelling: Labelling) -> tuple[Atoms, NDArray[np.int64]]:
    true = {e: Species.parse(text) for e, text in labelling.surrogates.items()}
    states = {**FIXED, **labelling.reduced(), **labelling.fixed}
    states.update({e: species.charge for e, species in true.items()})
    unknown = sorted(set(atoms.symbols) - states.keys())
    if unknown:
        raise UnlabelledError(f"unknown oxidation state of {', '.join(unknown)}")
    copy: Atoms = atoms.copy()
    copy.symbols = [true[e].element if e in true else e for e in atoms.symbols]
    copy.set_initial_magnetic_moments(None)  # those of a surrogate tell no spin state
    return copy, _neutral(np.array([states[e] for e in atoms.symbols], dtype=np.int64))


def _from_moments(
    atoms: Atoms, moments: Array, labelling: Labelling
) -> tuple[Atoms, NDArray[np.int64]]:
    windows: dict[str, list[tuple[Species, float, float]]] = {}
    for species, (low, high) in labelling.moment_ranges.items():
        windows.setdefault(species.element, []).append((species, low, high))
    fixed = {**FIXED, **labelling.fixed}
    found = [
        _state(symbol, float(moment), windows, fixed)
        for symbol, moment in zip(atoms.symbols, moments, strict=True)
    ]
    copy: Atoms = atoms.copy()
    copy.set_initial_magnetic_moments([one.moment for one in found])
    return copy, _neutral(np.array([one.charge for one in found], dtype=np.int64))


def _state(
    symbol: str,
    moment: float,
    windows: Mapping[str, list[tuple[Species, float, float]]],
    fixed: Mapping[str, int],
) -> Species:
    if symbol not in windows:
        if symbol not in fixed:
            raise UnlabelledError(f"unknown oxidation state of {symbol}")
        return Species(symbol, fixed[symbol])
    inside = [species for species, low, high in windows[symbol] if low <= moment <= high]
    if len(inside) != 1:
        raise UnlabelledError(f"ambiguous moment of {symbol}")
    return inside[0]


def _neutral(charges: NDArray[np.int64]) -> NDArray[np.int64]:
    if charges.sum() != 0:
        raise UnlabelledError("not neutral")
    return charges
