"""The benchmark of Onsager's transition: against a sum over all states, and in small cells."""

from __future__ import annotations

import importlib
import itertools
import sys

import numpy as np
import pytest
from ase.units import kB
from places import BENCHMARKS

from gasearch.phases.walks.monte_carlo import Cell


@pytest.fixture(scope="module")
def benchmark():
    """The script itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("phase_diagram")
    for name in ("machine", "phase_diagram"):
        sys.modules.pop(name, None)


def neutral_states(cell):
    """All arrangements with as many ions as reduced sites."""
    half = cell.n_sites // 2
    every = np.array(list(itertools.product((1, -1), repeat=half)), dtype=np.int8)
    by_number = [every[(every > 0).sum(axis=1) == n] for n in range(half + 1)]
    return np.array(
        [np.concatenate([a, b]) for some in by_number for a in some for b in some], dtype=np.int8
    )


def test_the_cumulant_of_a_small_cell_is_the_sum_over_all_states(benchmark):
    """4 x 4 sites, walked through at one temperature and looked at from another."""
    cell = Cell(benchmark.rows(benchmark.COUPLING), (4, 2, 1))
    states = neutral_states(cell)
    assert len(states) == 12_870
    pairs = cell._pairs_transformed
    shaped = states.reshape(-1, *pairs.shape[1:]).astype(float)
    transformed = np.fft.fftn(shaped, axes=(2, 3, 4))
    felt = np.fft.ifftn(np.einsum("abxyz,nbxyz->naxyz", pairs, transformed), axes=(2, 3, 4)).real
    energy = (shaped * felt).sum(axis=(1, 2, 3, 4)) / 2
    order = states @ benchmark.checkerboard(cell) / cell.n_sites
    assert order.max() == 1.0
    assert energy.min() == pytest.approx(-2 * 16 * benchmark.COUPLING)
    temperature_K = benchmark.CRITICAL_K
    weights = np.exp(-(energy - energy.min()) / (kB * temperature_K))
    weights /= weights.sum()
    expected = 1 - weights @ order**4 / (3 * (weights @ order**2) ** 2)
    found = benchmark.sampled(4, 10_000, 1.05 * temperature_K, seed=1).cumulant(temperature_K)
    assert found == pytest.approx(expected, abs=0.01)


def test_small_cells_have_the_transition_near_onsagers(benchmark):
    """Of 8 x 8 and 16 x 16; the results have larger cells and longer walks."""
    walks = [benchmark.sampled(size, 8_000, 1.01 * benchmark.CRITICAL_K, 1) for size in (8, 16)]
    found, error = benchmark.crossing_with_error(*walks)
    assert 0 < error < 0.03
    assert found == pytest.approx(1, abs=0.05)
