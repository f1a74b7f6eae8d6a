"""The benchmark scripts, which are no package: loaded from their folder, run on small cells."""

from __future__ import annotations

import functools
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from typer.testing import CliRunner

from gasearch.operator import WeightedOperator

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = ("ewald", "energies", "landscapes", "ase_ga_baseline", "machine", "search_report", "search")


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    for name in NAMES:
        del sys.modules[name]


@pytest.fixture(scope="module")
def coulomb(bench):
    return bench.landscapes.make_landscape("coulomb", (1, 2, 1), "1/2", cache=None)


@pytest.fixture(scope="module")
def many_body(bench):
    return bench.landscapes.make_landscape("many-body", (1, 2, 1), "1/2", seed=3, cache=None)


@pytest.fixture(params=["coulomb", "many_body"])
def landscape(request):
    return request.getfixturevalue(request.param)


class Swap:
    """Exchange two unlike sites of one sublattice: enough of an operator for these tests."""

    n_parents = 1

    def __call__(self, parents, rng):
        (parent,) = parents
        sublattice = parent.host.sublattices[rng.integers(2)]
        digits = parent.on(sublattice)
        pair = [rng.choice(np.flatnonzero(digits == digit)) for digit in (0, 1)]
        return parent.replaced([sublattice.start + p for p in pair], [1, 0])


@pytest.fixture
def one_operator(bench, monkeypatch):
    operators = (WeightedOperator("swap", Swap(), 1.0),)
    monkeypatch.setattr(bench.search, "default_operators", lambda: operators)
    return operators


# --- energies -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "madelung"), [("rocksalt", 1.7475645946), ("cesiumchloride", 1.7626747731)]
)
def test_the_ewald_matrix_gives_madelung_constants(bench, name, madelung):
    a = 5.64
    atoms = bulk("NaCl", name, a=a)
    nearest = {"rocksalt": a / 2, "cesiumchloride": a * np.sqrt(3) / 2}[name]
    charges = np.where(atoms.symbols == "Na", 1.0, -1.0)
    matrix = bench.ewald.ewald_matrix(atoms.cell.array, atoms.positions)
    energy = charges @ matrix @ charges / 2
    assert energy * nearest / -bench.ewald.COULOMB == pytest.approx(madelung, abs=1e-9)


def test_the_ewald_matrix_does_not_depend_on_where_the_sums_are_split(bench, coulomb):
    cell, positions = coulomb.host.atoms.cell.array, coulomb.host.atoms.positions
    one, other = (bench.ewald.ewald_matrix(cell, positions, cutoff) for cutoff in (9, 13))
    np.testing.assert_allclose(one, other, atol=1e-9)


def test_equivalent_decorations_have_one_energy(landscape):
    rng = np.random.default_rng(0)
    host = landscape.host
    occupation = host.random_occupation(landscape.composition, rng)
    images = np.empty_like(host.permutations, dtype=np.uint8)
    np.put_along_axis(images, host.permutations, occupation[None], axis=1)
    assert len(np.unique(images, axis=0)) > 1
    assert np.ptp(landscape.energy_of(images)) < 1e-9
    assert len(set(landscape.rows(images).tolist())) == 1


def test_the_table_holds_the_energies_of_all_decorations(landscape):
    assert len(landscape) == 344
    assert landscape.orbit_sizes.sum() == 4900
    rng = np.random.default_rng(1)
    drawn = np.array(
        [landscape.host.random_occupation(landscape.composition, rng) for _ in range(50)]
    )
    np.testing.assert_allclose(
        landscape.energy_of(drawn), landscape.energies[landscape.rows(drawn)], atol=1e-9
    )


def test_a_decoration_of_another_composition_is_not_in_the_table(landscape):
    other = landscape.host.composition_at("3/4")
    occupation = landscape.host.random_occupation(other, np.random.default_rng(0))
    with pytest.raises(ValueError, match="Na4Fe8P8O32"):
        landscape.rows(occupation[None])


def test_the_ground_state_is_one_decoration(landscape):
    assert landscape.gap > 1e-6
    assert landscape.n_minima >= 1
    assert landscape.fingerprint(landscape.ground_state) in landscape.host.fingerprints(
        landscape.composition
    )


def test_the_random_terms_follow_their_seed_and_weigh_as_much_as_coulomb(bench, coulomb):
    make = bench.landscapes.make_landscape
    first, same, other = (
        make("many-body", (1, 2, 1), "1/2", seed, cache=None).energies for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.allclose(first, other)
    screened = coulomb.energies / bench.energies.PERMITTIVITY
    random_spread = bench.energies.spread(first - screened, coulomb.orbit_sizes)
    assert random_spread == pytest.approx(bench.energies.spread(screened, coulomb.orbit_sizes))


def test_cluster_orbits_cover_each_near_cluster_once(bench, coulomb):
    orbits = bench.energies.cluster_orbits(coulomb.host, 2, 5.0)
    found = np.concatenate(orbits)
    near = np.argwhere(np.triu(coulomb.host.distances <= 5.0, k=1))
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, near.tolist()))
    for orbit in orbits:
        assert np.ptp(coulomb.host.distances[tuple(orbit.T)]) < 1e-6


