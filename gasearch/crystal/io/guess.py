"""What a structure file suggests: working ion, redox elements, charges. For the user to correct."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from ase.neighborlist import neighbor_list

from gasearch.crystal.declaration import HostError, SublatticeDeclaration
from gasearch.crystal.io.structures import HostStructure, refuse_partial_framework
from gasearch.crystal.species import VACANCY, Species, formula

_ALKALI = {"Li": 1, "Na": 1, "K": 1, "Rb": 1, "Cs": 1}
_OTHER_WORKING_IONS = {"Mg": 2, "Ca": 2, "Zn": 2}
_REDOX_STATES = {  # lowest and highest oxidation state in cathodes
    "Ti": (2, 4), "V": (2, 5), "Cr": (2, 6), "Mn": (2, 4), "Fe": (2, 4), "Co": (2, 4),
    "Ni": (2, 4), "Cu": (1, 3), "Nb": (3, 5), "Mo": (2, 6), "Ru": (3, 6), "W": (4, 6),
    "Ir": (3, 6),
}  # fmt: skip
_IONS = {
    "H": 1, "Be": 2, "B": 3, "O": -2, "F": -1, "Mg": 2, "Al": 3, "Si": 4, "P": 5, "Cl": -1,
    "Ca": 2, "Sc": 3, "Zn": 2, "Ga": 3, "Ge": 4, "As": 5, "Br": -1, "Sr": 2, "Y": 3, "Zr": 4,
    "In": 3, "Sn": 4, "Sb": 5, "I": -1, "Ba": 2, "La": 3, "Lu": 3, "Hf": 4, "Ta": 5, **_ALKALI,
}  # fmt: skip
_BONDED = (  # element, partner, longest bond in Å, charge (0: ambiguous)
    ("C", "C", 1.70, 0), ("C", "N", 1.30, 2), ("C", "O", 1.45, 4), ("N", "C", 1.30, -3),
    ("N", "O", 1.45, 5), ("S", "S", 2.20, 0), ("S", "O", 1.80, 6), ("Se", "O", 1.95, 6),
)  # fmt: skip
_UNBONDED = {"N": -3, "S": -2, "Se": -2}


def guess(
    structure: HostStructure,
) -> tuple[tuple[SublatticeDeclaration, ...], dict[str, Species]]:
    """Return the sublattices and the framework's species that a structure suggests.

    The redox elements get the oxidation states that make the filled host neutral and those that
    the file's own vacancies need, the same for all of them; but Ti is 4+ beside others, and Mn 4+
    beside Ni where this is neutral.
    """
    working = _working_ion(structure)
    sites = [n for n, shares in enumerate(structure.shares) if working.element in shares]
    shared = [n for n in sites if structure.is_mixed(n)]
    if shared:
        _cannot_guess(structure, f"other elements share {structure.describe(shared)}")
    metals = [n for n, own in enumerate(structure.shares) if _REDOX_STATES.keys() & own.keys()]
    refuse_partial_framework(structure, [*sites, *metals])
    states = _oxidation_states(structure, working, sites)
    redox = {e for e, own in states.items() if len(own) > 1}
    mobile = [n for n, shares in enumerate(structure.shares) if redox.intersection(shares)]
    sublattices = [
        SublatticeDeclaration("working_ion", (working.element,), (working, VACANCY)),
        *_redox_sublattices(structure, mobile, states),
    ]
    rest = set(range(len(structure.atoms))).difference(sites, mobile)
    elements = dict.fromkeys(structure.atoms.symbols[n] for n in sorted(rest))
    return tuple(sublattices), {e: states[e][0] for e in elements}


def formula_unit_of(
    elements: Sequence[str], first: Sequence[int], framework: Mapping[str, Species]
) -> str:
    """Return the reduced formula: mobile elements, then cations and anions by their charge.

    Parameters
    ----------
    elements
        Of every site of the filled unit cell.
    first
        The sites of the sublattices, in the order that their elements shall have.
    """
    counts = Counter(elements)
    divisor = math.gcd(*counts.values())
    mobile = list(dict.fromkeys(elements[n] for n in first))
    charges = {e: s.charge for e, s in framework.items()}
    rest = [e for e in dict.fromkeys(elements) if e not in mobile]
    rest.sort(key=lambda e: (charges.get(e, 0) < 0, charges.get(e, 0)))
    return formula(e for e in [*mobile, *rest] for _ in range(counts[e] // divisor))


def _cannot_guess(structure: HostStructure, problem: str) -> NoReturn:
    raise HostError(
        f"{structure.path}: the sublattices cannot be guessed: {problem}. Declare them in "
        "run.toml: [[host.sublattice]] with kind, sites and species, and the charges of all other "
        "elements in [host.framework]."
    )


def _working_ion(structure: HostStructure) -> Species:
    present = dict.fromkeys(e for shares in structure.shares for e in shares)
    for table in (_ALKALI, _OTHER_WORKING_IONS):
        candidates = [e for e in present if e in table]
        if len(candidates) > 1:
            candidates = [e for e in candidates if _is_partial(structure, e)] or candidates
        if len(candidates) > 1:
            _cannot_guess(structure, f"{' or '.join(candidates)} may be the working ion")
        if candidates:
            return Species(candidates[0], table[candidates[0]])
    _cannot_guess(structure, "it holds no alkali, Mg, Ca or Zn that may be the working ion")


def _is_partial(structure: HostStructure, element: str) -> bool:
    return any(
        element in shares and not structure.is_full(n) for n, shares in enumerate(structure.shares)
    )


def _oxidation_states(
    structure: HostStructure, working: Species, working_sites: Sequence[int]
) -> dict[str, tuple[Species, ...]]:
    """Return the species of every element but the working ion; one unless it is redox-active."""
    amounts: dict[str, float] = {}
    for n in sorted(set(range(len(structure.atoms))).difference(working_sites)):
        for element, share in structure.shares[n].items():
            amounts[element] = amounts.get(element, 0.0) + share
    metals = [e for e in amounts if e in _REDOX_STATES]
    if not metals:
        _cannot_guess(structure, f"no redox element among {', '.join(amounts)}")
    charges = {e: _ion_charge(structure, e) for e in amounts if e not in metals}
    rest = working.charge * len(working_sites)
    total = rest + sum(charges[e] * amounts[e] for e in charges)
    filled = sum(structure.shares[n][working.element] for n in working_sites)
    vacant = working.charge * (len(working_sites) - filled)
    for fixed in _sensible(metals):
        common = _common_states(amounts, metals, fixed, total, vacant)
        if common is not None:
            single = charges | fixed
            return {
                e: tuple(Species(e, c) for c in ((single[e],) if e in single else common))
                for e in amounts
            }
    return _cannot_guess(
        structure,
        f"the filled host needs a mean charge of {-total / sum(amounts[e] for e in metals):+.2f} "
        f"on {', '.join(metals)}, which they do not have or cannot lose electrons from",
    )


def _ion_charge(structure: HostStructure, element: str) -> int:
    """Return the charge that an element of the framework has in all crystals like this one."""
    for name, partner, longest, charge in _BONDED:
        if name == element and _is_bonded(structure, element, partner, longest):
            if charge:
                return charge
            _cannot_guess(structure, f"{element} is bonded to {partner}: its charge is ambiguous")
    known = _IONS | _UNBONDED
    if element not in known:
        _cannot_guess(structure, f"the charge of {element} is ambiguous")
    return known[element]


def _is_bonded(structure: HostStructure, element: str, partner: str, longest: float) -> bool:
    if partner not in structure.atoms.symbols:
        return False
    return len(neighbor_list("i", structure.atoms, {(element, partner): longest})) > 0


def _sensible(metals: Sequence[str]) -> Iterable[dict[str, int]]:
    """Yield charges of metals that do not take part, the most plausible choice first."""
    titanium = {"Ti": 4} if "Ti" in metals and len(metals) > 1 else {}
    if "Ni" in metals and "Mn" in metals:
        yield titanium | {"Mn": 4}
    if titanium:
        yield titanium
    yield {}


def _common_states(
    amounts: Mapping[str, float],
    metals: Sequence[str],
    fixed: Mapping[str, int],
    rest: float,
    vacant: float,
) -> tuple[int, ...] | None:
    """Return the states (r, r + 1, ...) that all free metals can have.

    From r, which the filled host needs, to one beyond what the file's own vacancies need.

    Parameters
    ----------
    rest
        Charge of everything but the metals in the filled host, in e.
    vacant
        Charge of the working ions that the file lacks, in e.
    """
    free = [e for e in metals if e not in fixed]
    charge = rest + sum(amounts[e] * c for e, c in fixed.items())
    n_free = sum(amounts[e] for e in free)
    lowest = math.floor(-charge / n_free + 0.01)
    highest = math.floor((vacant - charge) / n_free + 0.01) + 1
    if any(not _REDOX_STATES[e][0] <= lowest < _REDOX_STATES[e][1] for e in free):
        return None
    return tuple(range(lowest, min(highest, *(_REDOX_STATES[e][1] for e in free)) + 1))


def _redox_sublattices(
    structure: HostStructure, sites: Sequence[int], states: Mapping[str, tuple[Species, ...]]
) -> Iterable[SublatticeDeclaration]:
    """Yield one declaration for full sites, and one for each set of elements that share sites."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for n in sites:
        elements = tuple(sorted(structure.shares[n])) if structure.is_mixed(n) else ()
        groups.setdefault(elements, []).append(n)
    for elements, own in sorted(groups.items()):
        held = elements or tuple(dict.fromkeys(structure.atoms.symbols[n] for n in own))
        yield SublatticeDeclaration(
            "redox",
            _named(structure, own),
            tuple(species for e in held for species in states[e]),
            "free" if elements else "fixed",
            structure.fractions(own) if elements else {},
        )


def _named(structure: HostStructure, sites: Sequence[int]) -> tuple[str | int, ...]:
    """Return the element symbols that mean just these sites, or else their indices."""
    names = dict.fromkeys(structure.atoms.symbols[n] for n in sites)
    meant = [n for n, shares in enumerate(structure.shares) if any(e in shares for e in names)]
    return tuple(names) if meant == list(sites) else tuple(sites)
