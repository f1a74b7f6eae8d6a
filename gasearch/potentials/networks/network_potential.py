"""A network with its model card as a potential: labels in, float64 results out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from gasearch.crystal.species import MomentRanges, Species
from gasearch.potentials.contract import (
    Array,
    Batch,
    Evaluated,
    Uncertainty,
    UntrainedSpeciesError,
)
from gasearch.potentials.networks.committee import Committee, spread
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import Derived, Edges, Network, energies_forces_stress
from gasearch.potentials.networks.species_map import SpeciesMap, UnmappedSpeciesError

_MIN_VOLUME = 2.0  # Å^3 per atom; diamond has 5.7
_MIN_HEIGHT = 0.5  # Å, of a cell
_ATOMS_PER_PASS = 128  # on the CPU


class NetworkPotential:
    """The potential that a network makes with a model card.

    A structure whose cell or positions make no sense (not finite, collapsed) gets NaN and costs the
    others of its batch nothing.

    Parameters
    ----------
    network
        Moved to the device and into evaluation mode; its weights are frozen.
    card
        Species map, energy reference and so on.
    device
        Where `evaluate` expects its batches.
    """

    ranks_only = False

    def __init__(self, network: Network, card: ModelCard, device: str = "cpu") -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.card = card
        self.device = device
        self.name = card.name
        self.cutoff = float(network.cutoff)
        self.weights_hash = identity(network, card)
        self._slots = _closed_map(card)
        slots = [*card.species_map.slots.values(), len(chemical_symbols) - 1]
        self._reference = reference_table(card.reference, slots).to(device)

    @property
    def species(self) -> frozenset[Species] | None:
        """What it may be asked about."""
        return self.card.species

    @property
    def moment_ranges(self) -> MomentRanges | None:
        """Moments by which this potential tells oxidation states apart; None if it cannot."""
        return dict(self.card.moment_ranges) or None

    def extrapolations(self, atoms: Atoms) -> tuple[str, ...]:
        """Return by what a crystal lies outside the training domain, in words; () if inside."""
        return () if self.card.domain is None else self.card.domain.extrapolations(atoms)

    def evaluate(self, batch: Batch) -> Evaluated:
        """Return energies, forces, stresses and, where the network has them, moments."""
        return self._in_passes(batch, None)

    def evaluate_with_edges(self, batch: Batch, edges: Edges) -> Evaluated:
        """Return the same, for callers that have the neighbour list.

        Parameters
        ----------
        edges
            As `find_edges` gives them for this geometry; none for a structure that makes no sense.
        """
        return self._in_passes(batch, edges)

    def _in_passes(self, batch: Batch, edges: Edges | None) -> Evaluated:
        slots = self.slots(batch)
        passes = _passes(batch, is_sane(batch))
        if len(passes) == 1 and bool(passes[0].all()):
            return self._evaluate(batch, slots, edges)
        evaluated = Evaluated.unknown(
            batch, moments=self.network.has_moments, penalties=hasattr(self, "penalty")
        )
        for systems in passes:
            atoms = systems[batch.system]
            bound = None if edges is None else _subset_of_edges(edges, systems, atoms)
            found = self._evaluate(_subset(batch, systems, atoms), slots[atoms], bound)
            evaluated.put(found, systems, atoms)
        return evaluated

    def uncertainty(self, structures: Sequence[Atoms]) -> Uncertainty | None:
        """Return standard deviations of energies and largest forces, or None without a committee.

        They are those of the network, whatever holds it. On the CPU the numbers of a structure do
        not depend on the others.
        """
        committee = self.card.committee
        if committee is None:
            return None
        is_alone = torch.device(self.device).type == "cpu"
        groups = [[one] for one in structures] if is_alone else [list(structures)]
        found = [self._spread(committee, group) for group in groups if group]
        energies, forces = np.concatenate([np.empty((2, 0)), *found], axis=1)
        return Uncertainty(energies, committee.force_scale * forces)

    def _spread(self, committee: Committee, structures: Sequence[Atoms]) -> Array:
        """Return the spread of energies and of the forces that are least certain, (2, B)."""
        batch = Batch.from_atoms(structures, self.device)
        slots, sane = self.slots(batch), is_sane(batch)
        rows = np.full((2, len(batch)), np.nan)
        if bool(sane.any()):
            atoms = sane[batch.system]
            some = _subset(batch, sane, atoms)
            members = torch.from_numpy(committee.members).to(self.device)
            found = spread(self.network, some, slots[atoms], members)
            by_structure = found.forces.cpu().split(some.counts)
            largest = torch.stack([forces.max() for forces in by_structure])
            rows[:, sane.cpu().numpy()] = torch.stack([found.energies.cpu(), largest]).numpy()
        return rows

    def slots(self, batch: Batch) -> torch.Tensor:
        """Return the slots (N,) of the atoms, or raise for a species that was not trained."""
        try:
            return self._slots(batch.numbers, batch.charges, batch.spins)
        except UnmappedSpeciesError as error:
            if self.card.domain is None:
                raise
            raise UntrainedSpeciesError(self.name, error.unmapped, error.mapped) from error

    def _evaluate(self, batch: Batch, slots: torch.Tensor, edges: Edges | None) -> Evaluated:
        found = energies_forces_stress(
            self.network, batch, slots, edges, penalty=getattr(self, "penalty", None)
        )
        energies = found.output.energies.to(torch.float64) + self.reference_energies(batch, slots)
        if found.penalties is not None:
            energies = energies + found.penalties
        moments = _moments(self.network, found)
        return Evaluated(energies, found.forces, found.stresses, moments, found.penalties)

    def reference_energies(self, batch: Batch, slots: torch.Tensor) -> torch.Tensor:
        """Return (B,) what the card's energy reference adds to each cell, in eV, float64."""
        by_atom = self._reference[slots]
        totals = by_atom.new_zeros(len(batch))
        return totals.index_add(0, batch.system, by_atom)


