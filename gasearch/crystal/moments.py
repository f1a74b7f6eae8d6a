"""Which magnetic moment means which oxidation state, by who reads it: a DFT code or a potential.

The ranges belong to the reader, for each takes moments in spheres of its own. Spin states that a
user declares, and species without a range here, are the business of `gasearch.dft.classify`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from gasearch.crystal.species import MomentRanges, Species

MOMENT_RANGES: Mapping[str, MomentRanges] = {
    reader: {Species.parse(species): own for species, own in ranges.items()}
    for reader, ranges in {
        "vasp": {"Fe2+": (3.2, 3.9), "Fe3+": (4.2, 4.8), "Mn2+": (4.4, 4.9), "Mn3+": (3.5, 4.1)},
        "gpaw": {"Fe2+": (3.2, 3.9), "Fe3+": (4.1, 4.7)},
        "chgnet": {"Fe2+": (3.5, 4.15), "Fe3+": (4.15, 4.8)},
    }.items()
}
"""Lowest and highest absolute moment, in Bohr magnetons, of PBE+U and of CHGNet 0.3.0.

VASP gives Fe2+ 3.76 to 3.79 and Fe3+ 4.33 to 4.35. GPAW: all 247 frames of `data/nafepo4-pbeu` lie
in 3.64 to 3.83 and 4.20 to 4.33. CHGNet reads 3.87 to 3.97 and 4.30 to 4.39 on geometries of DFT:
its ranges touch, so that a relaxed site is always one or the other.
"""
_DOUBTFUL = 0.07
_OCTAHEDRAL = 5  # neighbours; a pyramid counts as an octahedron
_REACH, _SHELL = 3.5, 1.3  # Å, and of the shortest bond
_NONMETALS = ("B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "As", "Se", "Br", "Te", "I")
_OFTEN_LOW_SPIN = ("Co3+", "Co4+", "Ni3+", "Ni4+")
_FIRST_ROW = range(21, 31)


def usual_spin(ion: Species, around: Sequence[str]) -> Species:
    """Return an ion in the spin state that it usually has between some neighbours.

    Low spin: between carbon, as in cyanides; in the 4d and 5d rows; and Co3+, Co4+, Ni3+ and Ni4+
    in octahedra, Co3+ between fluorine excepted. High spin: all others.

    Parameters
    ----------
    around
        Elements of the bonded non-metal atoms; none where they are not known.
    """
    high, *others = ion.spin_states
    if not others or not around:
        return high
    ligand, _ = Counter(around).most_common(1)[0]
    is_often = str(high) in _OFTEN_LOW_SPIN and (ligand, str(high)) != ("F", "Co3+")
    is_octahedral = len(around) >= _OCTAHEDRAL
    is_low = ligand == "C" or high.number not in _FIRST_ROW or (is_often and is_octahedral)
    return others[0] if is_low else high


def bonded_nonmetals(atoms: Atoms, sites: Sequence[int]) -> list[tuple[str, ...]]:
    """Return the elements of the non-metal atoms around each site, those in its own shell alone."""
    i, j, d = neighbor_list("ijd", atoms, _REACH)
    is_bond = np.isin(atoms.symbols[j], _NONMETALS) if len(j) else np.zeros(0, dtype=bool)
    found = []
    for site in sites:
        here = is_bond & (i == site)
        near = here & (d <= _SHELL * d[here].min(initial=np.inf))
        found.append(tuple(sorted(atoms.symbols[j[near]])))
    return found


def without_doubtful(ranges: MomentRanges) -> MomentRanges:
    """Return ranges of which no two of an element touch: 0.07 either side of an edge is left out.

    For labels that a model shall learn, where no label is better than a doubtful one.
    """
    found = dict(ranges)
    ordered = sorted(ranges, key=lambda one: ranges[one])
    for one, other in itertools.pairwise(ordered):
        if one.element == other.element and ranges[one][1] == ranges[other][0]:
            found[one] = (found[one][0], found[one][1] - _DOUBTFUL)
            found[other] = (found[other][0] + _DOUBTFUL, found[other][1])
    return found
