"""The message passing of CHGNet with its own weights, arranged to do a third of the arithmetic.

Each of its gated layers multiplies a matrix with atoms, bonds and angles joined in one long row per
edge. Here each part is multiplied before it is spread over the edges: rows of atoms are few, a bond
is shared by two edges, and only bonds within the short cutoff take part in angles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from gasearch.potentials.networks.network import Graph


@dataclass(frozen=True, eq=False)
class Angles:
    """Ordered pairs of short edges that start from one atom.

    Parameters
    ----------
    short
        (S,) int64, bonds within the short cutoff.
    corner
        (A,) int64, the atom.
    first, second
        (A,) int64, edges within the list of short ones, both directions: bond `k` and, reversed,
        `k + S`.
    """

    short: torch.Tensor
    corner: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor

    @property
    def first_bond(self) -> torch.Tensor:
        """(A,) short bonds of the first edges."""
        return self.first % max(len(self.short), 1)

    @property
    def second_bond(self) -> torch.Tensor:
        """(A,) short bonds of the second edges."""
        return self.second % max(len(self.short), 1)


def find_angles(graph: Graph, cutoff: float) -> Angles:
    """Return all angles between bonds shorter than the cutoff (Å), each in both orders."""
    n_bonds = len(graph.i) // 2
    short = (graph.distances[:n_bonds] < cutoff).nonzero().squeeze(1)
    center = torch.cat([graph.i[short], graph.j[short]])
    center, by_center = torch.sort(center, stable=True)
    counts = torch.bincount(center, minlength=len(graph.slots))
    starts, partners = counts.cumsum(0) - counts, counts[center]
    first = torch.repeat_interleave(torch.arange(len(center), device=center.device), partners)
    rank = torch.arange(len(first), device=center.device) - (partners.cumsum(0) - partners)[first]
    second = starts[center][first] + rank
    different = first != second
    first, second = first[different], second[different]
    return Angles(short, center[first], by_center[first], by_center[second])


def atom_update(
    layer: Any, atoms: torch.Tensor, bonds: torch.Tensor, weights: torch.Tensor, graph: Graph
) -> torch.Tensor:
    """Return the atoms (N, 64) after messages from all their neighbours.

    Parameters
    ----------
    layer
        A `chgnet.model.layers.AtomConv`.
    bonds, weights
        (E / 2, 64) features of the bonds, and how they fade towards the cutoff.
    """
    widths = [atoms.shape[1], bonds.shape[1], atoms.shape[1]]

    def joined(first: nn.Linear) -> torch.Tensor:
        center, between, neighbour = torch.split(first.weight, widths, dim=1)
        ends = functional.linear(atoms, center, first.bias).index_select(0, graph.i)
        ends = ends + (atoms @ neighbour.T).index_select(0, graph.j)
        return ends.view(2, len(bonds), -1) + bonds @ between.T

    messages = _gated(layer.twoBody_atom, joined) * weights
    received = torch.zeros_like(atoms).index_add(0, graph.i, messages.flatten(0, 1))
    updated: torch.Tensor = layer.mlp_out(received) + atoms
    return updated


def bond_update(
    layer: Any,
    atoms: torch.Tensor,
    bonds: torch.Tensor,
    turns: torch.Tensor,
    weights: torch.Tensor,
    angles: Angles,
) -> torch.Tensor:
    """Return the bonds (E / 2, 64) after messages from the angles that they are part of.

    Parameters
    ----------
    layer
        A `chgnet.model.layers.BondConv`.
    turns
        (A, 64) features of the angles.
    weights
        (S, 64), how short bonds fade towards the short cutoff.
    """
    first, second = angles.first_bond, angles.second_bond
    messages = _angle_gated(layer.twoBody_bond, atoms, bonds, turns, angles)
    fading = weights.index_select(0, first) * weights.index_select(0, second)
    received = weights.new_zeros(len(angles.short), bonds.shape[1]).index_add(
        0, first, messages * fading
    )
    return bonds.index_add(0, angles.short, layer.mlp_out(received))


def angle_update(
    layer: Any, atoms: torch.Tensor, bonds: torch.Tensor, turns: torch.Tensor, angles: Angles
) -> torch.Tensor:
    """Return the angles (A, 64) after their atom and their two bonds changed.

    Parameters
    ----------
    layer
        A `chgnet.model.layers.AngleUpdate`.
    """
    return _angle_gated(layer.twoBody_bond, atoms, bonds, turns, angles) + turns


def unsupported(model: Any) -> str:
    """Return what a `chgnet.model.CHGNet` has that is not computed here, in words, or ""."""
    if not model.mlp_first:
        return "pools atoms before its last layers (mlp_first = False)"
    layers = [*model.atom_conv_layers, *model.bond_conv_layers, *model.angle_layers]
    if None in layers:
        return "lacks layers of bonds or angles"
    norms = [getattr(one, f"{kind}_norm", None) for one in layers for kind in _KINDS]
    if any(norm is not None for norm in norms):
        return "normalises between layers (conv_norm)"
    outer = [one.mlp_out.layers[-1].bias for one in layers if getattr(one, "mlp_out", None)]
    if any(bias is not None for bias in outer):
        return "has biases after its messages (mlp_out_bias, version 0.2)"
    if any(isinstance(one, nn.BatchNorm1d) for one in model.modules()):
        return "normalises over the batch"
    return ""


_KINDS = ("atom", "bond", "angle")


def _angle_gated(
    gated: Any, atoms: torch.Tensor, bonds: torch.Tensor, turns: torch.Tensor, angles: Angles
) -> torch.Tensor:
    """Return what a gated layer makes of the two bonds, the angle and its atom, (A, 64)."""
    widths = [bonds.shape[1], bonds.shape[1], turns.shape[1], atoms.shape[1]]
    short = bonds.index_select(0, angles.short)
    one, other = angles.first_bond, angles.second_bond

    def joined(first: nn.Linear) -> torch.Tensor:
        left, right, turn, center = torch.split(first.weight, widths, dim=1)
        corners = functional.linear(atoms, center, first.bias).index_select(0, angles.corner)
        sides = (short @ left.T).index_select(0, one) + (short @ right.T).index_select(0, other)
        return torch.addmm(corners + sides, turns, turn.T)

    return _gated(gated, joined)


def _gated(gated: Any, joined: Callable[[nn.Linear], torch.Tensor]) -> torch.Tensor:
    """Return core times gate (..., 64) of a `chgnet.model.functions.GatedMLP`.

    Parameters
    ----------
    joined
        Gives what a linear layer makes of the long rows.
    """
    core, gate = (_branch(mlp.layers, joined) for mlp in (gated.mlp_core, gated.mlp_gate))
    if gated.norm is not None:
        core, gate = gated.bn1(core), gated.bn2(gate)
    result: torch.Tensor = gated.activation(core) * torch.sigmoid(gate)
    return result


def _branch(layers: Any, joined: Callable[[nn.Linear], torch.Tensor]) -> torch.Tensor:
    """Return what the layers give from their first linear one on; dropout before it is none."""
    modules = iter(layers)
    x = joined(next(module for module in modules if isinstance(module, nn.Linear)))
    for module in modules:
        x = module(x)
    return x
