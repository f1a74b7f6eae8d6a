"""What is being relaxed: geometry, labels and counters of all structures, in one object.

Here is also how rows of all that belongs to structures are selected and joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
import torch
from ase import Atoms

from gasearch.potentials.contract import Batch, formal_charges, spin_labels
from gasearch.relax.batched.strain import exponential, product, rows_times
from gasearch.relax.settings import RelaxSettings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_PER_ATOM = frozenset(
    {"undeformed", "positions", "forces", "moments", "system"}
    | {"numbers", "charges", "spins", "labels"}
)


@dataclass(frozen=True, eq=False)
class State:
    """Structures under relaxation; the atoms of one are consecutive.

    A geometry is kept as the positions in the undeformed cell and a symmetric strain, the logarithm
    of the deformation. Everything is float64, whatever the precision of the potential.

    Parameters
    ----------
    ids
        (B,) int64, what tells structures apart; no two are alike.
    undeformed
        (N, 3) positions in the undeformed cell, in Å; not wrapped.
    strains
        (B, 3, 3), symmetric; positions and cells are these times exp(strain).
    origins
        (B, 3, 3) undeformed cells, right-handed, in Å.
    numbers, charges
        (N,) int64, atomic numbers and formal oxidation states (e).
    labels
        (N, 2) initial charges (e) and magnetic moments (Bohr magnetons), as they came.
    system
        (N,) int64, ascending: the structure of each atom.
    fmax, smax, max_force
        (B,) thresholds, as in `RelaxSettings`.
    max_calls, n_calls
        (B,) int64, evaluations allowed and done.
    cell_free
        (B,) whether the cell relaxes.
    wall_s
        (B,) share of the time spent so far, in seconds.
    """

    ids: torch.Tensor
    undeformed: torch.Tensor
    strains: torch.Tensor
    origins: torch.Tensor
    numbers: torch.Tensor
    charges: torch.Tensor
    spins: torch.Tensor
    labels: torch.Tensor
    system: torch.Tensor
    fmax: torch.Tensor
    smax: torch.Tensor
    max_force: torch.Tensor
    max_calls: torch.Tensor
    n_calls: torch.Tensor
    cell_free: torch.Tensor
    wall_s: torch.Tensor

    @classmethod
    def start(
        cls, arrivals: Sequence[tuple[int, Atoms, RelaxSettings]], device: torch.device
    ) -> State:
        """Return structures at their first geometry; each needs formal charges."""
        ids, structures, settings = zip(*arrivals, strict=True)
        counts = torch.tensor([len(atoms) for atoms in structures])
        cells = np.stack([atoms.cell.array for atoms in structures])

        def column(values: Iterable[float], dtype: torch.dtype = torch.float64) -> torch.Tensor:
            return torch.tensor([*values], dtype=dtype, device=device)

        return cls(
            ids=column(ids, torch.int64),
            undeformed=_joined([atoms.positions for atoms in structures], device),
            strains=torch.zeros(len(counts), 3, 3, dtype=torch.float64, device=device),
            origins=torch.from_numpy(cells.astype(np.float64)).to(device),
            numbers=_joined([atoms.numbers for atoms in structures], device).long(),
            charges=_joined([formal_charges(atoms) for atoms in structures], device).long(),
            spins=_joined([spin_labels(atoms) for atoms in structures], device).long(),
            labels=_joined([labels_of(atoms) for atoms in structures], device),
            system=torch.arange(len(counts)).repeat_interleave(counts).to(device),
            fmax=column(chosen.fmax for chosen in settings),
            smax=column(chosen.smax for chosen in settings),
            max_force=column(chosen.max_force for chosen in settings),
            max_calls=column((chosen.max_calls for chosen in settings), torch.int64),
            n_calls=column([0] * len(counts), torch.int64),
            cell_free=column((chosen.relax_cell for chosen in settings), torch.bool),
            wall_s=column([0.0] * len(counts)),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def counts(self) -> torch.Tensor:
        """(B,) atoms of each structure."""
        return torch.bincount(self.system, minlength=len(self))

    @cached_property
    def deformations(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, 3) what turns the undeformed cells into those of now, and its inverse."""
        forth, back = exponential(torch.cat([self.strains, -self.strains])).tensor_split(2)
        return forth, back

    def batch(self) -> Batch:
        """Return the structures as a potential reads them."""
        deformation, _ = self.deformations
        return Batch(
            positions=rows_times(self.undeformed, deformation[self.system]),
            cells=product(self.origins, deformation),
            numbers=self.numbers,
            charges=self.charges,
            system=self.system,
            spins=self.spins,
        )

    def select(self, keep: torch.Tensor) -> State:
        """Return some of the structures (B,), in the same order."""
        return select(self, keep, self.system)

    def joined(self, other: State) -> State:
        """Return these structures with others behind them."""
        mine, theirs = _columns(self), _columns(other)
        both = {name: torch.cat([mine[name], theirs[name]]) for name in mine}
        both["system"] = torch.cat([self.system, other.system + len(self)])
        return State(**both)

    def moved(self, undeformed: torch.Tensor, strains: torch.Tensor) -> State:
        """Return the structures at another geometry."""
        return replace(self, undeformed=undeformed, strains=strains)

    def final_atoms(self, start: Atoms, row: int, geometry: Batch) -> Atoms:
        """Return one structure at this geometry, with the labels that travelled with it.

        Everything on the CPU.
        """
        mine = self.system == row
        atoms: Atoms = start.copy()
        atoms.set_cell(geometry.cells[row].numpy())
        atoms.positions[:] = geometry.positions[mine].numpy()
        atoms.numbers[:] = self.numbers[mine].numpy()
        labels = self.labels[mine].numpy()
        for column, name in enumerate(("initial_charges", "initial_magmoms")):
            if name in atoms.arrays:
                atoms.arrays[name] = labels[:, column].copy()
        return atoms


