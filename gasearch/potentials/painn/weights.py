"""Models that schnetpack's own trainer made, of any representation, as they are.

Such a file is a pickle of the whole model: it cannot become a checkpoint of gasearch, but it can
relax and rank. It is taken to give eV and to read Å.
"""

from __future__ import annotations

import io
from typing import Any

import torch

from gasearch.potentials.networks.declaration import UnsupportedModelError
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import Graph, Network, NetworkOutput, quiet
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.potentials.painn.network import import_schnetpack


class SchnetpackNetwork(Network):
    """A model of schnetpack, without the modules that take derivatives: one backward pass serves.

    Parameters
    ----------
    model
        A `schnetpack.model.NeuralNetworkPotential`; its slots are atomic numbers.
    """

    architecture = "schnetpack"
    has_moments = False

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.arguments = {"model": str(model)}
        self.cutoff = float(model.representation.cutoff)
        self.energy_key = _energy_key(model)
        self.parts = torch.nn.ModuleList(_parts(model))
        self.n_slots = int(model.representation.embedding.weight.shape[0])

    def forward(self, graph: Graph) -> NetworkOutput:
        """Return energies, and as features the scalars of the representation."""
        found = _inputs(graph)
        for part in self.parts:
            found = part(found)
        return NetworkOutput(
            energies=found[self.energy_key].to(torch.float64),
            moments=None,
            features=found["scalar_representation"],
        )


def from_schnetpack_file(
    content: bytes, species_map: SpeciesMap, name: str, device: str = "cpu"
) -> NetworkPotential:
    """Return the potential of a `best_model` of schnetpack as it is."""
    spk = import_schnetpack()
    with quiet():
        model = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    if not isinstance(model, spk.model.NeuralNetworkPotential):
        kind = type(model).__name__
        raise _unsupported(f"is a {kind}, expected a NeuralNetworkPotential")
    if not hasattr(model.representation, "electronic_embeddings"):  # before schnetpack 2.1
        model.representation.electronic_embeddings = []
    network = SchnetpackNetwork(model)
    for species, slot in species_map.slots.items():
        if slot >= network.n_slots:
            raise _unsupported(f"has no row for the slot {slot} of {species}")
    return NetworkPotential(network, ModelCard(name, species_map), device)


def _inputs(graph: Graph) -> dict[str, torch.Tensor]:
    """Return the graph in schnetpack's words."""
    names = import_schnetpack().properties
    dtype = graph.vectors.dtype
    return {
        names.Z: graph.slots,
        names.R: graph.positions.to(dtype),
        names.cell: graph.cells.to(dtype),
        names.n_atoms: torch.bincount(graph.system, minlength=graph.n_systems),
        names.idx_m: graph.system,
        names.idx_i: graph.i,
        names.idx_j: graph.j,
        names.offsets: graph.shifts.to(dtype),
        names.Rij: graph.vectors,
    }


def _parts(model: Any) -> list[torch.nn.Module]:
    """Return what has to run, in order, to get from vectors to energies."""
    spk = import_schnetpack()
    before = (spk.atomistic.PairwiseDistances, spk.atomistic.Strain)
    inputs = [module for module in model.input_modules if not isinstance(module, before)]
    outputs = [one for one in model.output_modules if not getattr(one, "required_derivatives", ())]
    after = list(model.postprocessors) if model.do_postprocessing else []
    return [*inputs, model.representation, *outputs, *after]


def _energy_key(model: Any) -> str:
    """Return the name of the energy: what forces are taken of, or else the only output."""
    keys = [one.energy_key for one in model.output_modules if hasattr(one, "energy_key")]
    keys += [one.output_key for one in model.output_modules if hasattr(one, "output_key")]
    if not keys:
        raise _unsupported("has no output module with an energy")
    return str(keys[0])


def _unsupported(problem: str) -> UnsupportedModelError:
    return UnsupportedModelError("schnetpack model", problem)
