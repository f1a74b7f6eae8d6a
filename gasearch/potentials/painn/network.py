"""PaiNN, and cPaiNN, which is PaiNN with linear heads for moments and charges.

Both stand on schnetpack's representation: its layers, bases and cutoffs, with its numbers. Vector
features pass through unbiased layers only, so that energies are rotation-invariant to rounding.

Schütt et al., ICML 2021 (arXiv 2102.03150); Petersen et al. 2026 (arXiv 2603.26471).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch

from gasearch.potentials.networks.network import (
    Graph,
    Network,
    NetworkOutput,
    TrainingData,
    arguments_of,
    quiet,
)
from gasearch.potentials.networks.slot_table import SlotTable
from gasearch.potentials.painn import ARCHITECTURES


class _Painn(Network):
    """What PaiNN and cPaiNN have in common: the representation, and a slot for each row of it."""

    energy_head: torch.nn.Sequential

    def __init__(self, basis: str, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.arguments = arguments
        self.cutoff = arguments["cutoff"]
        self.has_moments = arguments["moments"]
        self.scale = arguments["scale"]
        self.table = SlotTable(arguments["slots"])
        spk = import_schnetpack()
        width = arguments["n_features"]
        self.representation = spk.representation.PaiNN(
            n_atom_basis=width,
            n_interactions=arguments["n_interactions"],
            radial_basis=getattr(spk.nn, basis)(arguments["n_radial"], self.cutoff),
            cutoff_fn=spk.nn.CosineCutoff(self.cutoff),
            nuclear_embedding=torch.nn.Embedding(len(self.table), width),
        )

    @property
    def readout(self) -> torch.nn.Module:
        """The last linear layer of the energy."""
        return self.energy_head[-1]


class PainnNetwork(_Painn):
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
        super().__init__("GaussianRBF", arguments_of(locals()))
        nn = import_schnetpack().nn
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


class CpainnNetwork(_Painn):
    """cPaiNN: PaiNN whose scalar features also give moments and partial charges, linearly.

    The heads read the features two layers before the last (of the first where there are only two),
    so that the last layers are free to serve the energy. A charge is something that the network
    says and nothing that it reads: it never enters the energy.

    Distances are written in spherical Bessel functions; parameters that are not listed are those of
    PaiNN.

    Parameters
    ----------
    charges
        Whether there is a charge head: only for training data with Bader charges.
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
        super().__init__("BesselRBF", arguments_of(locals()))
        self.has_charges = charges
        self.energy_head = import_schnetpack().nn.build_mlp(n_features, 1, n_hidden=n_features)
        self.moment_head = torch.nn.Linear(n_features, 1) if moments else None
        self.charge_head = torch.nn.Linear(n_features, 1) if charges else None

    @classmethod
    def arguments_for(cls, data: TrainingData, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a fresh network: a charge head where there are charges."""
        return super().arguments_for(data, {"charges": data.has_partial_charges, **given})

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

    def extra_repr(self) -> str:
        """Return what torch writes between the brackets."""
        return "" if self.has_charges else "no charge head: no Bader charges in the training data"


def import_schnetpack() -> Any:
    """Return the package `schnetpack`; eight seconds the first time.

    Raises
    ------
    MissingPackageError
        With the command that brings it.
    """
    ARCHITECTURES["painn"].require()
    from torch.utils.data import dataloader

    if not hasattr(dataloader, "T_co"):
        # schnetpack 2.1 imports this name, for a type hint; torch 2.5 made it private.
        dataloader.T_co = TypeVar("T_co", covariant=True)  # type: ignore[attr-defined]
    with quiet():
        return importlib.import_module("schnetpack")


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


def _per_atom(head: torch.nn.Module | None, features: torch.Tensor) -> torch.Tensor | None:
    return None if head is None else torch.as_tensor(head(features).squeeze(1))