def test_the_big_cell_has_10410_distinct_decorations_and_a_cache(bench, tmp_path):
    made = bench.landscapes.make_landscape("coulomb", cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    read = bench.landscapes.make_landscape("coulomb", cache=tmp_path)
    assert len(made) == len(read) == 10410
    np.testing.assert_array_equal(made.energies, read.energies)


# --- the ase_ga baseline ----------------------------------------------------------------------


def test_repair_restores_sublattices_neutrality_and_composition(bench, coulomb):
    rng = np.random.RandomState(0)
    lattice = bench.ase_ga_baseline.Lattice(coulomb)
    repair = bench.ase_ga_baseline.Repair(lattice, rng)
    for _ in range(50):
        atoms = lattice.decorated(rng.randint(2, size=coulomb.host.n_sites))
        atoms.numbers = rng.permutation(atoms.numbers)
        repair(atoms)
        assert sorted(atoms.symbols[lattice.ions]) == ["Na"] * 4 + ["X"] * 4
        assert sorted(atoms.symbols[lattice.redox]) == ["Fe"] * 4 + ["Ga"] * 4


def test_repair_leaves_a_right_decoration_alone(bench, coulomb):
    lattice = bench.ase_ga_baseline.Lattice(coulomb)
    repair = bench.ase_ga_baseline.Repair(lattice, np.random.RandomState(0))
    for occupation in coulomb.occupations[::50]:
        atoms = lattice.decorated(occupation)
        repair.neutralise(atoms)
        repair(atoms)
        np.testing.assert_array_equal(lattice.occupation(atoms), occupation)


def test_symmetric_walks_end_in_decorations_of_the_composition(bench, coulomb):
    module = bench.ase_ga_baseline
    rng = np.random.RandomState(0)
    walks = module.SymmetricWalks(coulomb, module.Lattice(coulomb), rng)
    ends = walks._walks(40)
    groups = coulomb.space_groups[coulomb.rows(ends)]
    for sublattice in coulomb.host.sublattices:
        np.testing.assert_array_equal(ends[:, sublattice.slice].sum(axis=1), 4)
    raw_mean = np.average(coulomb.space_groups, weights=coulomb.orbit_sizes)
    assert groups.mean() > raw_mean


def test_ase_ga_evaluates_no_structure_twice_and_stays_at_its_composition(bench, coulomb):
    run = bench.ase_ga_baseline.AseGaRun(coulomb, seed=1, population_size=20)
    rows = [row for row, _ in zip(run.evaluations(), range(200), strict=False)]
    assert len(run.seen) >= 200
    assert len(set(rows)) < len(rows)  # symmetry-equivalent repeats are not seen
    for text in run.seen:
        assert text.count("X") == text.count("Ga") == 4


# --- runs and their report --------------------------------------------------------------------


def test_random_sampling_meets_each_distinct_decoration_once(bench, coulomb):
    rows = list(bench.search.random_run(coulomb, 5))
    assert sorted(rows) == list(range(344))


def test_gasearch_meets_each_distinct_decoration_once(bench, coulomb, one_operator):
    rows = list(bench.search.gasearch_run(coulomb, one_operator, 5))
    assert sorted(rows) == list(range(344))


@pytest.mark.parametrize("method", ["gasearch", "ase_ga", "random"])
def test_a_method_repeats_exactly(bench, many_body, one_operator, method):
    runs = {
        "gasearch": lambda seed: bench.search.gasearch_run(many_body, one_operator, seed),
        "ase_ga": lambda seed: bench.search.ase_ga_run(many_body, 20, seed),
        "random": lambda seed: bench.search.random_run(many_body, seed),
    }
    first, same, other = (
        [row for row, _ in zip(runs[method](seed), range(80), strict=False)] for seed in (1, 1, 2)
    )
    assert first == same
    assert first != other


def test_unsolved_runs_count_in_the_quantiles(bench):
    report = bench.search_report
    assert report.quantile([30, 10, 20, 40], 0.5) == 20
    assert report.quantile([30, 10, None, None], 0.75) is None
    found = report.statistics([None, 5, 7, None])
    assert found["median"] == 7
    assert found["percentile_90"] is None
    assert found["solved_share"] == 0.5
    assert report.success_curve([None, 5, 7, None], 10) == ([1, 5, 7, 10], [0, 0.25, 0.5, 0.5])


def _invoke(bench, *arguments):
    app = bench.search.typer.Typer()
    app.command()(bench.search.main)
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result


def test_the_script_prints_one_json_document_and_keeps_other_rows(
    bench, one_operator, tmp_path, monkeypatch
):
    monkeypatch.setattr(bench.search, "POPULATIONS", (10, 20))
    uncached = functools.partial(bench.landscapes.make_landscape, cache=None)
    monkeypatch.setattr(bench.search, "make_landscape", uncached)
    small = ["--supercell", "1", "2", "1", "--x", "3/4", "--runs", "3", "--pilots", "2"]
    arguments = [*small, "--cap", "60", "--output", str(tmp_path), "--json"]
    document = json.loads(_invoke(bench, *arguments).stdout)
    assert document["settings"]["n_distinct"] == 64
    assert document["operators"] == {"swap": 1.0}
    keys = [(row["landscape"], row["method"]) for row in document["rows"]]
    assert keys == [
        (name, method)
        for name in ("coulomb", "many-body")
        for method in ("gasearch", "ase_ga", "random")
    ]
    for row in document["rows"]:
        assert len(row["evaluations"]) == 3
        assert {"median", "quartile_1", "quartile_3", "percentile_90", "solved_share"} <= set(row)
    assert sum(pilot["is_chosen"] for pilot in document["pilots"]) == 2
    assert {path.name for path in tmp_path.iterdir()} == {
        "search.json",
        "search.md",
        "search-success.png",
    }
    again = json.loads(_invoke(bench, *arguments, "--method", "random").stdout)
    assert [row["evaluations"] for row in again["rows"]] == [
        row["evaluations"] for row in document["rows"]
    ]
    assert again["pilots"] == document["pilots"]


def test_the_machine_is_described_without_names_or_paths(bench):
    described = bench.machine.describe_machine(("numpy",))
    assert {"processor", "cores", "python", "numpy"} <= set(described)
    assert not any("/" in str(value) for value in described.values())
