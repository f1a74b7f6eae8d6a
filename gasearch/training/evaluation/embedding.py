"""Where a network keeps Fe2+ and Fe3+: its features of redox sites, in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from gasearch.crystal.species import Species, species_of
from gasearch.errors import UsageError
from gasearch.potentials.contract import Array, Batch
from gasearch.potentials.networks.network import find_edges, make_graph
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.relax.geometry import redox_sites


@dataclass(frozen=True, eq=False)
class Embedding:
    """Features of redox sites in the plane of largest variance.

    Parameters
    ----------
    points
        (M, 2), of all redox sites of all structures.
    species
        Their labels, M.
    structures
        Index of the structure of each, M.
    shares
        Of the variance along the two axes.
    separation
        Distance of the two largest species' centres in the whole feature space, relative to the
        root mean square distance of sites from their own centre; 0 for one species.
    """

    points: Array
    species: tuple[Species, ...]
    structures: tuple[int, ...]
    shares: tuple[float, float]
    separation: float


def embed_sites(
    potential: NetworkPotential, structures: Sequence[Atoms], batch_size: int = 8
) -> Embedding:
    """Return the features of all redox sites, projected by a principal-component analysis."""
    features, species, owners = [], [], []
    for start in range(0, len(structures), batch_size):
        chosen = structures[start : start + batch_size]
        by_atom = site_features(potential, chosen)
        for k, (atoms, rows) in enumerate(zip(chosen, by_atom, strict=True), start=start):
            labels = species_of(atoms)
            for site in redox_sites(atoms).tolist():
                features.append(rows[site])
                species.append(labels[site])
                owners.append(k)
    if len(features) < 3:
        raise UsageError(f"{len(features)} redox sites in these frames; an embedding needs three.")
    matrix = np.array(features)
    points, shares = principal_components(matrix)
    return Embedding(points, tuple(species), tuple(owners), shares, separation(matrix, species))


def site_features(potential: NetworkPotential, structures: Sequence[Atoms]) -> list[Array]:
    """Return the features (n_atoms, F) of the atoms of each structure."""
    batch = Batch.from_atoms(structures, potential.device)
    network = potential.network
    slots = potential.card.species_map(batch.numbers, batch.charges, batch.spins)
    with torch.no_grad():
        graph = make_graph(batch, slots, find_edges(batch, network.cutoff), network.dtype)
        features = network(graph).features.to(torch.float64).cpu()
    return [part.numpy() for part in features.split([len(atoms) for atoms in structures])]


def principal_components(matrix: Array) -> tuple[Array, tuple[float, float]]:
    """Return the projections (M, 2) of rows (M, F), and the shares of the two axes.

    The sign of an axis is such that its largest entry is positive.
    """
    centred = matrix - matrix.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(axes[:2][[0, 1], np.abs(axes[:2]).argmax(axis=1)])
    variances = values**2 / max(float(np.sum(values**2)), np.finfo(float).tiny)
    points = centred @ (axes[:2] * signs[:, None]).T
    return np.asarray(points), (float(variances[0]), float(variances[1]))


def separation(matrix: Array, species: Sequence[Species]) -> float:
    """Return how far apart the two most frequent species are, in units of their own spread."""
    kinds = sorted(set(species), key=lambda one: (-species.count(one), one))[:2]
    if len(kinds) < 2:
        return 0.0
    groups = [matrix[[one == kind for one in species]] for kind in kinds]
    centres = [group.mean(axis=0) for group in groups]
    offsets = np.concatenate(
        [group - centre for group, centre in zip(groups, centres, strict=True)]
    )
    spread = float(np.sqrt((offsets**2).sum(axis=1).mean()))
    return float(np.linalg.norm(centres[0] - centres[1])) / max(spread, np.finfo(float).tiny)
