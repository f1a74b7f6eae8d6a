"""What a potential is: a batch of structures goes in, energies, forces and stresses come out.

Architectures, checkpoints and the loading of plug-ins have files of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.species import SPINS, Species
from gasearch.crystal.species import species_of as labels_of
from gasearch.errors import UsageError

Array = NDArray[np.float64]


class NoChargesError(UsageError):
    """Atoms without formal charges: a charge-aware potential cannot read them."""

    def __init__(self, formula: str) -> None:
        super().__init__(formula)
        self.formula = formula

    def __str__(self) -> str:
        return (
            f"{self.formula} carries no formal charges: set them with "
            "atoms.set_initial_charges(...), one oxidation state per atom (Na 1, Fe 2 or 3, O -2)."
        )


class NotAnOxidationStateError(UsageError):
    """A charge that is no whole number."""

    def __init__(self, formula: str, charge: float) -> None:
        super().__init__(formula, charge)
        self.formula = formula
        self.charge = charge

    def __str__(self) -> str:
        return (
            f"{self.formula} has an initial charge of {self.charge:g}, expected whole oxidation "
            "states: partial charges belong inside a potential."
        )


class NotPeriodicError(UsageError):
    """A structure that is not a crystal."""

    def __init__(self, formula: str) -> None:
        super().__init__(formula)
        self.formula = formula

    def __str__(self) -> str:
        return (
            f"{self.formula} is not periodic in all three directions with a cell of finite volume."
        )


class UntrainedSpeciesError(UsageError):
    """A species that the potential has no parameters for."""

    def __init__(self, potential: str, unknown: Sequence[str], known: Sequence[str]) -> None:
        super().__init__(potential, unknown, known)
        self.potential = potential
        self.unknown = tuple(unknown)
        self.known = tuple(known)

    def __str__(self) -> str:
        return (
            f"potential {self.potential!r} does not know {', '.join(self.unknown)}; "
            f"it knows {', '.join(self.known)}."
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """Crystals to evaluate together; the atoms of one structure are consecutive.

    Parameters
    ----------
    positions
        (N, 3) float64, in Å, of the atoms of all structures.
    cells
        (B, 3, 3) float64, in Å; rows are lattice vectors.
    numbers
        (N,) int64, atomic numbers.
    charges
        (N,) int64, formal oxidation states, in e.
    system
        (N,) int64, ascending: the structure that each atom belongs to.
    spins
        (N,) int64, spin states as places in `gasearch.crystal.species.SPINS`; by default 0
        everywhere, high spin.
    """

    positions: torch.Tensor
    cells: torch.Tensor
    numbers: torch.Tensor
    charges: torch.Tensor
    system: torch.Tensor
    spins: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        if len(self.spins) != len(self.charges):
            object.__setattr__(self, "spins", torch.zeros_like(self.charges))

    @classmethod
    def from_atoms(cls, structures: Sequence[Atoms], device: str = "cpu") -> Batch:
        """Return the batch of these structures, whose formal charges are `initial_charges`."""
        charges = [formal_charges(atoms) for atoms in structures]
        system = np.repeat(np.arange(len(structures)), [len(atoms) for atoms in structures])
        return cls(
            positions=_tensor([atoms.positions for atoms in structures], np.float64, device),
            cells=_tensor([atoms.cell.array[None] for atoms in structures], np.float64, device),
            numbers=_tensor([atoms.numbers for atoms in structures], np.int64, device),
            charges=_tensor(charges, np.int64, device),
            system=torch.from_numpy(system).to(device),
            spins=_tensor([spin_labels(atoms) for atoms in structures], np.int64, device),
        )

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def counts(self) -> list[int]:
        """Atoms per structure."""
        return torch.bincount(self.system, minlength=len(self)).tolist()

    def atoms_of(self, rows: slice) -> slice:
        """Return the atoms of some consecutive structures."""
        bounds = torch.tensor([rows.start, rows.stop], device=self.system.device)
        first, last = torch.searchsorted(self.system, bounds).tolist()
        return slice(first, last)

    def part(self, rows: slice) -> Batch:
        """Return some consecutive structures, as a batch of their own.

        Copied: sums over memory that starts in the middle of a vector register round otherwise.
        """
        if rows == slice(0, len(self)):
            return self
        atoms = self.atoms_of(rows)
        return Batch(
            self.positions[atoms].clone(),
            self.cells[rows].clone(),
            self.numbers[atoms],
            self.charges[atoms],
            self.system[atoms] - rows.start,
            self.spins[atoms],
        )

    def split(self) -> Iterator[Batch]:
        """Yield the structures one by one, each a batch of its own."""
        return (self.part(slice(row, row + 1)) for row in range(len(self)))


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What a potential says about a batch; float64, on the device of the batch.

    Parameters
    ----------
    energies
        (B,) of the whole cells, in eV.
    forces
        (N, 3), in eV/Å.
    stresses
        (B, 3, 3), dE/d(strain)/volume in eV/Å^3, tension positive as in ASE.
    moments
        (N,) magnetic moments, in Bohr magnetons, or None where the potential has none.
    penalties
        (B,) what a hold adds to each energy, in eV; None where nothing is held.
    """

    energies: torch.Tensor
    forces: torch.Tensor
    stresses: torch.Tensor
    moments: torch.Tensor | None = None
    penalties: torch.Tensor | None = None

    @classmethod
    def unknown(cls, batch: Batch, *, moments: bool = True, penalties: bool = False) -> Evaluated:
        """Return results that are all NaN, to `put` those of parts in."""
        size, n = len(batch), len(batch.positions)
        nan = torch.full((), torch.nan, dtype=torch.float64, device=batch.positions.device)
        by_atom = nan.repeat(n) if moments else None
        held = nan.repeat(size) if penalties else None
        return cls(nan.repeat(size), nan.repeat(n, 3), nan.repeat(size, 3, 3), by_atom, held)

    def put(self, part: Evaluated, rows: slice | torch.Tensor, atoms: slice | torch.Tensor) -> None:
        """Write the results of a part where they belong.

        Parameters
        ----------
        rows, atoms
            Structures and atoms of the part: slices, or masks (B,) and (N,).
        """
        self.energies[rows] = part.energies
        self.forces[atoms] = part.forces
        self.stresses[rows] = part.stresses
        if self.moments is not None and part.moments is not None:
            self.moments[atoms] = part.moments
        if self.penalties is not None:
            self.penalties[rows] = torch.nan if part.penalties is None else part.penalties

    def in_double(self) -> Evaluated:
        """Return the same results in float64."""
        moments = None if self.moments is None else self.moments.double()
        penalties = None if self.penalties is None else self.penalties.double()
        return Evaluated(
            self.energies.double(), self.forces.double(), self.stresses.double(), moments, penalties
        )

    def by_structure(self, counts: Sequence[int]) -> list[Prediction]:
        """Return the results of each structure; `counts` are their numbers of atoms."""
        forces = self.forces.cpu().split([*counts])
        moments = [None] * len(counts) if self.moments is None else self.moments.cpu().split(counts)
        rows = zip(self.energies.tolist(), forces, self.stresses.cpu(), moments, strict=True)
        return [
            Prediction(e, f.numpy(), s.numpy(), None if m is None else m.numpy())
            for e, f, s, m in rows
        ]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a potential says about one structure, as arrays in float64.

    Parameters
    ----------
    energy
        Of the cell, in eV.
    forces
        (n_atoms, 3), in eV/Å.
    stress
        (3, 3), in eV/Å^3.
    moments
        (n_atoms,), in Bohr magnetons, or None.
    """

    energy: float
    forces: Array
    stress: Array
    moments: Array | None


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """How certain a potential is of some structures: standard deviations.

    Parameters
    ----------
    energy_eV
        (B,) of the energy of each cell; NaN for a structure that makes no sense.
    force_eV_per_A
        (B,) of the largest error of a force on any of its atoms (norm).
    """

    energy_eV: Array
    force_eV_per_A: Array


@runtime_checkable
class Potential(Protocol):
    """A function from crystals with formal charges to energies, at one level of theory.

    A potential whose moments tell oxidation states apart has an attribute `moment_ranges` besides:
    the lowest and highest moment of each species, by `Species` (see `gasearch.relax.audit`). One
    that knows how certain it is has `uncertainty(structures) -> Uncertainty | None` for a sequence
    of Atoms: relaxers ask it once, of what they relaxed.

    `evaluate` is a pure function of the batch. It raises for a batch that makes no sense (untrained
    species, a charged cell), and gives non-finite numbers, not exceptions, for bad geometry.
    """

    @property
    def name(self) -> str:
        """How a user asks for it."""
        ...

    @property
    def cutoff(self) -> float:
        """Largest distance at which two atoms feel each other directly, in Å; inf if unknown."""
        ...

    @property
    def ranks_only(self) -> bool:
        """Whether its energies order structures of one composition but make no hull."""
        ...

    @property
    def species(self) -> frozenset[Species] | None:
        """What it has parameters for; None for anything."""
        ...

    @property
    def weights_hash(self) -> str:
        """What identifies its parameters: 64 hexadecimal digits."""
        ...

    @property
    def device(self) -> str:
        """Where it wants its batches, as torch writes it: "cpu", "cuda"."""
        ...

    def evaluate(self, batch: Batch) -> Evaluated:
        """Return energies, forces and stresses of all structures of the batch."""
        ...


def formal_charges(atoms: Atoms) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the oxidation states (n_atoms,) of a crystal, or raise for one that has none."""
    formula = str(atoms.symbols)
    if not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise NotPeriodicError(formula)
    if not atoms.has("initial_charges"):
        raise NoChargesError(formula)
    charges = atoms.arrays["initial_charges"]
    whole = np.rint(charges)
    odd = np.abs(charges - whole) > 1e-6
    if odd.any():
        raise NotAnOxidationStateError(formula, float(charges[odd][0]))
    result: np.ndarray[tuple[int], np.dtype[np.int64]] = whole.astype(np.int64)
    return result


