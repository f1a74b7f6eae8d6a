"""Structures that the user gives: their working-ion order, and their charge order if any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms

from gasearch.analysis.cluster_expansion import stand_ins
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.structures import HostStructure, read_structures
from gasearch.errors import DecorationError, GasearchError
from gasearch.search.seeds.charge_orders import lowest_charge_order, n_charge_orders
from gasearch.search.seeds.placing import Placement, place
from gasearch.search.seeds.seed import BY_COULOMB, THE_ONLY_ONE, Seed, SeedError
from gasearch.search.seeds.told import told_order


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
    atoms, renamed = _own_elements(host, structure)
    placement = place(host, atoms)
    told = told_order(host, _choices(host, placement), placement)
    if all(len(own) == 1 for own in told.choices):
        occupation = np.array([own[0] for own in told.choices], dtype=np.uint8)
        note = told.note
    else:
        occupation = lowest_charge_order(host, told.choices)
        is_choice = not told.note.startswith(BY_COULOMB) or n_charge_orders(host, told.choices) > 1
        note = told.note if is_choice else THE_ONLY_ONE
    decoration = Decoration(host, occupation)
    mapping = placement.mapping
    shifts = mapping.largest_shift, mapping.mean_shift
    return Seed(decoration.occupation.tobytes(), origin, *shifts, f"{note}{renamed}")


def _own_elements(host: Host, structure: HostStructure) -> tuple[Atoms, str]:
    """Return the atoms with oxidation states and moments as arrays, and which ones were renamed.

    Elements that stand for a species, as in exports for icet and in models of others (Ga for
    Fe3+), become that species; the element itself is then its lowest state.
    """
    atoms, n = structure.atoms.copy(), len(structure.atoms)
    charges = np.full(n, np.nan) if structure.charges is None else structure.charges.copy()
    moments = np.full(n, np.nan) if structure.moments is None else structure.moments
    names = stand_ins(host)
    present = {s: name for s, name in names.items() if name in atoms.symbols and s.element != name}
    present = {s: name for s, name in present.items() if not s.is_vacancy}
    for species in names:
        if species.element in {s.element for s in present} and names[species] == species.element:
            charges[np.flatnonzero(atoms.symbols == species.element)] = species.charge
    for species, name in present.items():
        here = np.flatnonzero(atoms.symbols == name)
        charges[here] = species.charge
        atoms.symbols[here] = species.element
    atoms.set_array("oxidation", charges)
    atoms.set_array("moment", moments)
    renamed = ", ".join(f"{name} read as {species}" for species, name in present.items())
    return atoms, f" ({renamed})" if renamed else ""


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
    return choices
