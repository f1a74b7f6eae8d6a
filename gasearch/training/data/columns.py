"""The labels of one frame, by the names that files give them, with their units checked.

A label may be written in small or capital letters, with `REF_` or `DFT_` before its name or without
it. A name without them is also what a calculator writes that looked at the frame later: where the
two differ, nothing of the frame counts that is written without.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ase.units
import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from gasearch.errors import GasearchError
from gasearch.potentials.contract import Array
from gasearch.training.data.labels import UnlabelledError

NAMES: Mapping[str, tuple[str, ...]] = {
    "energy": ("energy",),
    "forces": ("forces", "force"),
    "stress": ("stress", "virial", "virials"),
    "moments": ("magmoms", "magmom", "moments", "magnetic_moments"),
    "partial_charges": ("bader_charge", "bader_charges", "partial_charges", "charges"),
}
"""What the columns of a label may be called; `virial` is minus the stress times the volume."""
ACCEPTED = (
    "accepted names: "
    + ", ".join(name for names in NAMES.values() for name in names)
    + "; each also as REF_... or DFT_..., in small or capital letters"
)
_LABEL_OF = {name: label for label, names in NAMES.items() for name in names}
_COLUMN = re.compile(r"((?:ref|dft)_)?(.+)", re.IGNORECASE)
_NO_LABELS = frozenset(
    {"decoration", "tag", "level", "level_of_theory", "order_kept", "gaid", "relaxed", "x"}
    | {"composition", "fingerprint", "orbit_size", "verdict", "origin", "unique_id"}
    | {"plane_wave_excess"}
    | {"formation_energy_per_fu", "above_hull_per_fu", "penalty", "numbers", "positions", "tags"}
    | {"energy_sigma_per_fu", "force_sigma", "initial_charges", "initial_magmoms", "magmom"}
)
_LARGEST_STRESS = 1.0  # eV/Å^3, which is 160 GPa
_RELATIVE, _ABSOLUTE = 1e-6, 1e-4  # within which a label is equal that is written twice


class ColumnError(GasearchError, ValueError):
    """A label that would be taken wrongly: a reason to refuse the file, not to drop the frame."""


@dataclass(frozen=True, eq=False)
class _Column:
    """A label as a file has it; the name's beginning, REF_ or DFT_, is its `source`."""

    name: str
    label: str
    source: str
    values: Array


@dataclass(frozen=True, eq=False)
class Labels:
    """What was read of one frame.

    Parameters
    ----------
    values
        By the keys of `NAMES`: the energy in eV, forces in eV/Å, the stress (3, 3) in eV/Å^3,
        moments in Bohr magnetons and partial charges in e, as they are written.
    columns
        The name of the column that each came from.
    stale
        Columns that a calculator wrote later.
    unread
        Columns of names that mean nothing here.
    """

    values: Mapping[str, Array]
    columns: Mapping[str, str]
    stale: tuple[str, ...]
    unread: tuple[str, ...]


def read_labels(atoms: Atoms, info: Mapping[str, Any]) -> Labels:
    """Return the labels of a frame.

    Raises
    ------
    UnlabelledError
        Where one has a wrong shape or no finite numbers.
    ColumnError
        Where columns contradict each other, or a stress is in other units or in a doubtful order.
    """
    found: list[_Column] = []
    unread = []
    for name, value, is_result in _written(atoms, info):
        source, label = _meaning(name, value)
        if label is not None:
            found.append(_Column(name, label, source, _read(label, name, value, atoms, is_result)))
        elif name.lower() not in _NO_LABELS:
            unread.append(name)
    stale = _contradicted(found)
    counted = [one for one in found if one.source or not stale]
    chosen = {one.label: one for one in sorted(counted, key=_weight)}
    return Labels(
        {label: one.values for label, one in chosen.items()},
        {label: one.name for label, one in chosen.items()},
        tuple(one.name for one in found if one not in counted),
        tuple(unread),
    )


