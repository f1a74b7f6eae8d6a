"""Structures out of a run, into files that other programs read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import ase.db
import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from gasearch.errors import UsageError
from gasearch.inspection import Ranked
from gasearch.relax.relaxed import Relaxed
from gasearch.store.population_store import PopulationStore

_FORMATS = {".extxyz": "extxyz", ".xyz": "extxyz", ".traj": "traj", ".json": "json", ".db": "db"}
_ONE_EACH = {"cif": (".cif", "cif"), "poscar": (".vasp", "vasp"), "extxyz": (".extxyz", "extxyz")}


def with_results(relaxed: Relaxed, row: Ranked) -> Atoms:
    """Return the structure with its results attached, and what is known of it in `info`."""
    atoms: Atoms = relaxed.atoms.copy()
    results = {
        "energy": relaxed.energy,
        "forces": relaxed.forces,
        "stress": full_3x3_to_voigt_6_stress(relaxed.stress),
    }
    if relaxed.moments is not None:
        results["magmoms"] = relaxed.moments
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info.update(keys(row))
    return atoms


def keys(row: Ranked) -> dict[str, str | int | float]:
    """Return what is known of a candidate, without what is unknown."""
    known: dict[str, str | int | float | None] = {
        "gaid": row.id,
        "x": row.x,
        "fingerprint": row.fingerprint,
        "orbit_size": row.orbit_size,
        "verdict": row.verdict,
        "operator": row.operator,
        "formation_energy_per_fu": row.formation_energy_eV_per_fu,
        "above_hull_per_fu": row.above_hull_eV_per_fu,
    }
    return {key: value for key, value in known.items() if value is not None}


def structures(store: PopulationStore, rows: Iterable[Ranked]) -> list[tuple[Ranked, Atoms]]:
    """Return the relaxed structures of candidates, in the order of `rows`."""
    return [(row, with_results(store.relaxed(row.id), row)) for row in rows]


def export(found: Sequence[tuple[Ranked, Atoms]], output: Path, one_each: str) -> int:
    """Write structures to one file, or one file each into a folder; return how many.

    Parameters
    ----------
    output
        A name that ends in .extxyz, .traj, .json or .db, or a folder.
    one_each
        "cif", "poscar" or "extxyz": the format in a folder.
    """
    if output.suffix in _FORMATS:
        writer = _writer(output)
        writer(found, output)
    elif output.suffix and not output.is_dir():
        raise UsageError(
            f"--output {output}: gasearch writes {', '.join(_FORMATS)}, or one file each into a "
            "folder (a name without an ending)."
        )
    else:
        _write_folder(found, output, one_each)
    return len(found)


def _writer(output: Path) -> Callable[[Sequence[tuple[Ranked, Atoms]], Path], None]:
    if output.exists():
        raise UsageError(f"{output} exists already: name another file, or remove it.")
    return _write_database if output.suffix in (".db", ".json") else _write_file


def _write_file(found: Sequence[tuple[Ranked, Atoms]], output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(output, [atoms for _, atoms in found], format=_FORMATS[output.suffix])


def _write_database(found: Sequence[tuple[Ranked, Atoms]], output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    with ase.db.connect(output) as database:
        for row, atoms in found:
            database.write(atoms, key_value_pairs={"relaxed": 1, **_storable(keys(row))})


def _storable(pairs: dict[str, str | int | float]) -> dict[str, str | int | float]:
    """Keep fingerprints text: ASE takes a string of digits for a number and refuses it."""
    pairs["fingerprint"] = f"f{pairs['fingerprint']}"
    return pairs


def _write_folder(found: Sequence[tuple[Ranked, Atoms]], folder: Path, one_each: str) -> None:
    if one_each not in _ONE_EACH:
        raise UsageError(f"--format {one_each!r}: expected {', '.join(_ONE_EACH)}.")
    ending, name = _ONE_EACH[one_each]
    folder.mkdir(parents=True, exist_ok=True)
    for row, atoms in found:
        path = folder / f"{row.formula}_{row.id:06d}{ending}"
        ordered = atoms[atoms.numbers.argsort(kind="stable")] if name == "vasp" else atoms
        ase.io.write(path, ordered, format=name)
