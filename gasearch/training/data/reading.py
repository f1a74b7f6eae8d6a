"""Labelled frames out of files: extxyz, ASE databases, trajectories, outputs of codes.

A file is read whole. What cannot be used is left out and counted by its reason, never guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import ase.units
import numpy as np
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype

from gasearch.analysis.findings import HELD_FROM
from gasearch.dft.codes.contract import plain_file
from gasearch.dft.codes.outputs import complete_steps, converged_steps
from gasearch.errors import UsageError
from gasearch.potentials.contract import Array
from gasearch.training.data.columns import ACCEPTED, NAMES, ColumnError, Labels, read_labels
from gasearch.training.data.frames import Frame, bare, data_hash
from gasearch.training.data.labels import (
    Labelling,
    UnlabelledError,
    cations_positive,
    is_formal,
    label,
)
from gasearch.training.data.mixing import refuse_two_levels
from gasearch.training.data.naming import with_names

UNCONVERGED = "electrons not converged"
_FORMATS = ("db", "extxyz", "gpaw-out", "json", "traj", "vasp-out", "vasp-xml", "xyz")
_LEVEL = ("level", "level_of_theory")


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

    def __init__(
        self, paths: Sequence[Path], dropped: Mapping[str, int], unread: Sequence[str] = ()
    ) -> None:
        super().__init__(paths, dropped, unread)
        self.paths = tuple(paths)
        self.dropped = dict(dropped)
        self.unread = tuple(unread)

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason} ({n})" for reason, n in sorted(self.dropped.items()))
        more = f" Not read: {', '.join(self.unread)}." if self.unread else ""
        return (
            f"no usable frame in {', '.join(map(str, self.paths))}: {reasons or 'no frames'}. "
            "Frames need an energy or forces, and formal charges (initial_charges) or moments "
            f"of a known code ({ACCEPTED}).{more}"
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
    columns
        By label, such as "energy": which columns it was read from, each with the number of frames.
    stale
        Columns that were passed over for one with REF_ or DFT_ before its name, which differs.
    unread
        Columns of names that mean nothing here.
    named_by
        How decorations got their names: number of frames by "decoration", "fingerprint" or
        "their sites".
    """

    frames: tuple[Frame, ...]
    dropped: Mapping[str, int]
    columns: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    stale: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, int] = field(default_factory=dict)
    named_by: Mapping[str, int] = field(default_factory=dict)

    @property
    def data_hash(self) -> str:
        """sha256 of the frames, whatever file format they came in."""
        return data_hash(self.frames)

    def told(self) -> list[str]:
        """Return what was read, in lines for the user."""
        lines = [f"read {len(self.frames)} frames: {', '.join(map(self._counted, NAMES))}"]
        stresses = [frame.stress for frame in self.frames if frame.stress is not None]
        if stresses:
            largest = float(np.abs(stresses).max())
            in_gpa = f"{largest / ase.units.GPa:.3g} GPa"
            lines.append(f"largest stress component: {largest:.3g} eV/Å^3, which is {in_gpa}")
        names = len({frame.decoration for frame in self.frames})
        by = ", ".join(f"{n} frames by {how}" for how, n in self.named_by.items())
        return [*lines, f"decorations: {names} ({by})"]

    def passed_over(self) -> list[str]:
        """Return what was not read, or taken for granted, in lines for the user."""
        lines = [f"left out {n} frames: {reason}" for reason, n in self.dropped.items()]
        if self.stale:
            lines.append(
                f"not used: {_listed(self.stale)}: the REF_ or DFT_ column beside it differs"
            )
        if self.unread:
            lines.append(f"not read: {_listed(self.unread)}")
        if self.unread or self.dropped:
            lines.append(ACCEPTED)
        levels = {frame.level for frame in self.frames if frame.level}
        unnamed = sum(not frame.level for frame in self.frames)
        if levels and unnamed:
            lines.append(f"{unnamed} frames name no level: taken to be of {', '.join(levels)}")
        return lines

    def _counted(self, what: str) -> str:
        columns = self.columns.get(what, {})
        source = ", ".join(columns) if len(columns) < 2 else _listed(columns)
        number = f"{what.replace('_', ' ')} in {sum(columns.values())}"
        return f"{number} ({source})" if columns else number


def _listed(columns: Mapping[str, int]) -> str:
    return ", ".join(f"{name} (in {n})" for name, n in columns.items())


