"""`gasearch enumerate`: how many decorations a host has, and which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ase.db
import ase.io
from ase import Atoms

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition, Host
from gasearch.crystal.io.supercells import supercell_of
from gasearch.errors import UsageError
from gasearch.files import refuse_existing, written
from gasearch.run.folder import RunFolder
from gasearch.run.host import build_host
from gasearch.run.host_file import HostReading, read_host
from gasearch.store.sql.ase_rows import ase_text

_FEW = 2_000  # decorations to print
_MANY = 100_000  # structures to write
_RAW = 50_000_000  # raw decorations to go through


def host_of(host: str, supercell: Any, reading: HostReading | None = None) -> Host:
    """Return a built-in host, that of a structure file (by a guess), or that of a run folder."""
    return host_with_notes(host, supercell, reading)[0]


def host_with_notes(
    host: str, supercell: Any, reading: HostReading | None = None
) -> tuple[Host, tuple[str, ...]]:
    """Return a host, and what a user should know of how its file was read, each as a sentence.

    Parameters
    ----------
    supercell
        In any form that run.toml has; None for that of the run folder.
    """
    if Path(host).is_dir():
        if supercell is not None:
            raise UsageError("a run folder has its supercell in run.toml: leave --supercell out.")
        folder = RunFolder(Path(host))
        return build_host(folder.settings().host, folder.path), ()
    if supercell is None:
        raise UsageError("--supercell A B C is missing, as in --supercell 1 2 1.")
    named = read_host(host, reading)
    chosen = supercell_of(named.declaration, supercell)
    return Host.build(named.declaration, chosen), named.lines


def compositions_of(host: Host, x: str | None) -> tuple[Composition, ...]:
    """Return all compositions, or the one at x."""
    return host.compositions if x is None else (host.composition_at(x),)


def counts(host: Host, compositions: Sequence[Composition]) -> list[dict[str, Any]]:
    """Return [{"x", "raw", "distinct", "exact"}] without enumerating.

    `exact` is False where sites exclude each other so that only lower bounds are known.
    """
    return [
        {
            "x": c.x,
            "raw": host.n_raw(c),
            "distinct": host.n_distinct(c),
            "exact": host.are_counted,
        }
        for c in compositions
    ]


def listed(host: Host, compositions: Sequence[Composition]) -> list[dict[str, Any]]:
    """Return all distinct decorations where they are few."""
    _refuse_many(host, compositions, _FEW, "to list")
    return [
        {
            "x": decoration.x,
            "fingerprint": decoration.fingerprint,
            "orbit_size": decoration.orbit_size,
            "species": " ".join(map(str, decoration.species())),
        }
        for decoration in decorations(host, compositions)
    ]


def write(host: Host, compositions: Sequence[Composition], output: Path) -> int:
    """Write all distinct decorations, undistorted, as extxyz or an ASE database."""
    if output.suffix not in (".extxyz", ".xyz", ".db"):
        raise UsageError(f"--output {output}: expected a name that ends in .extxyz, .xyz or .db.")
    _refuse_many(host, compositions, _MANY, "to write")
    refuse_existing(output)
    found = list(decorations(host, compositions))
    with written(output) as path:
        if output.suffix == ".db":
            with ase.db.connect(path, use_lock_file=False) as database:
                for decoration in found:
                    database.write(decoration.to_atoms(), key_value_pairs=_keys(decoration))
        else:
            ase.io.write(path, [_labelled(d) for d in found], format="extxyz")
    return len(found)


def decorations(host: Host, compositions: Sequence[Composition]) -> Iterator[Decoration]:
    """Yield one decoration of each orbit."""
    for composition in compositions:
        for chunk, _ in host.enumerate_distinct(composition):
            for occupation in chunk:
                yield Decoration(host, occupation)


def _keys(decoration: Decoration) -> dict[str, Any]:
    return {
        "x": decoration.x,
        "fingerprint": ase_text(decoration.fingerprint),
        "orbit_size": decoration.orbit_size,
    }


def _labelled(decoration: Decoration) -> Atoms:
    atoms = decoration.to_atoms()
    atoms.info.update(_keys(decoration))
    return atoms


def _refuse_many(host: Host, compositions: Sequence[Composition], limit: int, what: str) -> None:
    raw = sum(host.n_raw(c) for c in compositions)
    distinct = sum(host.n_distinct(c) for c in compositions)
    if not host.are_counted:
        raise UsageError(
            "the decorations of this supercell cannot be counted, since its sites exclude each "
            f"other: take a smaller cell {what} them."
        )
    if distinct > limit or raw > _RAW:
        advice = "name one composition with -x" if len(compositions) > 1 else "take a smaller cell"
        raise UsageError(
            f"{distinct:,} distinct decorations ({raw:,} raw) are too many {what}: {advice} "
            f"(limits {limit:,} and {_RAW:,})."
        )
