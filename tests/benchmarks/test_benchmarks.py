"""The benchmark scripts, which are no package: loaded from their folder, run on small cells."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from places import BENCHMARKS
from typer.testing import CliRunner

from gasearch.operators.contract import WeightedOperator

NAMES = (
    "energies",
    "landscapes",
    "ase_ga_baseline",
    "machine",
    "tempering",
    "relaxed_landscapes",
    "search_methods",
    "search_case",
    "search_tables",
    "search_cases",
    "search_notes",
    "search_report",
    "search_figure",
    "search_cost",
    "search",
)


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


@pytest.fixture(scope="module")
def pmmcs(bench):
    return bench.relaxed_landscapes.relaxed_landscape("nafepo4-121-pmmcs")


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
    for module in (bench.search, bench.search_case):
        monkeypatch.setattr(module, "default_operators", lambda: operators)
    return operators


# --- energies -------------------------------------------------------------------------------


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


# --- methods ----------------------------------------------------------------------------------


def gasearch_rows(bench, landscape, operators, seed, **more):
    methods = bench.search_methods
    problem = methods.table_problem(landscape)
    settings = more.pop("settings", methods.plain())
    return methods.gasearch_run(problem, operators, settings, seed, **more)


def first(run, number):
    return list(itertools.islice(run, number))


def test_random_sampling_meets_each_distinct_decoration_once(bench, coulomb):
    rows = list(bench.search_methods.random_run(coulomb, 5))
    assert sorted(rows) == list(range(344))


def test_the_coulomb_order_begins_with_the_lowest(bench, coulomb, pmmcs):
    methods = bench.search_methods
    assert next(methods.coulomb_order_run(coulomb, 1)) == coulomb.ground_state
    rows = list(methods.coulomb_turns_run(pmmcs, 1))
    assert sorted(rows) == list(range(len(pmmcs)))
    assert pmmcs.composition_numbers[rows[:9]].tolist() == list(range(9))


def test_random_sampling_in_turn_begins_with_one_decoration_of_each_composition(bench, pmmcs):
    rows = list(bench.search_methods.random_turns_run(pmmcs, 5))
    assert sorted(rows) == list(range(len(pmmcs)))
    assert pmmcs.composition_numbers[rows[:9]].tolist() == list(range(9))
    last = [pmmcs.composition_numbers[row] for row in rows[-50:]]
    assert set(last) == {4}  # x = 1/2 is the largest


@pytest.mark.parametrize("screening", [False, True])
def test_gasearch_meets_each_distinct_decoration_once(bench, coulomb, one_operator, screening):
    methods = bench.search_methods
    settings = methods.screened() if screening else methods.plain()
    rows = list(gasearch_rows(bench, coulomb, one_operator, 5, settings=settings))
    assert sorted(rows) == list(range(344))


def test_a_search_of_all_compositions_begins_with_the_ends(bench, pmmcs, one_operator):
    methods = bench.search_methods
    settings = methods.screened(end_members=True, hull_aware=False)
    run = methods.gasearch_run(methods.relaxed_problem(pmmcs), one_operator, settings, 5)
    rows = first(run, 60)
    assert pmmcs.x[rows[:2]].tolist() == [0, 1]
    assert len(set(rows)) == 60
    assert len(set(pmmcs.x[rows].tolist())) == 9


@pytest.mark.parametrize("method", ["gasearch", "screened", "in flight", "ase_ga", "tempering"])
def test_a_method_repeats_exactly(bench, many_body, one_operator, method):
    methods = bench.search_methods
    gasearch = functools.partial(gasearch_rows, bench, many_body, one_operator)
    problem = methods.table_problem(many_body)
    runs = {
        "gasearch": gasearch,
        "screened": functools.partial(gasearch, settings=methods.screened()),
        "in flight": functools.partial(gasearch, settings=methods.screened(), in_flight=16),
        "ase_ga": functools.partial(methods.ase_ga_run, many_body, 20),
        "tempering": functools.partial(methods.tempering_keys, many_body, problem),
    }
    rows, same, other = (first(runs[method](seed), 60) for seed in (1, 1, 2))
    assert rows == same
    assert rows != other


def test_with_many_in_flight_a_candidate_knows_only_what_came_before_them(bench, coulomb):
    methods = bench.search_methods
    known = []

    class Watched(methods.Proposer):
        def propose(self, number, budget=0):
            known.append(self.history.ended[-1] if self.history.ended else 0)
            return super().propose(number, budget)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "Proposer", Watched)
        first(gasearch_rows(bench, coulomb, bench.search.default_operators(), 1, in_flight=7), 20)
    assert known == [max(0, number - 7) for number in range(1, 21)]


def test_a_large_landscape_has_its_reference_minimum_as_goal(bench):
    methods, landscapes = bench.search_methods, bench.landscapes
    landscape = landscapes.make_large_landscape("coulomb")
    minimum = landscapes.large_minimum("coulomb")
    problem = methods.large_problem(landscape, minimum)
    (key,) = methods.large_goal(landscape, minimum)
    occupation = landscape.host.canonicalizer.occupation(minimum.fingerprint)
    found, energy = problem.evaluate(occupation)
    assert found == key
    assert energy == pytest.approx(24 * minimum.energy)
    too_high = landscapes.LargeMinimum(minimum.fingerprint, minimum.energy + 1, 1, 1)
    with pytest.raises(ValueError, match="lies below the minimum"):
        methods.large_problem(landscape, too_high).evaluate(occupation)


def test_one_composition_after_the_other_ends_each_at_its_minimum(bench, pmmcs):
    methods = bench.search_methods
    chosen = pmmcs.compositions[:3]
    landscapes = {composition: pmmcs.at(composition) for composition in chosen}
    rows = list(methods.one_by_one_run(pmmcs, landscapes, methods.random_run, 1))
    goal = methods.niche_goal(pmmcs, chosen)
    ends = [n for n, row in enumerate(rows) if row in goal]
    assert [goal[rows[n]] for n in ends] == [0, 1, 2]
    assert ends[-1] == len(rows) - 1
    needed, n_distinct = methods.evaluations_needed(iter(rows), {"niches": goal}, 1000)
    assert needed == {"niches": len(rows)}
    assert n_distinct == len(rows)


def test_evaluations_are_counted_until_all_targets_are_met(bench):
    goals = {"both": {3: 0, 4: 0, 7: 1}, "one": {4: 0}}
    count = bench.search_methods.evaluations_needed
    assert count(iter([9, 4, 3, 9, 7, 1]), goals, 100) == ({"both": 5, "one": 2}, 4)
    assert count(iter([9, 4, 3, 9, 7, 1]), goals, 4) == ({"both": None, "one": 2}, 3)
    assert count(iter([9]), goals, 100) == ({"both": None, "one": None}, 1)


def test_decorations_that_relax_to_nothing_teach_nothing(bench, coulomb, one_operator):
    methods = bench.search_methods
    lost = dataclasses.replace(coulomb, energies=np.full(344, np.inf))
    rows = first(gasearch_rows(bench, lost, one_operator, 1, settings=methods.screened()), 40)
    assert len(set(rows)) == 40


# --- runs and their report --------------------------------------------------------------------


def test_unsolved_runs_count_in_the_quantiles(bench):
    report = bench.search_report
    assert report.quantile([30, 10, 20, 40], 0.5) == 20
    assert report.quantile([30, 10, None, None], 0.75) is None
    found = report.statistics([None, 5, 7, None])
    assert found["median"] == 7
    assert found["percentile_90"] is None
    assert found["solved_share"] == 0.5
    curve = bench.search_figure.success_curve([None, 5, 7, None], 10)
    assert curve == ([1, 5, 7, 10], [0, 0.25, 0.5, 0.5])


def test_each_method_has_its_own_colour_and_dash(bench):
    styles = bench.search_figure.STYLES
    assert set(styles) == set(bench.search_case.METHODS)
    assert len({str(style) for style in styles.values()}) == len(styles)


def test_cases_are_told_apart_by_their_keys(bench, monkeypatch):
    uncached = functools.partial(bench.landscapes.make_landscape, cache=None)
    monkeypatch.setattr(bench.search_cases, "make_landscape", uncached)
    monkeypatch.setattr(bench.search_cases, "MODEL_CELL", (1, 2, 1))
    monkeypatch.setattr(bench.search_cases, "MODEL_X", "3/4")
    cases = [case for part in bench.search_cases.PARTS.values() for case in part(30)]
    keys = [case.key(goal) for case in cases for goal in case.goals]
    assert len(set(keys)) == len(keys)
    for case in cases:
        expected = {"ablation": 10, "coulomb-order": 1}
        assert case.runs == expected.get(case.part, expected.get(case.method, 30))
        assert (case.tuning is None) == (case.method != "ase_ga")
    for name in bench.search_tables.table_names():
        assert any(case.landscape == name for case in cases)


def _invoke(bench, *arguments):
    app = bench.search.typer.Typer()
    app.command()(bench.search.main)
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def small(bench, one_operator, monkeypatch):
    """The script on 64 decorations, with few pilots, and no table of relaxed energies."""
    uncached = functools.partial(bench.landscapes.make_landscape, cache=None)
    for module in (bench.search, bench.search_cases):
        monkeypatch.setattr(module, "make_landscape", uncached)
        monkeypatch.setattr(module, "MODEL_CELL", (1, 2, 1))
        monkeypatch.setattr(module, "MODEL_X", "3/4")
    for module in (bench.search, bench.search_tables):
        monkeypatch.setattr(module, "table_names", list)
    monkeypatch.setattr(bench.search, "POPULATIONS", (10, 20))
    monkeypatch.setattr(bench.search, "N_PILOTS", 2)
    bench.search.described_landscapes.cache_clear()
    yield bench
    bench.search.described_landscapes.cache_clear()


def test_the_script_prints_one_json_document_and_keeps_other_rows(small, tmp_path):
    arguments = ["--part", "model", "--runs", "3", "--output", str(tmp_path), "--json"]
    document = json.loads(_invoke(small, *arguments).stdout)
    assert document["operators"] == {"swap": 1.0}
    keys = [(row["landscape"], row["method"]) for row in document["rows"]]
    methods = list(small.search_case.METHODS)[1:]
    assert keys == [(name, method) for name in ("coulomb", "many-body") for method in methods]
    for row in document["rows"]:
        assert len(row["evaluations"]) == (1 if row["method"] == "coulomb-order" else 3)
        assert {"median", "quartile_1", "quartile_3", "percentile_90", "solved_share"} <= set(row)
    assert sum(pilot["is_chosen"] for pilot in document["pilots"]) == 2
    assert {path.name for path in tmp_path.iterdir()} == {
        "search.json",
        "search.md",
        "search-success.png",
    }
    again = json.loads(_invoke(small, *arguments, "--method", "random").stdout)
    assert [row["evaluations"] for row in again["rows"]] == [
        row["evaluations"] for row in document["rows"]
    ]
    assert again["pilots"] == document["pilots"]
    report = (tmp_path / "search.md").read_text(encoding="utf-8")
    assert "a tenth of `ase_ga`" in report
    assert "says nothing" in report  # of the Coulomb starts on the Coulomb landscape


def test_only_missing_rows_are_measured_when_that_is_asked_for(small, tmp_path, monkeypatch):
    arguments = ["--part", "model", "--runs", "2", "--output", str(tmp_path)]
    _invoke(small, *arguments, "--method", "random")
    measured = []
    monkeypatch.setattr(
        small.search, "measure", lambda case, document: measured.append(case.method) or []
    )
    _invoke(small, *arguments, "--missing", "--method", "random", "--method", "plain")
    assert measured == ["plain", "plain"]
    _invoke(small, "--part", "model", "--runs", "3", *arguments[4:], "--missing")
    assert measured.count("random") == 2  # the number of runs is another


def test_a_relaxed_table_is_searched_as_a_whole_and_by_composition(
    bench, one_operator, tmp_path, monkeypatch
):
    for module in (bench.search, bench.search_tables):
        monkeypatch.setattr(module, "table_names", lambda: ["nafepo4-121-pmmcs"])
    monkeypatch.setattr(bench.search, "described_landscapes", lambda: described)
    table = bench.relaxed_landscapes.relaxed_landscape("nafepo4-121-pmmcs")
    described = list(bench.search._of_table(table))
    arguments = ["--part", "relaxed", "--method", "random", "--method", "tempering"]
    arguments += ["--runs", "2", "--output", str(tmp_path), "--json"]
    rows = json.loads(_invoke(bench, *arguments).stdout)["rows"]
    assert {row["x"] for row in rows} == {"all", "1/4", "3/8", "1/2", "5/8", "3/4"}
    assert {row["goal"] for row in rows} == {"niches", "ground state"}  # pmmcs makes no hull
    assert all(row["solved_share"] == 1 for row in rows)
    report = (tmp_path / "search.md").read_text(encoding="utf-8")
    assert "under a third of random" not in report  # gasearch has no row yet
    assert "| nafepo4-121-pmmcs | 1/2 | 344 |" in report


def test_engine_time_is_measured_on_a_known_number_of_results(bench, one_operator, monkeypatch):
    cost = bench.search_cost
    monkeypatch.setattr(cost, "default_operators", lambda: one_operator)
    monkeypatch.setattr(cost, "N_PROPOSALS", 3)
    monkeypatch.setattr(cost, "N_FEATURES", 1_000)
    host = bench.landscapes.make_landscape("coulomb", (1, 2, 1), "1/2", cache=None).host
    found = cost.cost_at(host, 40)
    assert (found["cell"], found["n_results"], found["n_formula_units"]) == ("1x2x1", 40, 8)
    assert found["is_used"]
    assert 0 < found["mean_s"] <= found["longest_s"]


def test_the_machine_is_described_without_names_or_paths(bench):
    described = bench.machine.describe_machine(("numpy",))
    assert {"processor", "cores", "python", "numpy"} <= set(described)
    assert not any("/" in str(value) for value in described.values())
