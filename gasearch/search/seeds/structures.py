"""Structures that the user gives: their working-ion order, and their charge order if any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.structures import HostStructure, read_structures
from gasearch.errors import DecorationError, GasearchError
from gasearch.search.seeds.charge_orders import lowest_charge_order, n_charge_orders
from gasearch.search.seeds.placing import Placement, place
from gasearch.search.seeds.seed import AS_IN_THE_FILE, BY_COULOMB, THE_ONLY_ONE, Seed, SeedError

_WHOLE = 0.05  # e; formal oxidation states are this near to whole numbers


def structure_seeds(host: Host, name: str, folder: Path) -> Iterator[Seed]:
    """Yield a seed for every structure in a file."""
    try:
        structures = read_structures(folder / name)
    except GasearchError as error:
        raise SeedError(f"seeds.structures: {error}") from error
    for n, structure in enumerate(structures):
        origin = name if len(structures) == 1 else f"{name}@{n}"
        try:
            yield _seed(host, structure, origin)
        except GasearchError as error:
            raise SeedError(f"seed {origin}: {error}") from error


def _seed(host: Host, structure: HostStructure, origin: str) -> Seed:
    _refuse_partial(structure)
    atoms = structure.atoms.copy()
    charges = structure.charges
    atoms.set_array("oxidation", np.full(len(atoms), np.nan) if charges is None else charges)
    placement = place(host, atoms)
    choices = _choices(host, placement)
    if all(len(own) == 1 for own in choices):
        occupation, note = np.array([own[0] for own in choices], dtype=np.uint8), AS_IN_THE_FILE
    else:
        occupation = lowest_charge_order(host, choices)
        note = BY_COULOMB if n_charge_orders(host, choices) > 1 else THE_ONLY_ONE
    decoration = Decoration(host, occupation)
    mapping = placement.mapping
    shifts = mapping.largest_shift, mapping.mean_shift
    return Seed(decoration.occupation.tobytes(), origin, *shifts, note)


def _refuse_partial(structure: HostStructure) -> None:
    partial = [n for n in range(len(structure.atoms)) if not structure.is_full(n)]
    if partial:
        raise SeedError(
            f"partially filled sites: {structure.describe(partial)}. A seed is one order: give a "
            "structure whose sites are full or absent."
        )


def _choices(host: Host, placement: Placement) -> list[list[int]]:
    """Return the digits that each sublattice site may hold by its atom and the atom's charge."""
    atoms, atom_at = placement.atoms, placement.mapping.atom_at
    charges = atoms.get_array("oxidation")
    choices = []
    for sublattice in host.sublattices:
        for site in sublattice.sites:
            atom = int(atom_at[site])
            element = atoms.symbols[atom] if atom >= 0 else ""
            own = [
                digit
                for digit, s in enumerate(sublattice.species)
                if (s.is_vacancy if atom < 0 else s.element == element and not s.is_vacancy)
            ]
            if not own:
                found = f"{element} (atom {atom})" if element else "no atom"
                raise DecorationError(
                    f"{found} on a site that holds {', '.join(map(str, sublattice.species))}: "
                    "check that the structure belongs to this host."
                )
            choices.append(own)
    return _by_charge(host, choices, atoms, atom_at[host.sites], charges)


def _by_charge(
    host: Host,
    choices: list[list[int]],
    atoms: Atoms,
    atom_at: NDArray[np.int64],
    charges: NDArray[np.float64],
) -> list[list[int]]:
    """Return the choices left by the charges of atoms that may have several.

    All are left where the charges define no order: none, or averages and partial charges.
    """
    several = [n for n, own in enumerate(choices) if len(own) > 1]
    given = charges[atom_at[several]]
    whole = np.abs(given - np.round(given)) <= _WHOLE  # False for NaN
    if not whole.all() or not np.round(given).any():
        return choices
    chosen = list(choices)
    for site, charge in zip(several, np.round(given).astype(int).tolist(), strict=True):
        chosen[site] = [d for d in choices[site] if host.charges[site, d] == charge]
        if not chosen[site]:
            known = sorted({int(host.charges[site, d]) for d in choices[site]})
            atom = int(atom_at[site])
            raise DecorationError(
                f"atom {atom} is {atoms.symbols[atom]} with charge {charge:+d}, expected "
                f"{' or '.join(f'{k:+d}' for k in known)}: set formal oxidation states, or take "
                "all charges out, and the order of lowest Coulomb energy is taken."
            )
    return chosen