Columns = TypeVar("Columns", bound="DataclassInstance")


def select(whole: Columns, keep: torch.Tensor, system: torch.Tensor) -> Columns:
    """Return some of the structures (B,) of a state, a batch, results or flags, in the same order.

    Parameters
    ----------
    system
        (N,) the structure of each atom.
    """
    atoms = keep[system]
    chosen = {
        name: column[atoms if name in _PER_ATOM else keep]
        for name, column in _columns(whole).items()
    }
    if "system" in chosen:
        chosen["system"] = (keep.cumsum(0) - 1)[chosen["system"]]
    return replace(whole, **chosen)


def on_cpu(whole: Columns) -> Columns:
    """Return the same in the memory of the CPU."""
    return replace(whole, **{name: column.cpu() for name, column in _columns(whole).items()})


def _columns(whole: DataclassInstance) -> dict[str, torch.Tensor]:
    """Return the tensors by name; moments may be missing."""
    columns = {field.name: getattr(whole, field.name) for field in fields(whole)}
    return {name: column for name, column in columns.items() if column is not None}


@dataclass(eq=False)
class Rows:
    """Tensors, and other rows, with one entry per structure, which come and go together."""

    def select(self, keep: torch.Tensor) -> Self:
        """Return some of the rows (B,), in the same order."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen = {
            name: value.select(keep) if isinstance(value, Rows) else value[keep]
            for name, value in mine.items()
        }
        return replace(self, **chosen)

    def joined(self, other: Self) -> Self:
        """Return these rows with others behind them."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        both = {
            name: mine.joined(theirs) if isinstance(mine, Rows) else torch.cat([mine, theirs])
            for name, (mine, theirs) in pairs.items()
        }
        return replace(self, **both)

    def put(self, chosen: torch.Tensor, others: Rows) -> None:
        """Replace some rows (B,) by those of others, in order."""
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(others, field.name)
            if isinstance(mine, Rows):
                mine.put(chosen, theirs)
            else:
                mine[chosen] = theirs


def labels_of(atoms: Atoms) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return initial charges and magnetic moments (n_atoms, 2)."""
    return np.column_stack([atoms.get_initial_charges(), atoms.get_initial_magnetic_moments()])


def _joined(
    arrays: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.generic]]], device: torch.device
) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(arrays).astype(np.float64)).to(device)
