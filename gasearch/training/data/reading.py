"""Labelled frames out of files: extxyz, ASE databases, trajectories, outputs of codes.

A file is read whole. What cannot be used is left out and counted by its reason, never guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import ase.db
import ase.io
import numpy as np
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype
from ase.stress import voigt_6_to_full_3x3_stress

from gasearch.dft.codes.contract import plain_file
from gasearch.dft.codes.outputs import converged_steps
from gasearch.errors import UsageError
from gasearch.potentials.contract import Array
from gasearch.training.data.frames import Frame, bare, data_hash, order_fingerprint
from gasearch.training.data.labels import (
    Labelling,
    UnlabelledError,
    cations_positive,
    is_formal,
    label,
)

UNCONVERGED = "electrons not converged"
_FORMATS = ("db", "extxyz", "gpaw-out", "json", "traj", "vasp-out", "vasp-xml", "xyz")
_ENERGY = ("energy", "REF_energy", "dft_energy")
_FORCES = ("forces", "REF_forces", "dft_forces")
_STRESS = ("stress", "REF_stress", "dft_stress")
_MOMENTS = ("magmoms", "moments", "magnetic_moments", "REF_magmoms")
_PARTIAL = ("bader_charge", "bader_charges", "partial_charges", "charges")


_Value = TypeVar("_Value", float, Array)


class DataFileError(UsageError):
    """A file of frames that cannot be used."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}."


class NoFramesError(UsageError):
    """Files without a single usable frame."""

    def __init__(self, paths: Sequence[Path], dropped: Mapping[str, int]) -> None:
        super().__init__(paths, dropped)
        self.paths = tuple(paths)
        self.dropped = dict(dropped)

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason} ({n})" for reason, n in sorted(self.dropped.items()))
        return (
            f"no usable frame in {', '.join(map(str, self.paths))}: {reasons or 'no frames'}. "
            "Frames need an energy or forces, and formal charges (initial_charges) or moments "
            "of a known code."
        )


@dataclass(frozen=True, eq=False)
class FrameSet:
    """What files held.

    Parameters
    ----------
    frames
        Usable ones, in the order of files and frames.
    dropped
        How many frames were left out, by reason.
    """

    frames: tuple[Frame, ...]
    dropped: Mapping[str, int]

    @property
    def data_hash(self) -> str:
        """sha256 of the frames, whatever file format they came in."""
        return data_hash(self.frames)


def read_frames(
    paths: Sequence[Path | str], labelling: Labelling | None = None, group_by: str = "decoration"
) -> FrameSet:
    """Return the labelled frames of files.

    Parameters
    ----------
    labelling
        How oxidation states are found where frames do not carry them.
    group_by
        Key of a frame's information that names its decoration; where it is missing, the
        composition with its charge order does.
    """
    labelling = labelling or Labelling()
    places = [Path(path) for path in paths]
    frames: list[Frame] = []
    dropped: Counter[str] = Counter()
    for place in places:
        structures, unconverged = _structures(place)
        if unconverged:
            dropped[UNCONVERGED] += unconverged
        surrogate = _has_surrogates(structures, labelling)
        for atoms in structures:
            try:
                frames.append(_frame(atoms, labelling, surrogate, group_by))
            except UnlabelledError as reason:
                dropped[str(reason)] += 1
    if not frames:
        raise NoFramesError(places, dropped)
    return FrameSet(tuple(frames), dict(sorted(dropped.items())))


def _structures(path: Path) -> tuple[list[Atoms], int]:
    """Return the structures of a file in one of the formats that hold data alone.

    And how many are left out, for their electrons did not converge.
    """
    if not path.is_file():
        raise DataFileError(path, "there is no such file")
    try:
        kind = filetype(str(path))
    except UnknownFileTypeError:
        kind = "unknown"
    if kind not in _FORMATS:
        raise DataFileError(path, f"is of format {kind!r}, expected one of {', '.join(_FORMATS)}")
    try:
        if kind in ("db", "json"):
            return _rows(path, kind), 0
        with plain_file(path) as plain:
            found: Any = ase.io.read(plain, index=":", format="extxyz" if kind == "xyz" else kind)
        is_converged = converged_steps(path, kind, len(found))
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise DataFileError(path, f"cannot be read ({type(error).__name__}: {text})") from error
    structures = [one for one, is_good in zip(found, is_converged, strict=True) if is_good]
    return structures, len(found) - len(structures)


