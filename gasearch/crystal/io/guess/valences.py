"""Oxidation states of elements in cathodes, and in which order electrons leave them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ase import Atoms
from ase.neighborlist import neighbor_list

from gasearch.crystal.species import Species
from gasearch.errors import GasearchError

ALKALI: Mapping[str, int] = {"Li": 1, "Na": 1, "K": 1, "Rb": 1, "Cs": 1}
OTHER_WORKING_IONS: Mapping[str, int] = {"Mg": 2, "Ca": 2, "Zn": 2}
COUPLES: Mapping[str, Mapping[int, float]] = {
    "Ti": {3: 1.0}, "V": {2: 1.6, 3: 3.35, 4: 4.0}, "Cr": {2: 1.1, 3: 4.4},
    "Mn": {2: 3.4, 3: 3.6}, "Fe": {2: 2.9, 3: 4.3}, "Co": {2: 3.7, 3: 4.2},
    "Ni": {2: 3.8, 3: 4.1}, "Cu": {1: 3.2, 2: 4.5}, "Nb": {3: 0.8, 4: 1.2},
    "Mo": {2: 0.9, 3: 1.5, 4: 2.0, 5: 2.4}, "Ru": {3: 3.0, 4: 3.9, 5: 4.35},
    "W": {4: 1.5, 5: 2.0}, "Ir": {3: 3.0, 4: 3.9, 5: 4.25}, "Ce": {3: 3.3}, "Pr": {3: 4.05},
    "Tb": {3: 4.15}, "Eu": {2: 2.0},
}  # fmt: skip
"""Rough potentials in V at which an ion of this state loses one electron; their order counts."""
_SEVERAL = {"V": 2, "Mn": 2, "Ni": 2, "Nb": 2, "Mo": 3, "Ru": 2, "W": 2, "Ir": 2}
"""Couples that one host can run through; all others have one (Fe2+/Fe3+ or Fe3+/Fe4+)."""
IONS: Mapping[str, int] = {
    "H": 1, "Be": 2, "B": 3, "O": -2, "F": -1, "Al": 3, "Si": 4, "P": 5, "Cl": -1, "Sc": 3,
    "Ga": 3, "Ge": 4, "As": 5, "Br": -1, "Sr": 2, "Y": 3, "Zr": 4, "In": 3, "Sn": 4, "Sb": 5,
    "I": -1, "Ba": 2, "La": 3, "Nd": 3, "Sm": 3, "Gd": 3, "Lu": 3, "Hf": 4, "Ta": 5,
    **ALKALI, **OTHER_WORKING_IONS,
}  # fmt: skip
_BONDED = (  # element, partner, longest bond in Å, charge (0: ambiguous)
    ("C", "C", 1.70, 0), ("C", "N", 1.30, 2), ("C", "O", 1.45, 4), ("N", "C", 1.30, -3),
    ("N", "O", 1.45, 5), ("S", "S", 2.20, 0), ("S", "O", 1.80, 6), ("Se", "O", 1.95, 6),
)  # fmt: skip
_UNBONDED: Mapping[str, int] = {"N": -3, "S": -2, "Se": -2}
_NEAR = 0.25  # e; of an ion's mean state from a whole one that rounded occupancies leave
ROUNDED = 0.02
"""Electrons per ion that rounded occupancies may leave over."""


class AmbiguousChargeError(GasearchError, ValueError):
    """An element whose charge does not follow from its surroundings."""


def ion_charge(atoms: Atoms, element: str) -> int:
    """Return the charge in e that an element has in all crystals like this one."""
    for name, partner, longest, charge in _BONDED:
        if name == element and _is_bonded(atoms, element, partner, longest):
            if charge:
                return charge
            raise AmbiguousChargeError(f"{element} is bonded to {partner}: its charge is ambiguous")
    known = {**IONS, **_UNBONDED}
    if element not in known:
        raise AmbiguousChargeError(f"the charge of {element} is ambiguous")
    return known[element]


def usual_species(element: str) -> list[Species]:
    """Return what an element often is, lowest state first, for a user to choose from."""
    if element in COUPLES:
        couples = COUPLES[element]
        return [Species(element, state) for state in range(min(couples), max(couples) + 2)]
    known = {**_UNBONDED, **IONS}
    states = [known[element]] if element in known else [2, 3]
    return [Species(element, state) for state in states]


def _is_bonded(atoms: Atoms, element: str, partner: str, longest: float) -> bool:
    if partner not in atoms.symbols:
        return False
    return len(neighbor_list("i", atoms, {(element, partner): longest})) > 0


@dataclass(frozen=True)
class RedoxIon:
    """An element on sites of one kind, whose charge may change.

    Parameters
    ----------
    element
        One of `COUPLES`.
    amount
        Its atoms in the cell.
    stated
        Its mean oxidation state as the file has it; None if it has none.
    spin
        "ls" where its surroundings make it low-spin, else "".
    """

    element: str
    amount: float
    stated: float | None = None
    spin: str = ""

    @property
    def lowest(self) -> int:
        """Lowest state that it has in cathodes."""
        return min(COUPLES[self.element])

    @property
    def highest(self) -> int:
        """Highest state that it has in cathodes."""
        return max(COUPLES[self.element]) + 1


@dataclass(frozen=True)
class Window:
    """The oxidation states that one ion goes through.

    Parameters
    ----------
    state
        Mean, at the composition of the file.
    low, high
        Lowest and highest.
    """

    state: float
    low: int
    high: int

    @property
    def states(self) -> range:
        """All from the lowest to the highest."""
        return range(self.low, self.high + 1)


def states_at(ions: Sequence[RedoxIon], charge: float) -> list[float]:
    """Return the mean states of ions that together have a charge, as near to it as can be.

    Electrons leave in the order of their potentials. States that a file has are kept; those that
    are missing follow.
    """
    states = [float(ion.lowest if ion.stated is None else ion.stated) for ion in ions]
    free = [n for n, ion in enumerate(ions) if ion.stated is None]
    left = charge - sum(ion.amount * state for ion, state in zip(ions, states, strict=True))
    couples = sorted(
        (potential, n, state) for n in free for state, potential in COUPLES[ions[n].element].items()
    )
    for _, n, _ in couples:
        if left <= 0:
            break
        taken = min(left, ions[n].amount)
        states[n] += taken / ions[n].amount
        left -= taken
    return states


def windows(
    ions: Sequence[RedoxIon], states: Sequence[float], reduced: float, oxidised: float
) -> list[Window]:
    """Return the states that ions go through from those at the file's composition.

    Parameters
    ----------
    states
        Mean state of each ion at the file's composition.
    reduced, oxidised
        Electrons that they shall take up, and give off, if they can.
    """
    total = sum(ion.amount for ion in ions)
    found = [
        _start(state, min(_NEAR, ROUNDED * total / ion.amount))
        for ion, state in zip(ions, states, strict=True)
    ]
    for wanted, step in ((reduced, -1), (oxidised, +1)):
        while _reach(ions, found, step) < wanted - ROUNDED * max(1.0, wanted):
            steps = [
                (step * COUPLES[ion.element][_couple(own, step)], n)
                for n, (ion, own) in enumerate(zip(ions, found, strict=True))
                if _may(ion, own, step)
            ]
            if not steps:
                break
            _, n = min(steps)
            own = found[n]
            low, high = (own.low - 1, own.high) if step < 0 else (own.low, own.high + 1)
            found[n] = Window(own.state, low, high)
    return found


def _start(state: float, near: float) -> Window:
    """Return the states on both sides of a mean one; those that it is near to mean it alone."""
    return Window(state, math.floor(state + near), math.ceil(state - near))


def _reach(ions: Sequence[RedoxIon], found: Sequence[Window], step: int) -> float:
    """Return the electrons that ions can take up (step -1) or give off (+1)."""
    return sum(
        ion.amount * ((own.state - own.low) if step < 0 else (own.high - own.state))
        for ion, own in zip(ions, found, strict=True)
    )


def _couple(own: Window, step: int) -> int:
    return own.low - 1 if step < 0 else own.high


def _may(ion: RedoxIon, own: Window, step: int) -> bool:
    is_wide = own.high - own.low >= _SEVERAL.get(ion.element, 1)
    return not is_wide and _couple(own, step) in COUPLES[ion.element]
