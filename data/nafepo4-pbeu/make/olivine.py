"""Olivine NaxFePO4: host cell, and its symmetry-distinct joint decorations of Na and Fe sites."""

import itertools

import numpy as np
from ase import Atoms
from ase.spacegroup import Spacegroup, crystal

CELL = np.array(
    [10.4063, 6.2187, 4.9469]
)  # triphylite, A; Moreau et al., Chem. Mater. 2010, 22, 4126
CELL_EMPTY = np.array([9.82, 5.79, 4.79])  # heterosite FePO4, A
OXIDATION = {"Na": 1, "Fe": 2, "P": 5, "O": -2}


def olivine(repeat=(1, 1, 1)):
    """Return NaFePO4 in Pnma, 28 atoms per cell."""
    atoms = crystal(
        ["Na", "Fe", "P", "O", "O", "O"],
        basis=[
            (0, 0, 0),
            (0.2870, 0.75, 0.9863),
            (0.1083, 0.75, 0.4426),
            (0.1140, 0.75, 0.7524),
            (0.4685, 0.75, 0.1611),
            (0.1755, 0.9446, 0.3118),
        ],
        spacegroup=62,
        cellpar=[*CELL, 90, 90, 90],
    )
    atoms = Atoms(
        atoms.symbols, scaled_positions=atoms.get_scaled_positions() % 1, cell=atoms.cell, pbc=True
    )
    return atoms.repeat(repeat)


def permutations(repeat=(1, 1, 1)):
    """Return the Na and Fe site indices and the host's symmetry as permutations of them."""
    atoms, n = olivine(repeat), np.array(repeat)
    fractional = atoms.get_scaled_positions() * n
    na, fe = ([a.index for a in atoms if a.symbol == s] for s in ("Na", "Fe"))

    def image(sites, rotation, shift):
        out = []
        for i in sites:
            d = (fractional[sites] - (rotation @ fractional[i] + shift)) / n
            d = (d - np.round(d)) * n
            out.append(int(np.argmin((d**2).sum(1))))
        return tuple(out)

    found = set()
    for rotation, translation in zip(*Spacegroup(62).get_op(), strict=True):
        for lattice in itertools.product(*map(range, repeat)):
            shift = translation + lattice
            found.add((image(na, rotation, shift), image(fe, rotation, shift)))
    return na, fe, sorted(found)


def distinct(repeat, n_vacant):
    """Return Na sites, Fe sites, and {(vacant Na, oxidised Fe): orbit size} for one composition."""
    na, fe, group = permutations(repeat)
    orbits = {}
    for v in itertools.combinations(range(len(na)), n_vacant):
        for f in itertools.combinations(range(len(fe)), n_vacant):
            key = min(
                (tuple(sorted(p[i] for i in v)), tuple(sorted(q[i] for i in f))) for p, q in group
            )
            orbits[key] = orbits.get(key, 0) + 1
    return na, fe, sorted(orbits.items())