def _rows(path: Path, kind: str) -> list[Atoms]:
    """Return the rows of an ASE database with their keys and data, without locking it."""
    database: Any = ase.db.connect(path, type=kind, use_lock_file=False)
    with database:
        rows = database.select(sort="id")
        return [row.toatoms(add_additional_information=True) for row in rows]


def _has_surrogates(structures: Sequence[Atoms], labelling: Labelling) -> bool:
    """Whether a file writes oxidation states as elements: in one frame means in all of them."""
    return any(
        not is_formal(atoms) and labelling.surrogates.keys() & set(atoms.symbols)
        for atoms in structures
    )


def _frame(atoms: Atoms, labelling: Labelling, surrogate: bool, group_by: str) -> Frame:
    """Return one frame, or raise `UnlabelledError`."""
    info = _information(atoms)
    if not info.get("order_kept", True):
        raise UnlabelledError("order not kept")
    if not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise UnlabelledError("not periodic")
    labels = _Labels(atoms, info)
    moments = labels.per_atom(_MOMENTS, 1)
    true, charges = label(atoms, moments, labelling, surrogate)
    frame = Frame(
        atoms=bare(true, charges),
        energy=labels.energy(),
        forces=labels.per_atom(_FORCES, 3),
        stress=labels.stress(),
        moments=None if moments is None else np.abs(moments),
        partial_charges=labels.partial_charges(true),
        tag=str(info.get("tag", "")),
    )
    if frame.energy is None and frame.forces is None:
        raise UnlabelledError("neither energy nor forces")
    name = info.get(group_by)
    return replace(frame, decoration=order_fingerprint(frame.atoms) if name is None else str(name))


def _information(atoms: Atoms) -> dict[str, Any]:
    """Return what a file says about a frame; of a database row, its keys and its data."""
    info = dict(atoms.info)
    for nested in ("data", "key_value_pairs"):
        more = info.pop(nested, {})
        info.update(more if isinstance(more, dict) else {})
    return info


@dataclass(frozen=True, eq=False)
class _Labels:
    """The labels of one frame, wherever the file has them."""

    atoms: Atoms
    info: Mapping[str, Any]

    def found(self, names: Sequence[str]) -> Any:
        """Return the first of these that the frame has, or None."""
        results = {} if self.atoms.calc is None else self.atoms.calc.results
        for name in names:
            for place in (results, self.atoms.arrays, self.info):
                if place.get(name) is not None:
                    return place[name]
        return None

    def energy(self) -> float | None:
        """Return the energy in eV, or None."""
        value = self.found(_ENERGY)
        if value is None:
            return None
        return _finite("energy", float(value))

    def per_atom(self, names: Sequence[str], width: int) -> Array | None:
        """Return (n_atoms,) or (n_atoms, width) numbers, or None."""
        value = self.found(names)
        if value is None:
            return None
        shape = (len(self.atoms),) if width == 1 else (len(self.atoms), width)
        array: Array = np.asarray(value, dtype=np.float64)
        if array.shape != shape:
            raise UnlabelledError(f"{names[0]} of a wrong shape")
        return _finite(names[0], array) if width > 1 else array

    def stress(self) -> Array | None:
        """Return the stress (3, 3) in eV/Å^3, from either of ASE's forms, or None."""
        value = self.found(_STRESS)
        if value is None:
            return None
        array: Array = np.asarray(value, dtype=np.float64)
        if array.size == 9:
            return _finite("stress", array.reshape(3, 3))
        if array.shape != (6,):
            raise UnlabelledError("stress of a wrong shape")
        return _finite("stress", np.asarray(voigt_6_to_full_3x3_stress(array)))

    def partial_charges(self, true: Atoms) -> Array | None:
        """Return the partial charges, cations positive, or None."""
        values = self.per_atom(_PARTIAL, 1)
        charges = self.atoms.arrays.get("initial_charges")
        if values is None and charges is not None and charges.any() and not is_formal(self.atoms):
            values = np.asarray(charges, dtype=np.float64)
        return None if values is None else cations_positive(values, true)


def _finite(name: str, value: _Value) -> _Value:
    if not np.isfinite(value).all():
        raise UnlabelledError(f"{name} that are not finite numbers")
    return value
