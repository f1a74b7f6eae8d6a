"""How certain a network is: weight vectors of its last layer that fit its frames about as well.

All members share everything before the last linear layer, so that a question costs one evaluation
and one more gradient per member. Where they come from is in `gasearch.training.committee`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from gasearch.errors import UsageError
from gasearch.potentials.contract import Array, Batch
from gasearch.potentials.networks.network import Graph, Network, find_edges, make_graph

_DIGITS = 7


class NoReadoutError(UsageError):
    """An architecture that does not say which layer its energy is linear in."""

    def __init__(self, architecture: str) -> None:
        super().__init__(architecture)
        self.architecture = architecture

    def __str__(self) -> str:
        return (
            f"{self.architecture} names no last linear layer (`Network.readout`), so that it can "
            "have no committee: train it with committee = 0."
        )


@dataclass(frozen=True, eq=False)
class Committee:
    """Principal axes of the posterior of the last weights, each one standard deviation long.

    Parameters
    ----------
    members
        (k, F), in eV: what each member adds to the F weights of the last linear layer.
    force_scale
        By which forces err more than the members say; energies are calibrated in the members.
    """

    members: Array
    force_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.members.ndim != 2 or not np.isfinite(self.members).all():
            raise ValueError(f"members of shape {self.members.shape}, expected (k, F), finite")

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Committee:
        """Return the committee that `to_json` wrote."""
        return cls(np.array(document["members"], dtype=np.float64), float(document["force_scale"]))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON writes it, to seven digits."""
        members = [[float(f"{one:.{_DIGITS}g}") for one in row] for row in self.members.tolist()]
        return {"members": members, "force_scale": float(self.force_scale)}


@dataclass(frozen=True, eq=False)
class Spread:
    """What the members of a committee say of a batch, beside the network itself.

    Parameters
    ----------
    energies
        (B,) root of the sum of their squared deviations, in eV.
    forces
        (N,) the same of the force on each atom, in eV/Å.
    """

    energies: torch.Tensor
    forces: torch.Tensor


def spread(network: Network, batch: Batch, slots: torch.Tensor, members: torch.Tensor) -> Spread:
    """Return how far members (k, F) deviate, from one evaluation and k gradients."""
    positions = batch.positions.detach().requires_grad_()
    leaf = replace(batch, positions=positions)
    with torch.enable_grad():
        edges = find_edges(batch, network.cutoff)
        found = readout_sums(network, make_graph(leaf, slots, edges, network.dtype))
        deviations = found @ members.T
        gradients = [
            torch.autograd.grad(column.sum(), positions, retain_graph=True)[0]
            for column in deviations.unbind(1)
        ]
    squares = torch.stack(gradients).square().sum((0, 2))
    return Spread(deviations.detach().square().sum(1).sqrt(), squares.sqrt())


def readout_width(network: Network) -> int:
    """Return how many numbers go into the last linear layer of each atom, F."""
    layer: Any = _readout(network)
    return int(layer.irreps_in.dim if hasattr(layer, "irreps_in") else layer.in_features)


def readout_sums(network: Network, graph: Graph) -> torch.Tensor:
    """Return what goes into the last linear layer, summed over each structure: (B, F) float64."""
    inputs = _readout_inputs(network, graph)
    totals = inputs.new_zeros(graph.n_systems, inputs.shape[1], dtype=torch.float64)
    return totals.index_add(0, graph.system, inputs.to(torch.float64))


def _readout_inputs(network: Network, graph: Graph) -> torch.Tensor:
    """Return what goes into the last linear layer of each atom, (N, F)."""
    seen: list[torch.Tensor] = []

    def see(_: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> None:
        seen.append(inputs[0])

    handle = _readout(network).register_forward_pre_hook(see)
    try:
        network(graph)
    finally:
        handle.remove()
    return seen[-1].flatten(1)


def _readout(network: Network) -> torch.nn.Module:
    if network.readout is None:
        raise NoReadoutError(network.architecture)
    return network.readout
