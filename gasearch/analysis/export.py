"""Structures out of a run, into files that other programs read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import ase.db
import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from gasearch.analysis import cluster_expansion as cluster_exports
from gasearch.analysis.findings import Findings, Ranked
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.hosts import host_from_json
from gasearch.crystal.io.oxidation_states import cif, poscar
from gasearch.errors import GasearchError, UsageError
from gasearch.files import inside, make_folder, name_from, refuse_existing, written
from gasearch.relax.relaxed import Relaxed
from gasearch.store.checks.check import check_store
from gasearch.store.population_store import PopulationStore
from gasearch.store.sql.ase_rows import ase_text

Found = Sequence[tuple[Ranked, Atoms]]
_ENDINGS = {"cif": ".cif", "poscar": ".vasp", "extxyz": ".extxyz"}
DEFAULT_FORMAT = "cif"
CLUSTER_CODES = cluster_exports.CODES


class NothingFoundError(GasearchError, LookupError):
    """A run without a structure to show."""

    def __str__(self) -> str:
        return "no structure to write: no candidate was relaxed to a valid end here yet."


def decoration_name(host: Host, fingerprint: str) -> str:
    """Return what labelled frames call a decoration: its supercell and its fingerprint."""
    diagonal = np.diag(host.matrix)
    if np.array_equal(host.matrix, np.diag(diagonal)):
        return f"{''.join(map(str, diagonal.tolist()))}-{fingerprint}"
    return f"{'x'.join(str(n) for n in host.matrix.ravel().tolist())}-{fingerprint}"


def with_results(relaxed: Relaxed, row: Ranked, level: str) -> Atoms:
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
    atoms.info.update(keys(row, level))
    return atoms


def keys(row: Ranked, level: str) -> dict[str, str | int | float]:
    """Return what is known of a candidate, by the names that it has in the run's database too."""
    known: dict[str, str | int | float | None] = {
        "gaid": row.id,
        "relaxed": int(row.verdict == "ok"),
        "x": row.x,
        "composition": row.formula,
        "fingerprint": ase_text(row.fingerprint),
        "orbit_size": row.orbit_size,
        "verdict": row.verdict,
        "origin": row.operator,
        "level": level,
        "formation_energy_per_fu": row.formation_energy_eV_per_fu,
        "above_hull_per_fu": row.above_hull_eV_per_fu,
        "penalty": row.penalty_eV if row.exists_only_while_held else None,
        "energy_sigma_per_fu": row.sigma_eV_per_fu,
        "force_sigma": row.force_sigma_eV_per_A,
    }
    return {key: value for key, value in known.items() if value is not None}


def damage(store: PopulationStore) -> list[str]:
    """Return a line for a database that is not whole; nothing is read out of one unsaid."""
    problems = check_store(store.place)
    if not problems:
        return []
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    return [f"note: {store.place} is damaged ({problems[0]}{more}); see: gasearch check"]


def structures(store: PopulationStore, rows: Iterable[Ranked]) -> list[tuple[Ranked, Atoms]]:
    """Return the relaxed structures of candidates, in the order of `rows`.

    Their formulas are those of their decorations, whatever stands beside these in the database.
    """
    level, host = store.level.name, host_from_json(store.run.host)
    found = []
    for stored in rows:
        formula = Decoration.from_fingerprint(host, stored.fingerprint).formula
        row = replace(stored, formula=formula)
        atoms = with_results(store.relaxed(row.id), row, level)
        atoms.info["decoration"] = decoration_name(host, row.fingerprint)
        found.append((row, atoms))
    return found


def export(found: Found, output: Path, one_each: str | None = None) -> int:
    """Write structures to one new file, or one each into a folder; return how many.

    Parameters
    ----------
    output
        A name that ends in .extxyz, .traj, .json, .db, .cif or .vasp, or a folder.
    one_each
        "cif", "poscar" or "extxyz": the format in a folder.
    """
    if not found:
        raise NothingFoundError
    writer = None if output.is_dir() else _WRITERS.get(_ending(output))
    if writer is not None:
        if one_each is not None:
            raise UsageError(f"--format is for folders; the ending of {output} says the format.")
        with written(output) as path:
            writer(found, path)
    elif output.suffix and not output.is_dir():
        raise UsageError(
            f"--output {output}: gasearch writes {', '.join(_WRITERS)}, or one file each into a "
            "folder (a name without an ending)."
        )
    else:
        _write_folder(found, output, one_each or DEFAULT_FORMAT)
    return len(found)


def export_decorations(findings: Findings, rows: Sequence[Ranked], output: Path, code: str) -> int:
    """Write decorations with energies to one new file for a cluster-expansion code.

    Parameters
    ----------
    code
        One of `gasearch.analysis.cluster_expansion.CODES`.
    """
    if not rows:
        raise NothingFoundError
    cluster_exports.check_name(code, output)
    with written(output) as path:
        cluster_exports.write(code, findings, rows, path)
    return len(rows)


def _ending(output: Path) -> str:
    return ".vasp" if output.name == "POSCAR" else output.suffix.lower()


def _write_extxyz(found: Found, path: Path) -> None:
    ase.io.write(path, [atoms for _, atoms in found], format="extxyz")


def _write_traj(found: Found, path: Path) -> None:
    ase.io.write(path, [atoms for _, atoms in found], format="traj")


def _write_database(found: Found, path: Path) -> None:
    with ase.db.connect(path, type=path.suffix.lower()[1:], use_lock_file=False) as database:
        for _, atoms in found:
            database.write(atoms, key_value_pairs=atoms.info)


def _write_cif(found: Found, path: Path) -> None:
    path.write_text("".join(cif(atoms, _name(row)) for row, atoms in found), encoding="utf-8")


def _write_poscar(found: Found, path: Path) -> None:
    if len(found) > 1:
        raise UsageError(
            f"a POSCAR holds one structure, not {len(found)}: take the lowest with -n 1, or name "
            "a folder and --format poscar."
        )
    for row, atoms in found:
        path.write_text(poscar(atoms, _name(row)), encoding="utf-8")


_WRITERS: dict[str, Callable[[Found, Path], None]] = {
    ".extxyz": _write_extxyz,
    ".xyz": _write_extxyz,
    ".traj": _write_traj,
    ".json": _write_database,
    ".db": _write_database,
    ".cif": _write_cif,
    ".vasp": _write_poscar,
}


def _write_folder(found: Found, folder: Path, one_each: str) -> None:
    if one_each not in _ENDINGS:
        raise UsageError(f"--format {one_each!r}: expected {', '.join(_ENDINGS)}.")
    ending = _ENDINGS[one_each]
    make_folder(folder)
    targets = [inside(folder, f"{_name(row)}{ending}") for row, _ in found]
    for target in targets:
        refuse_existing(target)
    for target, pair in zip(targets, found, strict=True):
        with written(target) as path:
            _WRITERS[ending]([pair], path)


def _name(row: Ranked) -> str:
    return name_from(f"{row.formula}_{row.id:06d}")
