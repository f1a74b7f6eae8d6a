"""Decorated crystals that several tests evaluate."""

import functools

import numpy as np
from ase import Atoms

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.testing import toy_host


@functools.cache
def built(host: str = "nafepo4-olivine", supercell: tuple[int, int, int] = (1, 1, 1)) -> Host:
    return Host.build(builtin_host(host), supercell)


def olivine(
    x: float = 0.5,
    seed: int = 0,
    rattle: float = 0.0,
    supercell: tuple[int, int, int] = (1, 1, 1),
    host: str = "nafepo4-olivine",
) -> Atoms:
    """Return a random decoration; positions are displaced by numbers of the same stream."""
    chosen = built(host, supercell)
    rng = np.random.default_rng(seed)
    atoms = Decoration.random(chosen, chosen.composition_at(x), rng).to_atoms()
    if rattle:
        atoms.positions += rng.normal(0, rattle, atoms.positions.shape)
    return atoms


rattled = functools.partial(olivine, rattle=0.05)


def perovskites() -> list[Atoms]:
    """Return two decorations of a host of ten sites, the second twice as large."""
    host = toy_host(supercell=(2, 1, 1))
    rng = np.random.default_rng(0)
    made = [Decoration.random(host, host.compositions[1], rng).to_atoms() for _ in range(2)]
    return [made[0], made[1].repeat((1, 1, 2))]


def with_gallium(atoms: Atoms) -> Atoms:
    """Return the crystal with Ga in the place of Fe3+, as other packages want it."""
    copy: Atoms = atoms.copy()
    copy.symbols[(atoms.numbers == 26) & (atoms.get_initial_charges() == 3)] = "Ga"
    return copy
