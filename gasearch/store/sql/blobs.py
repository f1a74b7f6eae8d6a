"""Structures as table columns: raw little-endian arrays, each with the sha256 of its bytes.

The encoding is that of `ase.db` (`<i4` for numbers and tags, `<f8` for all else, stress in Voigt
order xx, yy, zz, yz, xz, xy), so that the views can hand the bytes to ASE as they are. Kept of an
`Atoms` are numbers, positions, cell, periodicity, formal charges, initial moments and tags.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from numpy.typing import ArrayLike, NDArray

from gasearch.relax.relaxed import Relaxed
from gasearch.store.errors import CorruptedBlobError, InvalidRecordError

Columns = dict[str, Any]


@dataclass(frozen=True)
class Encoding:
    """How an array is stored.

    Parameters
    ----------
    dtype
        Of one number.
    shape
        -1 stands for the number of atoms, or for any number where `per_atom` is false.
    """

    dtype: str
    shape: tuple[int, ...]
    per_atom: bool = True


ENCODINGS: Mapping[str, Encoding] = {
    "numbers": Encoding("<i4", (-1,)),
    "positions": Encoding("<f8", (-1, 3)),
    "cell": Encoding("<f8", (3, 3), per_atom=False),
    "initial_charges": Encoding("<f8", (-1,)),
    "initial_magmoms": Encoding("<f8", (-1,)),
    "tags": Encoding("<i4", (-1,)),
    "forces": Encoding("<f8", (-1, 3)),
    "stress": Encoding("<f8", (6,), per_atom=False),
    "moments": Encoding("<f8", (-1,)),
    "bond_lengths": Encoding("<f8", (-1,), per_atom=False),
}
STRUCTURE_BLOBS = ("numbers", "positions", "cell", "initial_charges", "initial_magmoms", "tags")
RESULT_BLOBS = ("forces", "stress", "moments", "bond_lengths")
BLOBS = STRUCTURE_BLOBS + RESULT_BLOBS


def digest(blob: bytes) -> str:
    """Return the sha256 of the bytes, in hexadecimal digits."""
    return hashlib.sha256(blob).hexdigest()


def encode(column: str, values: ArrayLike, n_atoms: int, what: str) -> bytes:
    """Return an array as bytes; `what` names the record in the error."""
    encoding = ENCODINGS[column]
    array = np.ascontiguousarray(values, dtype=encoding.dtype)
    shape = tuple(
        n_atoms
        if n == -1 and encoding.per_atom
        else array.shape[0]
        if n == -1 and array.ndim
        else n
        for n in encoding.shape
    )
    if array.shape != shape:
        raise InvalidRecordError(what, f"{column} has shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise InvalidRecordError(what, f"{column} holds a NaN or an infinity")
    return array.tobytes()


def decode(column: str, blob: bytes) -> NDArray[Any]:
    """Return an array of its own memory, in the machine's byte order."""
    encoding = ENCODINGS[column]
    array = np.frombuffer(blob, dtype=encoding.dtype).reshape(encoding.shape)
    return array.astype(array.dtype.newbyteorder("="), copy=True)


def structure_columns(atoms: Atoms, what: str) -> Columns:
    """Return the columns of a structure without results; their hashes come last, by `hashes`."""
    n_atoms = len(atoms)
    arrays = {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "initial_charges": atoms.get_initial_charges(),
        "initial_magmoms": atoms.get_initial_magnetic_moments(),
    }
    columns: Columns = {
        column: encode(column, array, n_atoms, what) for column, array in arrays.items()
    }
    columns["tags"] = encode("tags", atoms.get_tags(), n_atoms, what) if atoms.has("tags") else None
    columns |= {
        "pbc": int(np.dot(atoms.pbc, [1, 2, 4])),
        "n_atoms": n_atoms,
        "volume": abs(float(np.linalg.det(atoms.cell.array))),
        "mass": float(atoms.get_masses().sum()),
        "charge": float(arrays["initial_charges"].sum()),
        "total_moment": None,
        **dict.fromkeys(RESULT_BLOBS),
    }
    return columns


def elements(atoms: Atoms) -> str:
    """Return the JSON of the number of atoms by atomic number."""
    numbers, counts = np.unique(atoms.numbers, return_counts=True)
    return json.dumps(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))


