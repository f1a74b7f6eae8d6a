"""The P2 landscape: its energies, its known answers, and what its results claim."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from places import BENCHMARKS, ROOT

NAMES = ("p2", "landscapes", "search_methods", "search_report", "energies")


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        before = set(sys.modules)
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    for name in set(sys.modules) - before:
        if (
            getattr(sys.modules[name], "__file__", None)
            and "benchmarks" in sys.modules[name].__file__
        ):
            del sys.modules[name]


@pytest.fixture(scope="module")
def small(bench):
    return bench.p2.p2_landscape("1/2", (2, 2, 1))


@pytest.fixture(scope="module")
def repulsion():
    """The potential of the gallery's run folder: the same law, written apart."""
    path = ROOT / "runs" / "nacoo2-p2" / "repulsion.py"
    spec = importlib.util.spec_from_file_location("repulsion", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Repulsion()


def filled(landscape, row):
    """Return the Na ions of a decoration."""
    host = landscape.host
    return host.atoms[host.sites][landscape.occupations[row] == 0]


def test_the_ground_state_is_that_of_every_arrangement(bench, small):
    host = small.host
    near = host.distances < 2.0
    np.fill_diagonal(near, False)
    legal = [
        chosen
        for chosen in itertools.combinations(range(host.n_sites), 4)
        if not near[np.ix_(chosen, chosen)].any()
    ]
    assert len(legal) == small.orbit_sizes.sum() == 388
    occupations = np.ones((len(legal), host.n_sites), dtype=np.uint8)
    np.put_along_axis(occupations, np.array(legal), 0, axis=1)
    energies = bench.p2.p2_energy(host)(occupations)
    assert energies.min() == pytest.approx(small.energies.min(), abs=1e-12)
    assert np.isclose(energies, energies.min(), atol=1e-9).sum() == (
        small.orbit_sizes[np.isclose(small.energies, energies.min(), atol=1e-9)].sum()
    )


def test_its_energies_are_those_of_the_run_folder(small, repulsion):
    host = small.host
    for row in range(0, len(small), 6):
        atoms = host.atoms[np.r_[host.framework_sites, host.sites[small.occupations[row] == 0]]]
        atoms.calc = repulsion
        energy = atoms.get_potential_energy() / host.n_formula_units
        assert energy == pytest.approx(small.energies[row], abs=1e-6)


def test_the_order_at_one_half_is_that_of_the_experiment(bench):
    """Half of Na between two Co, half not, neighbours 2 a / sqrt(3) apart (Huang et al. 2004)."""
    landscape = bench.p2.p2_landscape("1/2", ((2, 0, 0), (1, 2, 0), (0, 0, 1)))
    found = bench.p2.describe(landscape, ((2, 0, 0), (1, 2, 0), (0, 0, 1)))
    assert (found["na_face"], found["na_edge"]) == (2, 2)
    assert found["shortest_na_na_A"] == pytest.approx(2 * 2.833 / np.sqrt(3), abs=1e-3)


def test_the_order_at_two_thirds_leaves_a_honeycomb(bench):
    """A third of the Na_e sites stay empty, each among six filled ones."""
    landscape = bench.p2.p2_landscape("2/3", (3, 3, 1))
    sodium = filled(landscape, landscape.ground_state)
    apart = sodium.get_all_distances(mic=True)
    assert len(sodium) == 12
    assert (np.isclose(apart, 2.833, atol=1e-3).sum(axis=1) == 3).all()


def test_a_search_takes_a_tenth_of_what_random_takes(bench):
    landscape = bench.p2.p2_landscape("2/3", (3, 2, 1))
    goals = {"ground state": bench.search_methods.ground_state_goal(landscape)}
    medians = {}
    for name in ("gasearch", "random"):
        run = bench.p2.methods(landscape)[name]
        needed = [
            bench.search_methods.evaluations_needed(run(seed), goals, len(landscape))[0]
            for seed in range(1, 6)
        ]
        medians[name] = np.median([found["ground state"] for found in needed])
    assert 10 * medians["gasearch"] <= medians["random"]


def test_the_results_claim_no_less(bench):
    document = json.loads((BENCHMARKS / "results" / "p2.json").read_text(encoding="utf-8"))
    assert [row["x"] for row in document["rows"]] == list(bench.p2.CASES)
    for row in document["rows"]:
        medians = {
            name: bench.search_report.statistics(found)["median"]
            for name, found in row["evaluations"].items()
        }
        for name in ("gasearch", "gasearch, no Coulomb"):
            assert 10 * medians[name] <= medians["random"]
    written = (BENCHMARKS / "results" / "p2.md").read_text(encoding="utf-8")
    assert written == bench.p2.markdown(document)
