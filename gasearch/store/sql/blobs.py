"""Records and structures as columns.

Arrays of a structure are blobs, raw little-endian numbers, each with the sha256 of its bytes. Their
encoding is that of `ase.db` (`<i4` for numbers and tags, `<f8` for all else, stress in Voigt order
xx, yy, zz, yz, xz, xy), so that the views can hand the bytes to ASE as they are. Kept of an `Atoms`
are numbers, positions, cell, periodicity, formal charges, initial moments and tags.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from numpy.typing import ArrayLike, NDArray

from gasearch.relax.relaxed import Relaxed
from gasearch.store.errors import CorruptedBlobError, InvalidRecordError
from gasearch.store.records import from_columns, plain_fields

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
    is_required
        Whether every structure has it.
    """

    dtype: str
    shape: tuple[int, ...]
    per_atom: bool = True
    is_required: bool = False


ENCODINGS: Mapping[str, Encoding] = {
    "numbers": Encoding("<i4", (-1,), is_required=True),
    "positions": Encoding("<f8", (-1, 3), is_required=True),
    "cell": Encoding("<f8", (3, 3), per_atom=False, is_required=True),
    "initial_charges": Encoding("<f8", (-1,), is_required=True),
    "initial_magmoms": Encoding("<f8", (-1,), is_required=True),
    "tags": Encoding("<i4", (-1,)),
    "forces": Encoding("<f8", (-1, 3)),
    "stress": Encoding("<f8", (6,), per_atom=False),
    "moments": Encoding("<f8", (-1,)),
    "bond_lengths": Encoding("<f8", (-1,), per_atom=False),
}
RESULT_BLOBS = ("forces", "stress", "moments", "bond_lengths")
STRUCTURE_NUMBERS = ("volume", "mass", "charge", "total_moment", "n_atoms", "pbc")
STATED = (
    *(one.name for one in plain_fields(Relaxed)),
    "elements",
    *STRUCTURE_NUMBERS,
    "sha256",
)
"""Columns of a result, in the evaluation and in its structure, that `stated` covers."""


def to_json(value: Any, what: str) -> str:
    """Return canonical JSON; numbers that JSON lacks are refused."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InvalidRecordError(what, f"it cannot be written as JSON ({error})") from error


def plain_columns(record: object, what: str) -> Columns:
    """Return the columns of the plain fields of a record, see `gasearch.store.records`."""
    return {
        one.name: _plain(getattr(record, one.name), one, what) for one in plain_fields(type(record))
    }


def _plain(value: Any, one: Field[Any], what: str) -> Any:
    match one.type:
        case "int" | "Wide":
            return int(value)
        case "float":
            return None if _is_unknown(value, one) else _finite(value, one.name, what)
        case "bool":
            return bool(value)
        case "str":
            return _text(value)
        case "Details":
            return to_json(dict(value), f"{one.name} of {what}") if value else None
    return value


def _is_unknown(value: float, one: Field[Any]) -> bool:
    """Return whether a number is not known, of a field for which that is nothing wrong: NULL."""
    return isinstance(one.default, float) and math.isnan(one.default) and math.isnan(value)


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
    failed = relaxed.verdict == "failed"
    plain = replace(relaxed, energy=0.0, fmax=0.0, smax=0.0) if failed else relaxed
    row = plain_columns(plain, what) | {"elements": elements(relaxed.atoms)}
    columns = structure_columns(relaxed.atoms, what)
    if failed:
        row |= {"energy": None, "fmax": None, "smax": None}
    else:
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
        {name: digest(columns[name]) for name in ENCODINGS if columns.get(name) is not None}
    )


def stated(columns: Mapping[str, Any]) -> str:
    """Return the sha256 of all that the row of a result states, which stands in its event.

    Of the evaluation and of its structure, whose blobs are in it by their own hashes. What is NULL
    is left out, so that columns that come later change no hash.
    """
    values = {name: columns[name] for name in STATED if columns[name] is not None}
    return digest(to_json({name: plain_number(v) for name, v in values.items()}, "").encode())


def plain_number(value: Any) -> Any:
    """Return a number as SQLite gives it back: it has no -0.0."""
    return value + 0.0 if isinstance(value, float) else value


def differing_columns(columns: Mapping[str, Any]) -> list[str]:
    """Return the columns of a structure that differ from what its blobs lead to."""
    atoms = structure(columns, "")
    expected = structure_columns(atoms, "")
    if columns.get("moments") is not None:
        expected["total_moment"] = float(np.sum(decode("moments", columns["moments"])))
    names = [name for name in STRUCTURE_NUMBERS if not _alike(columns[name], expected[name])]
    if columns.get("elements") is not None and columns["elements"] != elements(atoms):
        names.append("elements")
    return names


def _alike(one: float | None, other: float | None) -> bool:
    """Return whether numbers agree; the last digits of a sum are not the same everywhere."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)


def damaged_columns(columns: Mapping[str, Any]) -> list[str]:
    """Return the blobs that differ from their sha256, or that only one of the two knows."""
    try:
        recorded = json.loads(columns["sha256"] or "{}")
    except (TypeError, ValueError):
        return ["sha256"]
    if not isinstance(recorded, dict):
        return ["sha256"]
    present = {name: columns[name] for name in ENCODINGS if columns.get(name) is not None}
    return [
        name
        for name in dict.fromkeys((*present, *recorded))
        if name not in present or digest(present[name]) != recorded.get(name)
    ]


def verify(columns: Mapping[str, Any], row: str) -> None:
    """Raise `CorruptedBlobError` where a blob is not what was written; `row` names it there."""
    for column in damaged_columns(columns):
        raise CorruptedBlobError(row, column)


def structure(columns: Mapping[str, Any], row: str) -> Atoms:
    """Return the structure of a row, which `row` names, after verifying its bytes."""
    verify(columns, row)
    return Atoms(
        decode("numbers", columns["numbers"]),
        positions=decode("positions", columns["positions"]),
        cell=decode("cell", columns["cell"]),
        pbc=[bool(columns["pbc"] & bit) for bit in (1, 2, 4)],
        charges=decode("initial_charges", columns["initial_charges"]),
        magmoms=decode("initial_magmoms", columns["initial_magmoms"]),
        tags=None if columns["tags"] is None else decode("tags", columns["tags"]),
    )


def relaxed(columns: Mapping[str, Any], row: str) -> Relaxed:
    """Return the relaxed structure of a row, with NaN for what it does not have.

    Its bytes are verified; `row` names it.
    """
    atoms = structure(columns, row)
    arrays = {
        name: None if columns[name] is None else decode(name, columns[name])
        for name in RESULT_BLOBS
    }
    forces, stress, lengths = arrays["forces"], arrays["stress"], arrays["bond_lengths"]
    return from_columns(
        Relaxed,
        columns,
        atoms=atoms,
        forces=np.full((len(atoms), 3), np.nan) if forces is None else forces,
        stress=np.full((3, 3), np.nan) if stress is None else voigt_6_to_full_3x3_stress(stress),
        moments=arrays["moments"],
        bond_lengths=np.zeros(0) if lengths is None else lengths,
    )


def _text(text: str) -> str:
    """Return text that every database can store: the output of a crashed program may not be."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\0")


def _finite(value: float, name: str, what: str) -> float:
    number = float(value)
    if not np.isfinite(number):
        raise InvalidRecordError(what, f"{name} is {number}, expected a finite number")
    return number
