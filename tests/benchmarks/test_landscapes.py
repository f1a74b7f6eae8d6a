"""The ground truth of the search benchmark: tables of relaxed energies, large cells, tempering."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from places import BENCHMARKS

NAMES = (
    "energies",
    "landscapes",
    "machine",
    "tempering",
    "relaxed_landscapes",
    "relaxed_table",
)
TABLES = sorted(path.stem for path in (BENCHMARKS / "tables").glob("nafepo4-*.csv"))


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    for name in NAMES:
        del sys.modules[name]


@pytest.fixture(scope="module")
def pmmcs(bench):
    return bench.relaxed_landscapes.relaxed_landscape("nafepo4-121-pmmcs")


@pytest.fixture(scope="module", params=["coulomb", "many-body"])
def large(bench, request):
    return bench.landscapes.make_large_landscape(request.param)


@pytest.fixture(scope="module")
def coulomb(bench):
    return bench.landscapes.make_landscape("coulomb", (1, 2, 1), "1/2", cache=None)


def images(host, occupation):
    """Return (n_operations, n_sites) what the host's symmetry makes of an occupation."""
    result = np.empty_like(host.permutations, dtype=np.uint8)
    np.put_along_axis(result, host.permutations, occupation[None], axis=1)
    return result


# --- tables of relaxed energies ---------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_a_table_holds_all_distinct_decorations_of_its_compositions(bench, name):
    table = bench.relaxed_landscapes.relaxed_landscape(name)
    assert list(table.compositions) == sorted(table.compositions)
    for composition in table.compositions:
        rows = table.rows_at(composition)
        assert len(rows) == table.host.n_distinct(composition)
        assert table.orbit_sizes[rows].sum() == table.host.n_raw(composition)
        assert table.ground_state(composition) in rows
    assert len(set(table.fingerprints)) == len(table)
    assert np.isfinite(table.energies[table.is_ok]).all()


def test_the_hull_of_a_table_has_both_ends(pmmcs):
    assert len(pmmcs) == 874
    assert pmmcs.x[list(pmmcs.niche_minima)].tolist() == [n / 8 for n in range(9)]
    first, *_, last = pmmcs.hull_vertices
    assert (pmmcs.x[first], pmmcs.x[last]) == (0, 1)
    formation = pmmcs.hull.formation_energy_per_fu
    assert formation[0] == formation[-1] == 0
    assert (formation[1:-1] > 0.05).all()  # as is known of pmmcs: the hull has just its two ends
    assert len(pmmcs.hull_vertices) == 2


def test_the_shipped_potential_has_phases_between_the_ends(bench):
    table = bench.relaxed_landscapes.relaxed_landscape("nafepo4-121-chgnet-nafepo4")
    assert len(table) == 874
    assert [table.fingerprints[row] for row in table.hull_vertices] == [
        "ffff",
        "5533",
        "050c",
        "0000",
    ]
    assert table.x[list(table.hull_vertices)].tolist() == [0, 0.5, 0.75, 1]
    assert all(len(table.rows_within(c)) == 1 for c in table.compositions)


def test_equivalent_occupations_lead_to_one_row(pmmcs):
    for row in (100, 500, 873):
        rows = pmmcs.rows(images(pmmcs.host, pmmcs.occupations[row]))
        assert set(rows.tolist()) == {row}
        assert pmmcs.row(pmmcs.fingerprints[row]) == row


