"""PaiNN, and cPaiNN, which is PaiNN with linear heads for moments and charges.

Both stand on schnetpack's representation: its layers, bases and cutoffs, with its numbers. Vector
features pass through unbiased layers only, so that energies are rotation-invariant to rounding.

Schütt et al., ICML 2021 (arXiv 2102.03150); Petersen et al. 2026 (arXiv 2603.26471).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from gasearch.errors import UsageError
from gasearch.potentials.networks.guarded_imports import import_schnetpack
from gasearch.potentials.networks.network import Graph, Network, NetworkOutput
from gasearch.potentials.networks.slot_table import SlotTable

if TYPE_CHECKING:
    pass


class NoChargeHeadError(UsageError):
    """A question about the charges of a network that has learned none."""

    def __init__(self, architecture: str) -> None:
        super().__init__(architecture)
        self.architecture = architecture

    def __str__(self) -> str:
        return (
            f"this {self.architecture} network has no charge head: its training data have no Bader "
            "charges, and formal charges are labels, which it is never trained on."
        )


class PainnNetwork(Network):
    """PaiNN with an energy per atom and, if wanted, a moment, from its last scalar features.

    Parameters
    ----------
    slots
        Of all species that the network shall know, such as (8, 11, 15, 26, 31).
    cutoff
        In Å.
    n_features
        Width of scalar and vector features.
    n_interactions
        Message-passing layers.
    n_radial
        Gaussians that a distance is written in.
    moments
        Whether there is a moment head.
    scale
        Of the energies, in eV: what an untrained network gives is of this size.
    """

    architecture = "painn"

    def __init__(
        self,
        slots: Sequence[int],
        cutoff: float = 5.0,
        n_features: int = 64,
        n_interactions: int = 3,
        n_radial: int = 20,
        moments: bool = True,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.arguments = {
            "slots": list(slots),
            "cutoff": cutoff,
            "n_features": n_features,
            "n_interactions": n_interactions,
            "n_radial": n_radial,
            "moments": moments,
            "scale": scale,
        }
        self.cutoff = cutoff
        self.has_moments = moments
        self.scale = scale
        nn = import_schnetpack().nn
        basis = nn.GaussianRBF(n_radial, cutoff)
        self.table = SlotTable(slots)
        self.representation = _representation(len(slots), basis, n_features, n_interactions, cutoff)
        self.energy_head = nn.build_mlp(n_features, 1)
        self.moment_head = nn.build_mlp(n_features, 1) if moments else None

    def forward(self, graph: Graph) -> NetworkOutput:
        """Return energies and, with a moment head, moments."""
        features = scalar_features(self.representation, self.table(graph.slots), graph)[-1]
        energies = self.energy_head(features).squeeze(1)
        return NetworkOutput(
            energies=self.scale * graph.sum_by_system(energies),
            moments=_per_atom(self.moment_head, features),
            features=features,
        )

    def clone_slot(self, source: int, target: int) -> None:
        """Make a slot feel and be felt as another: atoms of the two are alike until trained."""
        _clone_row(self.representation.embedding, self.table, source, target)


class CpainnNetwork(Network):
    """cPaiNN: PaiNN whose scalar features also give moments and partial charges, linearly.

    The heads read the features two layers before the last (of the first where there are only two),
    so that the last layers are free to serve the energy. A charge is something that the network
    says and nothing that it reads: it never enters the energy.

    Parameters
    ----------
    slots
        Of all species that the network shall know, such as (8, 11, 15, 26, 31).
    cutoff
        In Å.
    n_features
        Width of scalar and vector features.
    n_interactions
        Message-passing layers.
    n_radial
        Spherical Bessel functions that a distance is written in.
    moments
        Whether there is a moment head.
    charges
        Whether there is a charge head: only for training data with Bader charges.
    scale
        Of the energies, in eV: what an untrained network gives is of this size.
    """

    architecture = "cpainn"

    def __init__(
        self,
        slots: Sequence[int],
        cutoff: float = 4.0,
        n_features: int = 64,
        n_interactions: int = 3,
        n_radial: int = 20,
        moments: bool = True,
        charges: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.arguments = {
            "slots": list(slots),
            "cutoff": cutoff,
            "n_features": n_features,
            "n_interactions": n_interactions,
            "n_radial": n_radial,
            "moments": moments,
            "charges": charges,
            "scale": scale,
        }
        self.cutoff = cutoff
        self.has_moments = moments
        self.has_charges = charges
        self.scale = scale
        nn = import_schnetpack().nn
        basis = nn.BesselRBF(n_radial, cutoff)
        self.table = SlotTable(slots)
        self.representation = _representation(len(slots), basis, n_features, n_interactions, cutoff)
        self.energy_head = nn.build_mlp(n_features, 1, n_hidden=n_features)
        self.moment_head = torch.nn.Linear(n_features, 1) if moments else None
        self.charge_head = torch.nn.Linear(n_features, 1) if charges else None

    def forward(self, graph: Graph) -> NetworkOutput:
        """Return energies and what there are heads for."""
        layers = scalar_features(self.representation, self.table(graph.slots), graph)
        earlier = layers[max(0, len(layers) - 3)]
        energies = self.energy_head(layers[-1]).squeeze(1)
        return NetworkOutput(
            energies=self.scale * graph.sum_by_system(energies),
            moments=_per_atom(self.moment_head, earlier),
            features=layers[-1],
            charges=_per_atom(self.charge_head, earlier),
        )

    def partial_charges(self, graph: Graph) -> torch.Tensor:
        """Return the charges (N,) of the atoms, in e, or raise where there is no charge head."""
        charges = self(graph).charges
        if charges is None:
            raise NoChargeHeadError(self.architecture)
        return torch.as_tensor(charges)

    def clone_slot(self, source: int, target: int) -> None:
        """Make a slot feel and be felt as another: atoms of the two are alike until trained."""
        _clone_row(self.representation.embedding, self.table, source, target)

    def extra_repr(self) -> str:
        """Return what torch writes between the brackets."""
        return "" if self.has_charges else "no charge head: no Bader charges in the training data"


def scalar_features(representation: Any, rows: torch.Tensor, graph: Graph) -> list[torch.Tensor]:
    """Return the scalar features (N, F) after each layer of a schnetpack PaiNN.

    What its own `forward` does, except that it keeps the last features only and works out the
    filters of an edge and of its reverse separately, though they are equal.

    Parameters
    ----------
    rows
        (N,) of the atoms in the embedding.
    """
    half = len(graph.distances) // 2
    distances = graph.distances[:half, None]
    filters = representation.filter_net(representation.radial_basis(distances))
    filters = filters * representation.cutoff_fn(distances)[..., None]
    by_layer = torch.cat([filters, filters]).chunk(representation.n_interactions, dim=-1)
    directions = graph.vectors / graph.distances[:, None]
    scalars = representation.embedding(rows)[:, None]
    vectors = scalars.new_zeros(len(rows), 3, representation.n_atom_basis)
    kept = []
    blocks = zip(representation.interactions, representation.mixing, by_layer, strict=True)
    for interaction, mixing, weights in blocks:
        scalars, vectors = interaction(
            scalars, vectors, weights, directions, graph.i, graph.j, len(rows)
        )
        scalars, vectors = mixing(scalars, vectors)
        kept.append(scalars.squeeze(1))
    return kept


def _representation(
    n_slots: int, basis: torch.nn.Module, n_features: int, n_interactions: int, cutoff: float
) -> Any:
    spk = import_schnetpack()
    return spk.representation.PaiNN(
        n_atom_basis=n_features,
        n_interactions=n_interactions,
        radial_basis=basis,
        cutoff_fn=spk.nn.CosineCutoff(cutoff),
        nuclear_embedding=torch.nn.Embedding(n_slots, n_features),
    )


def _per_atom(head: torch.nn.Module | None, features: torch.Tensor) -> torch.Tensor | None:
    return None if head is None else torch.as_tensor(head(features).squeeze(1))


def _clone_row(embedding: torch.nn.Embedding, table: SlotTable, source: int, target: int) -> None:
    with torch.no_grad():
        embedding.weight[table.row(target)] = embedding.weight[table.row(source)]
