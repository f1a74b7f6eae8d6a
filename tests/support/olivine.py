"""Decorated olivine cells, toy potentials for them, and how to compare what relaxers make."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from ase import Atoms

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.species import Species
from gasearch.potentials.contract import Batch, Evaluated
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import Graph, Network, NetworkOutput
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.batched.state import State
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))


def olivine(x: float = 0.5, seed: int = 0, rattle: float = 0.05) -> Atoms:
    """Return a random order of this sodium content, its atoms displaced at random, in Å."""
    rng = np.random.default_rng(seed)
    atoms = Decoration.random(HOST, HOST.composition_at(x), rng).to_atoms()
    atoms.positions += rng.normal(0, rattle, atoms.positions.shape)
    return atoms


def undistorted(x: float = 0.5, seed: int = 0) -> Atoms:
    """Return a random order on the host's own sites, where each search begins."""
    return olivine(x, seed, rattle=0.0)


class WithMoments(Pmmcs):
    """Reads every Fe as Fe2+, whatever its label."""

    moment_ranges = {Species("Fe", 2): (3.0, 4.15), Species("Fe", 3): (4.15, 5.0)}  # noqa: RUF012

    def evaluate(self, batch: Batch) -> Evaluated:
        moments = torch.where(batch.numbers == 26, 3.9, 0.0)
        return replace(super().evaluate(batch), moments=moments)


class LabelReader:
    """Reads the high-spin moments that the labels say."""

    ranges = WithMoments.moment_ranges

    quantity = "moment"

    def read(self, atoms: Atoms) -> np.ndarray:
        return 0.92 * atoms.get_initial_magnetic_moments()


class Balls(Network):
    """Soft balls that hold together; every slot has its own size."""

    architecture = "toy"
    cutoff = 5.0
    arguments: dict[str, object] = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.sizes = torch.nn.Parameter(torch.linspace(0.8, 1.1, 40))

    def forward(self, graph: Graph) -> NetworkOutput:
        sizes = self.sizes[graph.slots]
        fade = (1 - graph.distances / self.cutoff).clamp(0) ** 3
        ratio = (sizes[graph.i] + sizes[graph.j]) / graph.distances
        energies = torch.zeros_like(sizes).index_add(0, graph.i, fade * (ratio**8 - ratio**4))
        return NetworkOutput(graph.sum_by_system(energies), None, energies[:, None])


def balls(dtype: torch.dtype = torch.float64) -> NetworkPotential:
    species = {"Na+": 11, "Fe2+": 26, "Fe3+": 31, "P5+": 15, "O2-": 8}
    slots = {Species.parse(text): slot for text, slot in species.items()}
    return NetworkPotential(Balls().to(dtype), ModelCard("balls", SpeciesMap(slots)))


def assert_equal(relaxed: Relaxed, other: Relaxed) -> None:
    """Compare all numbers to the last bit."""
    assert (relaxed.verdict, relaxed.reason) == (other.verdict, other.reason)
    assert (relaxed.energy, relaxed.n_calls) == (other.energy, other.n_calls)
    np.testing.assert_array_equal(relaxed.atoms.positions, other.atoms.positions)
    np.testing.assert_array_equal(relaxed.atoms.cell.array, other.atoms.cell.array)
    np.testing.assert_array_equal(relaxed.forces, other.forces)
    np.testing.assert_array_equal(relaxed.stress, other.stress)


def state_of(*structures: Atoms, device: str = "cpu") -> State:
    """Return structures that the batch relaxer has just taken in."""
    arrivals = [(k, atoms, RelaxSettings()) for k, atoms in enumerate(structures)]
    return State.start(arrivals, torch.device(device))
