"""CHGNet (Deng et al., Nat. Mach. Intell. 2023): its own layers and weights, on our graphs.

Stock inference builds graphs one by one and takes two gradients that could be differentiated again;
here a batch has one graph and one gradient. Results equal the stock calculator's to rounding.
Where the weights come from is in `gasearch.potentials.chgnet_weights`.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import torch

from gasearch.errors import UsageError
from gasearch.potentials.architectures import require
from gasearch.potentials.network import Graph, Network, NetworkOutput

if TYPE_CHECKING:
    from gasearch.potentials.network_potential import NetworkPotential

N_ELEMENTS = 94
"""Slots of the stock embedding; slot z is row z - 1."""


class UnsupportedChgnetError(UsageError):
    """A CHGNet of a kind that is not computed here."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"this CHGNet {self.problem}, which gasearch does not support."


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
        if not self.model.mlp_first:
            raise UnsupportedChgnetError("pools atoms before its last layers (mlp_first = False)")
        if n_slots > N_ELEMENTS:
            width = self.model.atom_fea_dim
            self.model.atom_embedding.embedding = torch.nn.Embedding(n_slots, width)

    def forward(self, graph: Graph) -> NetworkOutput:
        """Return energies, moments and the features that moments are read from, (N, 64)."""
        model = self.model
        n_bonds = len(graph.i) // 2  # an edge and its reverse are one bond
        bond_of = torch.arange(n_bonds, device=graph.i.device).repeat(2)
        ends = torch.stack([graph.i, graph.j], dim=1)
        corners, first, second = bond_angles(graph, self.bond_cutoff)
        angles = torch.stack([corners, bond_of[first], bond_of[second]], dim=1)

        lengths = graph.distances[:n_bonds]
        units = graph.vectors / graph.distances[:, None]
        radial = model.bond_basis_expansion.rbf_expansion_ag(lengths)
        bonds = model.bond_embedding(radial)
        weights = model.bond_weights_ag(radial)
        near = model.bond_weights_bg(model.bond_basis_expansion.rbf_expansion_bg(lengths))
        turns = model.angle_embedding(model.angle_basis_expansion(units[first], units[second]))

        atoms = model.atom_embedding(graph.slots - 1)
        layers = zip(
            model.atom_conv_layers[:-1], model.bond_conv_layers, model.angle_layers, strict=True
        )
        for atom_layer, bond_layer, angle_layer in layers:
            atoms = atom_layer(atoms, bonds, weights, ends, bond_of)
            if len(angles) and bond_layer is not None:
                bonds = bond_layer(atoms, bonds, near, turns, angles)
                if angle_layer is not None:
                    turns = angle_layer(atoms, bonds, turns, angles)
        moments = model.site_wise(atoms).abs().squeeze(1)
        features = atoms
        atoms = model.atom_conv_layers[-1](atoms, bonds, weights, ends, bond_of)
        if model.readout_norm is not None:
            atoms = model.readout_norm(atoms)
        energies = graph.sum_by_system(model.mlp(atoms).squeeze(1))
        return NetworkOutput(energies, moments, features)


def bond_angles(graph: Graph, cutoff: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return all angles between two different short edges that start from one atom.

    Returns
    -------
    corners, first, second
        (A,) int64 each: the atom, and the two edges; both orders of a pair are there.
    """
    short = (graph.distances < cutoff).nonzero().squeeze(1)
    center = graph.i[short]
    by_center = torch.argsort(center, stable=True)
    short, center = short[by_center], center[by_center]
    counts = torch.bincount(center, minlength=len(graph.slots))
    starts = counts.cumsum(0) - counts
    partners = counts[center]
    first = torch.repeat_interleave(torch.arange(len(short), device=short.device), partners)
    rank = torch.arange(len(first), device=short.device) - (partners.cumsum(0) - partners)[first]
    second = starts[center][first] + rank
    different = first != second
    first, second = first[different], second[different]
    return center[first], short[first], short[second]


def chgnet(device: str = "cpu") -> NetworkPotential:
    """Return CHGNet 0.3.0 as it is: blind to oxidation states, but its moments tell them apart."""
    from gasearch.potentials.chgnet_weights import stock

    return stock(device=device)


def _stock_model(model_args: dict[str, Any]) -> Any:
    """Return a `chgnet.model.CHGNet` without composition model; it prints when it is made."""
    require("chgnet")
    with contextlib.redirect_stdout(io.StringIO()):
        from chgnet.model.model import CHGNet

        return CHGNet(**model_args, composition_model=None)
