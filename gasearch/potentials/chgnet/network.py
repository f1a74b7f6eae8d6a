"""CHGNet (Deng et al., Nat. Mach. Intell. 2023): its own layers and weights, on our graphs.

Stock inference builds graphs one by one and takes two gradients that could be differentiated again;
here a batch has one graph and one gradient. Results equal the stock calculator's to rounding.
Where the weights come from is in `gasearch.potentials.chgnet.weights`.
"""

from __future__ import annotations

from typing import Any

import torch

from gasearch.potentials.chgnet import ARCHITECTURES
from gasearch.potentials.chgnet.layers import (
    Angles,
    angle_update,
    atom_update,
    bond_update,
    find_angles,
    unsupported,
)
from gasearch.potentials.networks.declaration import UnsupportedModelError
from gasearch.potentials.networks.network import Graph, Network, NetworkOutput, quiet

N_ELEMENTS = 94
"""Slots of the stock embedding; slot z is row z - 1."""


class ChgnetNetwork(Network):
    """CHGNet without its composition model, which is an energy reference and belongs to the card.

    Parameters
    ----------
    n_slots
        Rows of the embedding: 94, or more for species with slots of their own.
    model_args
        As `chgnet.model.CHGNet` takes them.
    """

    architecture = "chgnet"
    has_moments = True

    def __init__(self, n_slots: int = N_ELEMENTS, **model_args: Any) -> None:
        super().__init__()
        self.arguments = {"n_slots": n_slots, **model_args}
        self.model = _stock_model(model_args)
        self.cutoff = float(self.model.graph_converter.atom_graph_cutoff)
        self.bond_cutoff = float(self.model.graph_converter.bond_graph_cutoff)
        if problem := unsupported(self.model):
            raise UnsupportedModelError("CHGNet", problem)
        if n_slots > N_ELEMENTS:
            width = self.model.atom_fea_dim
            self.model.atom_embedding.embedding = torch.nn.Embedding(n_slots, width)

    def forward(self, graph: Graph) -> NetworkOutput:
        """Return energies, moments and the features that moments are read from, (N, 64)."""
        model = self.model
        angles = find_angles(graph, self.bond_cutoff)
        lengths = graph.distances[: len(graph.i) // 2]  # of bonds: an edge and its reverse
        radial = model.bond_basis_expansion.rbf_expansion_ag(lengths)
        bonds, fading = model.bond_embedding(radial), model.bond_weights_ag(radial)
        near = model.bond_basis_expansion.rbf_expansion_bg(lengths[angles.short])
        near = model.bond_weights_bg(near)
        turns = model.angle_embedding(self._bends(graph, angles))

        atoms = model.atom_embedding(graph.slots - 1)
        *inner, last = model.atom_conv_layers
        for k, atom_layer in enumerate(inner):
            if k:  # the stock model also updates angles after the last bonds, which has no effect
                turns = angle_update(model.angle_layers[k - 1], atoms, bonds, turns, angles)
            atoms = atom_update(atom_layer, atoms, bonds, fading, graph)
            bonds = bond_update(model.bond_conv_layers[k], atoms, bonds, turns, near, angles)
        moments = model.site_wise(atoms).abs().squeeze(1)
        final = atom_update(last, atoms, bonds, fading, graph)
        if model.readout_norm is not None:
            final = model.readout_norm(final)
        energies = graph.sum_by_system(model.mlp(final).squeeze(1))
        return NetworkOutput(energies, moments, features=atoms)

    @property
    def readout(self) -> torch.nn.Module:
        """The last linear layer of the energy."""
        linear = [one for one in self.model.mlp.modules() if isinstance(one, torch.nn.Linear)]
        return linear[-1]

    def _bends(self, graph: Graph, angles: Angles) -> torch.Tensor:
        """Return the Fourier features (A, 31) of the angles."""
        units = graph.vectors / graph.distances[:, None]
        edges = torch.cat([angles.short, angles.short + len(graph.i) // 2])
        short = units[edges]
        bends: torch.Tensor = self.model.angle_basis_expansion(
            short[angles.first], short[angles.second]
        )
        return bends


def _stock_model(model_args: dict[str, Any]) -> Any:
    """Return a `chgnet.model.CHGNet` without composition model; it prints when it is made."""
    ARCHITECTURES["chgnet"].require()
    with quiet():
        from chgnet.model.model import CHGNet

        arguments: dict[str, Any] = {**model_args, "composition_model": None}
        return CHGNet(**arguments)
