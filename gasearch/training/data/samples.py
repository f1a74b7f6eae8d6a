"""Frames as tensors, made once: neighbours do not change while the weights do.

A sample is one labelled structure; a unit is what one step must see together, one sample or the two
of a label pair; a minibatch is some units joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from gasearch.potentials.contract import Batch
from gasearch.potentials.networks.network import Edges, find_edges
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.training.data.frames import Frame
from gasearch.training.data.label_pairs import LabelPair


@dataclass(frozen=True, eq=False)
class Targets:
    """Labels of B structures with N atoms, float64; NaN where unknown.

    Parameters
    ----------
    energies
        (B,) of the cells, in eV; the energy reference is not taken off.
    forces
        (N, 3), in eV/Å.
    stresses
        (B, 3, 3), in eV/Å^3.
    moments
        (N,), in Bohr magnetons.
    charges
        (N,) partial charges, in e.
    weights
        (B,) how much a structure counts.
    """

    energies: torch.Tensor
    forces: torch.Tensor
    stresses: torch.Tensor
    moments: torch.Tensor
    charges: torch.Tensor
    weights: torch.Tensor


@dataclass(frozen=True, eq=False)
class Sample:
    """One structure with everything that does not depend on the weights.

    Parameters
    ----------
    batch
        Of this structure alone.
    slots
        (n_atoms,) as the network reads species.
    edges
        Within the cutoff of the network.
    targets
        Its labels.
    """

    batch: Batch
    slots: torch.Tensor
    edges: Edges
    targets: Targets


@dataclass(frozen=True, eq=False)
class Unit:
    """What must share a minibatch.

    Parameters
    ----------
    samples
        One, or the foreign and the own order of a label pair.
    difference
        Energy of the first minus that of the second sample, in eV; NaN for a single sample.
    weight
        Of the difference.
    """

    samples: tuple[Sample, ...]
    difference: float = float("nan")
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Minibatch:
    """Units joined.

    Parameters
    ----------
    batch, slots, edges, targets
        Of all structures.
    first, second
        (D,) int64, the structures of which energy differences are known.
    differences
        (D,) float64, in eV.
    difference_weights
        (D,) float64.
    """

    batch: Batch
    slots: torch.Tensor
    edges: Edges
    targets: Targets
    first: torch.Tensor
    second: torch.Tensor
    differences: torch.Tensor
    difference_weights: torch.Tensor

    def to(self, device: str) -> Minibatch:
        """Return the minibatch on a device."""
        moved: Minibatch = self if device == "cpu" else _moved(self, device)
        return moved


def make_sample(
    atoms: Atoms, species_map: SpeciesMap, cutoff: float, frame: Frame | None = None
) -> Sample:
    """Return a structure as tensors, with the labels of a frame or with none."""
    batch = Batch.from_atoms([atoms])
    slots = species_map(batch.numbers, batch.charges, batch.spins)
    return Sample(batch, slots, find_edges(batch, cutoff), _targets(len(atoms), frame))


def frame_unit(frame: Frame, species_map: SpeciesMap, cutoff: float, weight: float = 1.0) -> Unit:
    """Return a frame as a unit of its own."""
    sample = make_sample(frame.atoms, species_map, cutoff, frame)
    sample.targets.weights.fill_(weight)
    return Unit((sample,))


def pair_unit(pair: LabelPair, species_map: SpeciesMap, cutoff: float, scale: float) -> Unit:
    """Return a label pair as a unit: the less certain next to `scale` (eV), the less it counts."""
    both = (make_sample(atoms, species_map, cutoff) for atoms in (pair.foreign, pair.own))
    weight = scale**2 / (scale**2 + pair.uncertainty**2)
    return Unit(tuple(both), pair.difference, weight)


def join(units: Sequence[Unit]) -> Minibatch:
    """Return units as one batch; pairs of edges keep their places in the two halves."""
    samples = [sample for unit in units for sample in unit.samples]
    starts = np.cumsum([0, *(len(unit.samples) for unit in units)])[:-1]
    paired = [k for k, unit in enumerate(units) if len(unit.samples) == 2]
    first = torch.tensor([int(starts[k]) for k in paired], dtype=torch.int64)
    return Minibatch(
        batch=_join_batches([sample.batch for sample in samples]),
        slots=torch.cat([sample.slots for sample in samples]),
        edges=_join_edges(samples),
        targets=_join_targets([sample.targets for sample in samples]),
        first=first,
        second=first + 1,
        differences=_numbers([units[k].difference for k in paired]),
        difference_weights=_numbers([units[k].weight for k in paired]),
    )


def _join_batches(batches: Sequence[Batch]) -> Batch:
    counts = torch.tensor([len(batch.positions) for batch in batches])
    return Batch(
        positions=torch.cat([batch.positions for batch in batches]),
        cells=torch.cat([batch.cells for batch in batches]),
        numbers=torch.cat([batch.numbers for batch in batches]),
        charges=torch.cat([batch.charges for batch in batches]),
        system=torch.arange(len(batches)).repeat_interleave(counts),
        spins=torch.cat([batch.spins for batch in batches]),
    )


def _join_edges(samples: Sequence[Sample]) -> Edges:
    """Return all edges; the second half is still the first half reversed."""
    counts = np.cumsum([0, *(len(sample.slots) for sample in samples)]).tolist()
    halves = []
    for half in (0, 1):
        halves += [
            Edges(
                i=edges.i.chunk(2)[half] + counts[k],
                j=edges.j.chunk(2)[half] + counts[k],
                offsets=edges.offsets.chunk(2)[half],
                system=edges.system.chunk(2)[half] + k,
            )
            for k, edges in enumerate(sample.edges for sample in samples)
        ]
    return Edges(
        i=torch.cat([part.i for part in halves]),
        j=torch.cat([part.j for part in halves]),
        offsets=torch.cat([part.offsets for part in halves]),
        system=torch.cat([part.system for part in halves]),
    )


def _join_targets(targets: Sequence[Targets]) -> Targets:
    names = ("energies", "forces", "stresses", "moments", "charges", "weights")
    return Targets(*(torch.cat([getattr(one, name) for one in targets]) for name in names))


def _targets(n_atoms: int, frame: Frame | None) -> Targets:
    known = Frame(Atoms()) if frame is None else frame
    return Targets(
        energies=_numbers([float("nan") if known.energy is None else known.energy]),
        forces=_filled(known.forces, (n_atoms, 3)),
        stresses=_filled(known.stress, (3, 3))[None],
        moments=_filled(known.moments, (n_atoms,)),
        charges=_filled(known.partial_charges, (n_atoms,)),
        weights=_numbers([1.0]),
    )


def _moved(held: Any, device: str) -> Any:
    """Return a dataclass of tensors, and of dataclasses of tensors, on a device."""
    if isinstance(held, torch.Tensor):
        return held.to(device)
    return type(held)(*(_moved(getattr(held, field.name), device) for field in fields(held)))


def _filled(values: NDArray[np.float64] | None, shape: tuple[int, ...]) -> torch.Tensor:
    if values is None:
        return torch.full(shape, torch.nan, dtype=torch.float64)
    return torch.tensor(np.asarray(values, dtype=np.float64))


def _numbers(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)