def read_frames(
    paths: Sequence[Path | str], labelling: Labelling | None = None, group_by: str = "decoration"
) -> FrameSet:
    """Return the labelled frames of files.

    Parameters
    ----------
    labelling
        How oxidation states are found where frames do not carry them.
    group_by
        Key of a frame's information that names its decoration; where it is missing, composition and
        `fingerprint` do, and where that is missing too, frames go by the sites of their atoms.
    """
    labelling = labelling or Labelling()
    places = [Path(path) for path in paths]
    files: list[list[Frame]] = []
    dropped: Counter[str] = Counter()
    told = _Told()
    for place in places:
        structures, unconverged = _structures(place)
        if unconverged:
            dropped[UNCONVERGED] += unconverged
        surrogate = _has_surrogates(structures, labelling)
        files.append([])
        for number, atoms in enumerate(structures, start=1):
            info = _information(atoms)
            try:
                labels = read_labels(atoms, info)
                told.unread.update(labels.unread)
                frame = _frame(atoms, info, labels, labelling, surrogate)
                name, source = _name(frame, info, group_by)
            except ColumnError as error:
                raise DataFileError(place, f"frame {number}: {error}") from error
            except UnlabelledError as reason:
                dropped[str(reason)] += 1
                continue
            files[-1].append(replace(frame, decoration=name))
            told.add(labels, source)
    if not any(files):
        raise NoFramesError(places, dropped, list(told.unread))
    frames = with_names(files)
    refuse_two_levels(frames)
    return FrameSet(
        tuple(frames),
        dict(sorted(dropped.items())),
        {label: dict(found) for label, found in told.columns.items()},
        *(dict(one) for one in (told.stale, told.unread, told.named_by)),
    )


class _Told:
    """Counts of columns: those that mean nothing over all frames, others over those used."""

    def __init__(self) -> None:
        self.columns: dict[str, Counter[str]] = {}
        self.stale: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()
        self.named_by: Counter[str] = Counter()

    def add(self, labels: Labels, named_by: str) -> None:
        for what, column in labels.columns.items():
            self.columns.setdefault(what, Counter())[column] += 1
        self.stale.update(labels.stale)
        self.named_by[named_by] += 1


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
        complete_steps(path, kind, found)
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


def _frame(
    atoms: Atoms, info: Mapping[str, Any], labels: Labels, labelling: Labelling, surrogate: bool
) -> Frame:
    """Return one frame without its name, or raise `UnlabelledError`."""
    if not info.get("order_kept", True):
        raise UnlabelledError("order not kept")
    if float(info.get("penalty", 0.0)) >= HELD_FROM:
        raise UnlabelledError("a hold still pushes: their energy contains its penalty")
    if not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise UnlabelledError("not periodic")
    found = labels.values
    moments, energy = found.get("moments"), found.get("energy")
    true, charges = label(atoms, moments, labelling, surrogate)
    frame = Frame(
        atoms=bare(true, charges),
        energy=None if energy is None else float(energy),
        forces=found.get("forces"),
        stress=found.get("stress"),
        moments=None if moments is None else np.abs(moments),
        partial_charges=_partial_charges(found.get("partial_charges"), atoms, true),
        tag=str(info.get("tag", "")),
        level=next((str(info[key]) for key in info if key.lower() in _LEVEL), ""),
    )
    if frame.energy is None and frame.forces is None:
        raise UnlabelledError("neither energy nor forces")
    return frame


def _name(frame: Frame, info: Mapping[str, Any], group_by: str) -> tuple[str, str]:
    """Return what a file calls the decoration of a frame, and by which key; "" where by none."""
    if info.get(group_by) is not None:
        return str(info[group_by]), group_by
    if info.get("fingerprint") is not None:
        return f"{frame.composition}-{info['fingerprint']}", "fingerprint"
    return "", "their sites"


def _partial_charges(values: Array | None, atoms: Atoms, true: Atoms) -> Array | None:
    """Return the partial charges, cations positive, or None."""
    charges = atoms.arrays.get("initial_charges")
    if values is None and charges is not None and charges.any() and not is_formal(atoms):
        values = np.asarray(charges, dtype=np.float64)
    return None if values is None else cations_positive(values, true)


def _information(atoms: Atoms) -> dict[str, Any]:
    """Return what a file says about a frame; of a database row, its keys and its data."""
    info = dict(atoms.info)
    for nested in ("data", "key_value_pairs"):
        more = info.pop(nested, {})
        info.update(more if isinstance(more, dict) else {})
    return info