def test_what_is_not_in_the_table_is_refused(bench, pmmcs, tmp_path):
    whole = (bench.relaxed_landscapes.TABLES / "nafepo4-121-pmmcs.csv").read_text("utf-8")
    short = tmp_path / "nafepo4-121-short.csv"
    short.write_text("".join(whole.splitlines(keepends=True)[:-2]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"3 of the 4 distinct decorations of Na7Fe8P8O32"):
        bench.relaxed_landscapes.relaxed_landscape("nafepo4-121-short", tmp_path)
    other = bench.landscapes.Host.build(pmmcs.host.declaration, (1, 1, 2))
    occupation = other.random_occupation(other.composition_at("1/2"), np.random.default_rng(0))
    at_half = pmmcs.at(pmmcs.host.composition_at("1/4"))
    with pytest.raises(ValueError, match="Na2Fe8P8O32"):
        at_half.rows(occupation[None])


def test_verdicts_other_than_ok_count_as_no_energy(bench, pmmcs, tmp_path):
    composition = pmmcs.host.composition_at("1/2")
    lowest = pmmcs.fingerprints[pmmcs.ground_state(composition)]
    whole = (bench.relaxed_landscapes.TABLES / "nafepo4-121-pmmcs.csv").read_text("utf-8")
    lines = whole.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith(lowest))
    lines[at] = lines[at].replace(",ok,", ",order_lost,")
    (tmp_path / "nafepo4-121-lost.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = bench.relaxed_landscapes.relaxed_landscape("nafepo4-121-lost", tmp_path)
    row = table.row(lowest)
    assert table.verdicts[row] == "order_lost"
    assert table.ground_state(composition) != row
    landscape = table.at(composition)
    assert landscape.energies[landscape.rows(table.occupations[row, None])[0]] == np.inf
    assert (
        landscape.fingerprint(landscape.ground_state)
        == table.fingerprints[table.ground_state(composition)]
    )


def test_one_composition_of_a_table_is_a_landscape(pmmcs):
    composition = pmmcs.host.composition_at("3/4")
    landscape = pmmcs.at(composition)
    row = pmmcs.ground_state(composition)
    assert len(landscape) == 64
    assert landscape.fingerprint(landscape.ground_state) == pmmcs.fingerprints[row]
    per_fu = pmmcs.energies[row] / pmmcs.host.n_formula_units
    assert landscape.energies.min() == pytest.approx(per_fu)
    assert landscape.gap == pytest.approx(pmmcs.gap(composition))
    assert landscape.spread == pytest.approx(pmmcs.spread(composition))
    assert len(pmmcs.rows_within(composition, 0.0)) == 1
    assert len(pmmcs.rows_within(composition, landscape.gap + 1e-9)) == 2


def test_a_row_is_reproduced_by_relaxing_it_again(bench, pmmcs):
    texts = ("5fee", "5f3f")  # in the first, Na leaves its sites
    decorations = [bench.relaxed_table.Decoration.from_fingerprint(pmmcs.host, t) for t in texts]
    relaxer, level = bench.relaxed_table.make_relaxer("pmmcs", "cpu", decorations[0])
    entries = {
        entry.fingerprint: entry for entry in bench.relaxed_table.relax(relaxer, decorations)
    }
    for text, verdict in zip(texts, ("order_lost", "ok"), strict=True):
        entry, row = entries[text], pmmcs.row(text)
        assert float(entry.energy_eV) == pytest.approx(pmmcs.energies[row], abs=2e-4)
        assert entry.verdict == pmmcs.verdicts[row] == verdict
        assert (entry.x, entry.orbit_size) == ("0.25", pmmcs.orbit_sizes[row])
    first = (bench.relaxed_landscapes.TABLES / "nafepo4-121-pmmcs.csv").read_text("utf-8")
    assert level in first.splitlines()[0]


def test_a_table_is_continued_where_it_was_killed(bench, tmp_path):
    part = tmp_path / "nafepo4-111-pmmcs.csv.part"
    done = "# a comment\nfingerprint,x,orbit_size,energy_eV,verdict,n_calls\n00,1,1,-1.5,ok,7\n0"
    part.write_text(done, encoding="utf-8")
    bench.relaxed_table.main((1, 1, 1), ["0", "1"], "pmmcs", tmp_path, "cpu", 0)
    assert not part.exists()
    text = (tmp_path / "nafepo4-111-pmmcs.csv").read_text("utf-8").splitlines()
    assert text[0].startswith("# NaxFePO4, 1x1x1: all 2 distinct decorations, at x = 0, 1,")
    assert text[2].startswith("ff,0,1,-458.")
    assert text[3] == "00,1,1,-1.5,ok,7"  # taken over, not relaxed again


def test_several_processes_find_the_same(bench, pmmcs):
    composition = pmmcs.host.composition_at("1/8")
    wanted = bench.relaxed_table.decorations(pmmcs.host, composition)[:3]
    found = bench.relaxed_table.relax_in_processes("pmmcs", "cpu", wanted, 2)
    lines = {entry.fingerprint: entry for entry in found}
    assert sorted(lines) == [decoration.fingerprint for decoration in wanted]
    for text, entry in lines.items():
        row = pmmcs.row(text)
        assert float(entry.energy_eV) == pytest.approx(pmmcs.energies[row], abs=2e-4)
        assert (entry.verdict, entry.x) == (pmmcs.verdicts[row], "0.125")


# --- large landscapes -------------------------------------------------------------------------


def test_a_large_energy_does_not_change_under_the_symmetry_of_the_host(large):
    host = large.host
    assert host.n_formula_units == 24
    occupation = host.random_occupation(large.composition, np.random.default_rng(0))
    equivalent = images(host, occupation)
    assert len(np.unique(equivalent, axis=0)) > 1
    assert np.ptp(large.energy_of(equivalent)) < 1e-9
    assert len({large.fingerprint(image) for image in equivalent}) == 1


def test_the_committed_minimum_has_its_energy_and_was_found_repeatedly(bench, large):
    found = bench.landscapes.large_minimum(large.name)
    occupation = large.host.canonicalizer.occupation(found.fingerprint)
    assert large.host.composition_of(occupation) == large.composition
    assert large.energy_of(occupation[None])[0] == pytest.approx(found.energy, abs=1e-9)
    assert found.n_found >= 3
    document = json.loads(bench.landscapes.MINIMA.read_text("utf-8"))
    (entry,) = (e for e in document["landscapes"] if e["name"] == large.name)
    assert entry["occupation"] == occupation.tolist()
    assert all(run["n_evaluations"] >= 30_000 for run in entry["runs"])


def test_no_exchange_of_two_sites_lowers_the_committed_minimum(bench, large):
    found = bench.landscapes.large_minimum(large.name)
    occupation = large.host.canonicalizer.occupation(found.fingerprint)
    moved = []
    for i, j in bench.landscapes._exchanges(large.host):
        moved.append(occupation.copy())
        moved[-1][[i, j]] = occupation[[j, i]]
    assert large.energy_of(np.array(moved)).min() > found.energy - 1e-9


def test_a_large_landscape_is_no_higher_than_a_tiled_small_one(bench):
    declaration = bench.relaxed_landscapes.builtin_host("nafepo4-olivine")
    small = bench.landscapes.Host.build(declaration, (1, 3, 1))
    chunks = small.enumerate_distinct(small.composition_at("2/3"))
    energy_of = bench.energies.coulomb_energy(small)
    lowest = min(energy_of(occupations).min() for occupations, _ in chunks)
    assert bench.landscapes.large_minimum("coulomb").energy <= lowest + 1e-6


# --- parallel tempering -----------------------------------------------------------------------


def test_tempering_finds_the_ground_state_and_meets_each_decoration_once(bench, coulomb):
    rows, again, others = (
        list(itertools.islice(bench.tempering.tempering_run(coulomb, seed), 300))
        for seed in (1, 1, 2)
    )
    assert len(set(rows)) == 300
    assert coulomb.ground_state in rows[:250]
    assert rows == again
    assert rows != others


def test_tempering_ends_where_it_meets_nothing_new(bench, monkeypatch):
    monkeypatch.setattr(bench.tempering, "PATIENCE", 3)
    landscape = bench.landscapes.make_landscape("coulomb", (1, 1, 1), "3/4", cache=None)
    assert len(landscape) == 2
    assert set(bench.tempering.tempering_run(landscape, 1)) <= {0, 1}


def test_the_long_run_finds_the_ground_state_of_an_enumerated_landscape(bench, coulomb):
    run = bench.tempering.reference_run(coulomb, 1, 100)
    second = np.partition(coulomb.energies, 1)[1]
    assert run.fingerprint == coulomb.fingerprint(coulomb.ground_state)
    assert run.energy_eV_per_fu == pytest.approx(coulomb.energies.min())
    assert run.second_eV_per_fu == pytest.approx(second)
    assert run.n_evaluations == 32 * 32 + 32 * 100


def test_tempering_yields_energies_of_a_large_landscape(bench, large):
    energies = list(itertools.islice(bench.tempering.tempering_run(large, 1), 300))
    assert len(energies) == 300
    assert min(energies) >= bench.landscapes.large_minimum(large.name).energy - 1e-9
    assert np.mean(energies[-50:]) < np.mean(energies[:4])


def test_colder_replicas_are_lower_and_keep_the_composition(bench, coulomb):
    settings = bench.tempering.REFERENCE
    chains = bench.tempering.Tempering(
        coulomb.host, coulomb.composition, coulomb.energy_of, 1, settings
    )
    seen = []
    for _ in range(400):
        chains.step()
        seen.append(chains.energies.copy())
    mean = np.mean(seen[100:], axis=0)
    assert mean[0] < mean[-1]
    for sublattice in coulomb.host.sublattices:
        np.testing.assert_array_equal(chains.occupations[:, sublattice.slice].sum(axis=1), 4)
    np.testing.assert_allclose(chains.energies, coulomb.energy_of(chains.occupations), atol=1e-12)


def test_the_hottest_replica_samples_boltzmann_weights(bench, coulomb):
    settings = bench.tempering.TemperingSettings(64, 0.5, 0.5, 10, 16)
    chains = bench.tempering.Tempering(
        coulomb.host, coulomb.composition, coulomb.energy_of, 2, settings
    )
    seen = []
    for _ in range(1500):
        chains.step()
        seen.append(chains.energies.mean())
    weights = coulomb.orbit_sizes * np.exp(
        -(coulomb.energies - coulomb.energies.min()) / chains._kT[0]
    )
    expected = np.average(coulomb.energies, weights=weights)
    assert np.mean(seen[100:]) == pytest.approx(expected, abs=0.02 * coulomb.spread)


def test_decorations_without_an_energy_are_left_at_once(bench, coulomb):
    def energy_of(occupations):
        energies = coulomb.energy_of(occupations)
        return np.where(energies > np.median(coulomb.energies), np.inf, energies)

    settings = bench.tempering.METHOD
    chains = bench.tempering.Tempering(coulomb.host, coulomb.composition, energy_of, 3, settings)
    for _ in range(200):
        chains.step()
    assert np.isfinite(chains.energies).all()
