"""Energies per atom of each species, by linear regression before training; part of the model.

A network learns differences; what an element costs at the level of the data is linear algebra. The
fit is linear in the amounts of the elements (for NaxFePO4: in the Na fraction), and both oxidation
states of an element have the same energy, since neutral cells cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from gasearch.potentials.contract import Array
from gasearch.potentials.networks.network import Network, make_graph
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.training.data.samples import Sample, Unit, join

_ROUNDS = 20
_NOISE = 0.005  # eV per atom: errors beyond it lose weight
_SMALLEST = 1e-8  # of singular values: amounts that always come together


def fit_reference(
    network: Network, samples: Sequence[Sample], species_map: SpeciesMap
) -> dict[int, float]:
    """Return the energy per atom of each slot, in eV, that the network's energies lack.

    Nearly least absolute deviations, so that a few strained cells do not bend the line. Where
    amounts always come together (P and O in phosphates), the solution of smallest norm is taken.
    """
    known = [one for one in samples if bool(one.targets.energies.isfinite().all())]
    if not known:
        return {}
    elements = sorted({int(z) for one in known for z in one.batch.numbers.unique()})
    counts = np.array([[int((one.batch.numbers == z).sum()) for z in elements] for one in known])
    sizes = counts.sum(axis=1, keepdims=True)
    targets = np.array([float(one.targets.energies) for one in known])
    missing = (targets - network_energies(network, known)) / sizes[:, 0]
    energies = _robust_fit(counts / sizes, missing).tolist()
    return _by_slot(dict(zip(elements, energies, strict=True)), known, species_map)


def network_energies(network: Network, samples: Sequence[Sample], batch_size: int = 16) -> Array:
    """Return the energies (n_samples,) of the cells without a reference, in eV."""
    found: list[float] = []
    for start in range(0, len(samples), batch_size):
        data = join([Unit((one,)) for one in samples[start : start + batch_size]])
        with torch.no_grad():
            graph = make_graph(data.batch, data.slots, data.edges, network.dtype)
            found += network(graph).energies.to(torch.float64).tolist()
    return np.array(found)


def _robust_fit(matrix: Array, aims: Array) -> Array:
    weights: Array = np.ones(len(aims))
    solution: Array = np.zeros(matrix.shape[1])
    for _ in range(_ROUNDS):
        scaled = matrix * weights[:, None]
        solution = np.asarray(np.linalg.lstsq(scaled, aims * weights, rcond=_SMALLEST)[0])
        weights = np.asarray((1 + ((matrix @ solution - aims) / _NOISE) ** 2) ** -0.25)
    return solution


def _by_slot(
    by_element: Mapping[int, float], samples: Sequence[Sample], species_map: SpeciesMap
) -> dict[int, float]:
    """Return the energies of elements for every slot that stands for one of their states."""
    by_slot = {
        slot: by_element[species.number]
        for species, slot in species_map.slots.items()
        if species.number in by_element
    }
    for one in samples:
        for slot, number in zip(one.slots.tolist(), one.batch.numbers.tolist(), strict=True):
            by_slot[slot] = by_element[number]
    return dict(sorted(by_slot.items()))