def weights_bytes(network: Network) -> bytes:
    """Return the weights as a safetensors file, the same bytes for the same weights."""
    from safetensors.torch import save

    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }
    return bytes(save(tensors))


def description(network: Network, card: ModelCard) -> dict[str, Any]:
    """Return all that energies depend on but the weights, as JSON writes it."""
    return {
        "architecture": network.architecture,
        "arguments": dict(network.arguments),
        "species": card.species_map.to_json(),
        "is_open": card.species_map.is_open,
        "reference": {str(slot): energy for slot, energy in sorted(card.reference.items())},
    }


def identity(network: Network, card: ModelCard) -> str:
    """Return the sha256 of all that energies depend on: weights, arguments, species, reference."""
    weights = hashlib.sha256(weights_bytes(network)).hexdigest()
    document = {**description(network, card), "weights": weights}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _closed_map(card: ModelCard) -> SpeciesMap:
    """Return the map of what the model was trained on alone, where that is known."""
    if card.domain is None:
        return card.species_map
    return SpeciesMap({species: card.species_map.slot(species) for species in card.domain.species})


def reference_table(reference: Mapping[int, float], slots: Iterable[int]) -> torch.Tensor:
    """Return an energy reference (slots,) in float64; 0 for those of `slots` without one."""
    table = torch.zeros(max([*reference, *slots], default=0) + 1, dtype=torch.float64)
    for slot, energy in reference.items():
        table[slot] = energy
    return table


def _moments(network: Network, found: Derived) -> torch.Tensor | None:
    if not network.has_moments or found.output.moments is None:
        return None
    return found.output.moments.to(torch.float64)


def is_sane(batch: Batch) -> torch.Tensor:
    """Return for which structures (B,) a neighbour list can be made."""
    finite = batch.positions.isfinite().all(1) & batch.cells.isfinite().all((1, 2))[batch.system]
    bad = (~finite).to(torch.int64)
    n_bad = torch.zeros(len(batch), dtype=torch.int64, device=bad.device)
    n_bad.index_add_(0, batch.system, bad)
    cells = torch.where((n_bad == 0)[:, None, None], batch.cells, torch.zeros_like(batch.cells))
    volumes = torch.linalg.det(cells).abs()
    faces = torch.linalg.cross(cells.roll(1, 1), cells.roll(2, 1)).norm(dim=2)
    counts = torch.bincount(batch.system, minlength=len(batch))
    flat = volumes[:, None] <= _MIN_HEIGHT * faces
    sane: torch.Tensor = (volumes > _MIN_VOLUME * counts) & ~flat.any(1)
    return sane


def _passes(batch: Batch, sane: torch.Tensor) -> list[torch.Tensor]:
    """Return which structures (B,) to evaluate together; those that make no sense in none.

    On the CPU larger passes save no time and cost memory: 70 MB per 28 atoms of CHGNet.
    """
    if not bool(sane.any()):
        return []
    if sane.device.type != "cpu" or len(batch.positions) <= _ATOMS_PER_PASS:
        return [sane]
    groups: list[list[int]] = [[]]
    size = 0
    for system, count in enumerate(batch.counts):
        if not sane[system]:
            continue
        if groups[-1] and size + count > _ATOMS_PER_PASS:
            groups.append([])
            size = 0
        groups[-1].append(system)
        size += count
    return [torch.zeros_like(sane).index_fill(0, torch.tensor(group), True) for group in groups]


def _subset(batch: Batch, systems: torch.Tensor, atoms: torch.Tensor) -> Batch:
    renumbered = systems.cumsum(0) - 1
    return Batch(
        batch.positions[atoms],
        batch.cells[systems],
        batch.numbers[atoms],
        batch.charges[atoms],
        renumbered[batch.system[atoms]],
        batch.spins[atoms],
    )


def _subset_of_edges(edges: Edges, systems: torch.Tensor, atoms: torch.Tensor) -> Edges:
    keep = systems[edges.system]
    atom, system = atoms.cumsum(0) - 1, systems.cumsum(0) - 1
    return Edges(
        i=atom[edges.i[keep]],
        j=atom[edges.j[keep]],
        offsets=edges.offsets[keep],
        system=system[edges.system[keep]],
    )