def spin_labels(atoms: Atoms) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the spin states (n_atoms,) of a crystal, as places in `SPINS`."""
    moments = atoms.arrays.get("initial_magmoms")
    if moments is None or moments.ndim > 1:
        return np.zeros(len(atoms), dtype=np.int64)
    labels = (atoms.get_initial_charges(), moments)
    return _spins(atoms.numbers.tobytes(), *(np.asarray(x, np.float64).tobytes() for x in labels))


@lru_cache(maxsize=256)
def _spins(
    numbers: bytes, charges: bytes, moments: bytes
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the spin states of labels that stay the same while a structure is relaxed."""
    columns = (np.frombuffer(charges), np.frombuffer(moments))
    atoms = Atoms(np.frombuffer(numbers, dtype=np.int64), charges=columns[0], magmoms=columns[1])
    result = np.array([SPINS.index(one.spin) for one in labels_of(atoms)], dtype=np.int64)
    result.setflags(write=False)
    return result


def species_of(atoms: Atoms) -> frozenset[Species]:
    """Return the species that occur in a crystal with formal charges."""
    formal_charges(atoms)
    return frozenset(labels_of(atoms))


def check_species(potential: Potential, atoms: Atoms) -> None:
    """Raise where the potential has no parameters for a species of the crystal."""
    if potential.species is None:
        return
    unknown = sorted(species_of(atoms) - potential.species)
    if unknown:
        known = sorted(potential.species)
        raise UntrainedSpeciesError(potential.name, [*map(str, unknown)], [*map(str, known)])


def _tensor(arrays: Sequence[np.ndarray], dtype: type, device: str) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(arrays).astype(dtype)).to(device)
