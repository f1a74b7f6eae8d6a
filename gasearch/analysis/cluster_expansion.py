"""Decorations with their energies, for programs that fit cluster expansions: smol and icet.

Both get the undistorted sites of the host, onto which any decoration maps without doubt, with the
energy of the relaxed structure.

smol: a JSON list of pymatgen's ComputedStructureEntry, species with oxidation states, vacant sites
left out. icet: ASE structures with all sites, vacancies as X, and each further oxidation state of
an element as an element of its own (Fe3+ as Ga), for icet knows species by their symbols alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import ase.db
import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from numpy.typing import NDArray

from gasearch.analysis.findings import Findings, Ranked
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.species import Species, species_of
from gasearch.errors import GasearchError, UsageError
from gasearch.files import name_from

_STAND_INS: Mapping[int, tuple[str, ...]] = {
    2: ("Zn", "Mg", "Ca", "Sr", "Ba"),
    3: ("Ga", "Al", "Sc", "In", "Y"),
    4: ("Ge", "Sn", "Zr", "Hf", "Ti"),
}
"""Elements that stand for a further oxidation state of another one; Ga for Fe3+ is the field's."""
_FORMATS: Mapping[str, tuple[str, ...]] = {"smol": (".json",), "icet": (".extxyz", ".xyz", ".db")}
CODES = tuple(_FORMATS)


class NoPymatgenError(GasearchError, RuntimeError):
    """An export for smol without the package whose objects it consists of."""

    def __str__(self) -> str:
        return "no pymatgen here; try: pip install 'gasearch[report]'"


class NoStandInError(GasearchError, LookupError):
    """More oxidation states than there are elements to write them as."""

    def __init__(self, species: Species) -> None:
        super().__init__(species)
        self.species = species

    def __str__(self) -> str:
        return f"{self.species}: no element is left to write it as, for icet."


def decorated(findings: Findings, rows: Sequence[Ranked]) -> Iterator[tuple[Ranked, Decoration]]:
    """Yield candidates with their decorations, in the setting of their relaxed structures."""
    for row in rows:
        yield row, Decoration.from_fingerprint(findings.host, row.fingerprint)


def check_name(code: str, output: Path) -> None:
    """Refuse a file that is not in the format of a code."""
    endings = _FORMATS[code]
    if output.suffix.lower() not in endings:
        raise UsageError(f"--output {output}: for {code}, a name that ends in {_or(endings)}.")


def _or(endings: Sequence[str]) -> str:
    return endings[0] if len(endings) == 1 else f"{', '.join(endings[:-1])} or {endings[-1]}"


def write(code: str, findings: Findings, rows: Sequence[Ranked], path: Path) -> None:
    """Write decorations with energies to one file, as a code reads them."""
    _WRITERS[code](findings, rows, path)


def _write_smol(findings: Findings, rows: Sequence[Ranked], path: Path) -> None:
    entries = [_entry(decoration, row, findings) for row, decoration in decorated(findings, rows)]
    path.write_text(json.dumps(entries, allow_nan=False) + "\n", encoding="utf-8")


def _entry(decoration: Decoration, row: Ranked, findings: Findings) -> object:
    try:
        from pymatgen.core.structure import Structure
        from pymatgen.entries.computed_entries import ComputedStructureEntry
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pymatgen":
            raise
        raise NoPymatgenError from error
    atoms = decoration.to_atoms()
    species = [str(one) for one in species_of(atoms)]
    structure = Structure(atoms.cell.array, species, atoms.get_scaled_positions())
    entry = ComputedStructureEntry(
        structure,
        row.energy_eV,
        data=_known(row, findings),
        entry_id=name_from(f"{row.formula}_{row.id:06d}"),
    )
    return entry.as_dict()


def _known(row: Ranked, findings: Findings) -> dict[str, str | int | float]:
    known: dict[str, str | int | float | None] = {
        "candidate": row.id,
        "x": row.x,
        "orbit_size": row.orbit_size,
        "level": findings.level.name,
        "n_formula_units": findings.run.n_formula_units,
        "formation_energy_per_fu": row.formation_energy_eV_per_fu,
    }
    return {name: value for name, value in known.items() if value is not None}


def stand_ins(host: Host) -> dict[Species, str]:
    """Return the symbol of each species of the sublattices: its own element where that is free.

    The lowest oxidation state keeps the element; a vacancy is X.
    """
    species = {one for sublattice in host.sublattices for one in sublattice.species}
    species |= set(host.framework)
    taken = {one.element for one in species if not one.is_vacancy}
    found: dict[Species, str] = {}
    used: set[str] = set()
    for one in sorted(species, key=lambda s: (s.element, s.charge)):
        if one.is_vacancy:
            found[one] = "X"
        elif one.element not in used:
            used.add(one.element)
            found[one] = one.element
        else:
            found[one] = _stand_in(one, taken)
            taken.add(found[one])
    return found


def _stand_in(species: Species, taken: set[str]) -> str:
    own = _STAND_INS.get(species.charge, ())
    others = (e for group in _STAND_INS.values() for e in group)
    for element in (*own, *others):
        if element not in taken:
            return element
    raise NoStandInError(species)


def on_all_sites(decoration: Decoration) -> Atoms:
    """Return the host's sites, all of them, with a symbol of its own for each species."""
    host = decoration.host
    symbols = stand_ins(host)
    numbers = np.zeros(len(host.atoms), dtype=int)
    for sites, species in (
        (host.framework_sites, host.framework),
        (host.sites, decoration.species()),
    ):
        numbers[sites] = [atomic_numbers[symbols[one]] for one in species]
    return Atoms(numbers, scaled_positions=_places(host), cell=host.atoms.cell.array, pbc=True)


def _places(host: Host) -> NDArray[np.float64]:
    return np.asarray(host.atoms.get_scaled_positions())


def _write_icet(findings: Findings, rows: Sequence[Ranked], path: Path) -> None:
    symbols = {symbol: species for species, symbol in stand_ins(findings.host).items()}
    meaning = " ".join(f"{symbol}={species}" for symbol, species in sorted(symbols.items()))
    found = []
    for row, decoration in decorated(findings, rows):
        atoms = on_all_sites(decoration)
        atoms.calc = SinglePointCalculator(atoms, energy=row.energy_eV)
        energy = {"energy_per_fu": row.energy_eV / findings.run.n_formula_units}
        atoms.info.update(_known(row, findings) | energy | {"stands_for": meaning})
        found.append(atoms)
    if path.suffix.lower() == ".db":
        with ase.db.connect(path, type="db", use_lock_file=False) as database:
            for atoms in found:
                database.write(atoms, key_value_pairs=atoms.info)
    else:
        ase.io.write(path, found, format="extxyz")


_WRITERS: Mapping[str, Callable[[Findings, Sequence[Ranked], Path], None]] = {
    "smol": _write_smol,
    "icet": _write_icet,
}