def result_columns(relaxed: Relaxed, what: str) -> tuple[Columns, Columns]:
    """Return the columns of an evaluation, and of its structure; NULL where it failed."""
    row: Columns = {
        "verdict": relaxed.verdict,
        "reason": _text(relaxed.reason),
        "audit": relaxed.audit,
        "n_calls": int(relaxed.n_calls),
        "converged": bool(relaxed.converged),
        "wall_s": _finite(relaxed.wall_s, "wall_s", what),
        "elements": elements(relaxed.atoms),
        "energy": None,
        "fmax": None,
        "smax": None,
    }
    columns = structure_columns(relaxed.atoms, what)
    if relaxed.verdict != "failed":
        for name in ("energy", "fmax", "smax"):
            row[name] = _finite(getattr(relaxed, name), name, what)
        n_atoms = columns["n_atoms"]
        stress = full_3x3_to_voigt_6_stress(np.asarray(relaxed.stress, dtype=np.float64))
        columns["stress"] = encode("stress", stress, n_atoms, what)
        columns["forces"] = encode("forces", relaxed.forces, n_atoms, what)
        columns["bond_lengths"] = encode("bond_lengths", relaxed.bond_lengths, n_atoms, what)
        if relaxed.moments is not None:
            columns["moments"] = encode("moments", relaxed.moments, n_atoms, what)
            columns["total_moment"] = float(np.sum(relaxed.moments))
    return row, columns


def hashes(columns: Mapping[str, Any]) -> str:
    """Return the JSON of the sha256 of each blob that is there, by column."""
    return json.dumps(
        {name: digest(columns[name]) for name in BLOBS if columns.get(name) is not None}
    )


def damaged_columns(columns: Mapping[str, Any]) -> list[str]:
    """Return the blobs that differ from their sha256, or that only one of the two knows."""
    try:
        recorded = json.loads(columns["sha256"] or "{}")
    except (TypeError, ValueError):
        return ["sha256"]
    if not isinstance(recorded, dict):
        return ["sha256"]
    present = {name: columns[name] for name in BLOBS if columns.get(name) is not None}
    return [
        name
        for name in dict.fromkeys((*present, *recorded))
        if name not in present or digest(present[name]) != recorded.get(name)
    ]


def verify(columns: Mapping[str, Any], row: str) -> None:
    """Raise `CorruptedBlobError` where a blob is not what was written; `row` names it there."""
    for column in damaged_columns(columns):
        raise CorruptedBlobError(row, column)


def structure(columns: Mapping[str, Any]) -> Atoms:
    """Return the structure of a row."""
    arrays = {
        name: decode(name, columns[name]) for name in STRUCTURE_BLOBS if columns[name] is not None
    }
    return Atoms(
        arrays["numbers"],
        positions=arrays["positions"],
        cell=arrays["cell"],
        pbc=[bool(columns["pbc"] & bit) for bit in (1, 2, 4)],
        charges=arrays["initial_charges"],
        magmoms=arrays["initial_magmoms"],
        tags=arrays.get("tags"),
    )


def relaxed(columns: Mapping[str, Any]) -> Relaxed:
    """Return the relaxed structure of a row, with NaN for what it does not have."""
    failed = columns["verdict"] == "failed"
    atoms = structure(columns)
    n_atoms, nan = len(atoms), float("nan")
    moments = columns["moments"]
    return Relaxed(
        atoms=atoms,
        energy=nan if failed else columns["energy"],
        forces=np.full((n_atoms, 3), nan)
        if columns["forces"] is None
        else decode("forces", columns["forces"]),
        stress=np.full((3, 3), nan)
        if columns["stress"] is None
        else voigt_6_to_full_3x3_stress(decode("stress", columns["stress"])),
        fmax=nan if failed else columns["fmax"],
        smax=nan if failed else columns["smax"],
        n_calls=columns["n_calls"],
        converged=columns["converged"],
        moments=None if moments is None else decode("moments", moments),
        bond_lengths=np.zeros(0) if failed else decode("bond_lengths", columns["bond_lengths"]),
        verdict=columns["verdict"],
        reason=columns["reason"],
        audit=columns["audit"],
        wall_s=columns["wall_s"],
    )


def _text(words: str) -> str:
    """Return words that every database stores: of programs' last words, some are none."""
    return words.encode(errors="backslashreplace").decode().replace("\0", "\\0")


def _finite(value: float, name: str, what: str) -> float:
    number = float(value)
    if not np.isfinite(number):
        raise InvalidRecordError(what, f"{name} is {number}, expected a finite number")
    return number