def _written(atoms: Atoms, info: Mapping[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Yield everything that a frame has, and whether it is a result in the form of ASE."""
    results = {} if atoms.calc is None else atoms.calc.results
    for place, is_result in ((results, True), (atoms.arrays, False), (info, False)):
        yield from ((str(name), value, is_result) for name, value in place.items())


def _meaning(name: str, value: Any) -> tuple[str, str | None]:
    """Return where a column comes from, "ref_", "dft_" or "", and which label it is, if any."""
    found = _COLUMN.fullmatch(name)
    if found is None or value is None:
        return "", None
    label = _LABEL_OF.get(found[2].lower())
    if label == "moments" and np.ndim(value) == 0:  # ASE's `magmom` is that of the whole cell
        label = None
    return (found[1] or "").lower(), label


def _weight(column: _Column) -> tuple[bool, int]:
    """Return what is larger for the column that counts: one with a source, then in our order."""
    name = column.name[len(column.source) :].lower()
    return bool(column.source), -NAMES[column.label].index(name)


def _contradicted(found: list[_Column]) -> bool:
    """Whether a column without a source differs from one with; raise where equals differ."""
    is_stale = False
    for k, one in enumerate(found):
        for other in found[:k]:
            if one.label != other.label or _are_equal(one, other):
                continue
            if bool(one.source) == bool(other.source):
                raise ColumnError(
                    f"{other.name} and {one.name} differ{_by(one, other)}: leave the right one only"
                )
            is_stale = True
    return is_stale


def _are_equal(one: _Column, other: _Column) -> bool:
    """Whether two columns of a label say the same; partial charges are of several kinds."""
    if one.label == "partial_charges":
        return True
    return np.allclose(one.values, other.values, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True)


def _by(one: _Column, other: _Column) -> str:
    if one.label != "energy":
        return f" by up to {np.abs(one.values - other.values).max():.3g}"
    return f" ({float(other.values):.6g} and {float(one.values):.6g})"


def _read(label: str, name: str, value: Any, atoms: Atoms, is_result: bool) -> Array:
    try:
        array: Array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UnlabelledError(f"{name} that are not numbers") from error
    return _READERS[label](name, array, atoms, is_result)


def _energy(name: str, array: Array, atoms: Atoms, is_result: bool) -> Array:  # noqa: ARG001
    return _finite(name, _shaped(name, array.squeeze(), ()))


def _forces(name: str, array: Array, atoms: Atoms, is_result: bool) -> Array:  # noqa: ARG001
    return _finite(name, _shaped(name, array, (len(atoms), 3)))


def _per_atom(name: str, array: Array, atoms: Atoms, is_result: bool) -> Array:  # noqa: ARG001
    return _shaped(name, array, (len(atoms),))


def _stress(name: str, array: Array, atoms: Atoms, is_result: bool) -> Array:
    """Return a stress or virial as a stress (3, 3) in eV/Å^3."""
    if array.size == 9:
        full = array.reshape(3, 3)
    else:
        if not is_result and len(set(_shaped(name, array, (6,))[3:])) > 1:
            raise ColumnError(
                f"{name} has six numbers, whose order the file does not say (VASP writes xx yy zz "
                "xy yz zx, ASE xx yy zz yz xz xy): write the nine of the matrix"
            )
        full = np.asarray(voigt_6_to_full_3x3_stress(_shaped(name, array, (6,))))
    _finite(name, full)
    if "virial" in name.lower():
        full = -full / atoms.get_volume()
    largest = float(np.abs(full).max())
    if largest > _LARGEST_STRESS:
        raise ColumnError(
            f"{name} of {largest:.3g} eV/Å^3 is {largest / ase.units.GPa:.0f} GPa, more than a "
            "crystal bears: in kBar, as VASP writes it, it would be "
            f"{largest / 10 * ase.units.GPa:.2g} eV/Å^3, in GPa {largest * ase.units.GPa:.2g}; "
            f"write eV/Å^3, tension positive (VASP's kBar times {-ase.units.GPa / 10:.4g}, GPa "
            f"times {ase.units.GPa:.4g})"
        )
    if np.abs(full - full.T).max() > 1e-3 * max(largest, 1e-3):
        raise ColumnError(f"{name} is not symmetric, which a stress must be")
    return full


def _shaped(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape != shape:
        raise UnlabelledError(f"{name} of a wrong shape")
    return array


def _finite(name: str, array: Array) -> Array:
    if not np.isfinite(array).all():
        raise UnlabelledError(f"{name} that are not finite numbers")
    return array


_READERS: Mapping[str, Callable[[str, Array, Atoms, bool], Array]] = {
    "energy": _energy,
    "forces": _forces,
    "stress": _stress,
    "moments": _per_atom,
    "partial_charges": _per_atom,
}
