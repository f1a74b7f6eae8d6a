"""Where a candidate comes from, from the database alone."""

import json

import pytest
from rich.console import Console

from gasearch.analysis.enumerate import host_of
from gasearch.analysis.findings import Findings
from gasearch.analysis.lineage import lineage
from gasearch.crystal.io.hosts import host_to_json
from gasearch.display.tables import as_json, lineage_table
from gasearch.display.terminal import make_console
from gasearch.errors import UsageError
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import FIRST_OUTSIDE
from gasearch.testing.store import (
    LEVEL,
    example_proposal,
    example_run,
    propose_and_lease,
    record,
)

FE, NA = "Fe4P4O16", "Na4Fe4P4O16"
HALF = {"composition": "Na2Fe4P4O16"}


@pytest.fixture
def store(tmp_path):
    """A made-up search of 4 formula units; candidate k has -10 - k eV.

    1 and 2 are the ends, 4 descends from both through 3, 5 failed, 6 is still being relaxed.
    """
    host = host_of("nafepo4-olivine", (1, 1, 1))
    run = example_run(4, host=host_to_json(host), host_atoms=host.atoms)
    with PopulationStore.create(tmp_path / "search.db", run, LEVEL) as store:
        for keys in (
            {"composition": FE, "x": 0.0, "operator": "end_member"},
            {"composition": NA, "x": 1.0, "operator": "end_member"},
            {"parents": (1, 2), "operator": "crossover", "generation": 1},
            {
                "parents": (3, 1),
                "generation": 2,
                "operator": "charge_swap",
                "budget": 60,
                "details": {
                    "rates": {"charge_swap": 0.25, "crossover": 0.75},
                    "predicted_eV_per_fu": -3.6,
                    "deviation_eV_per_fu": 0.08,
                },
            },
        ):
            record(store, propose_and_lease(store, 1, **HALF | keys), n_formula_units=4)
        details = {"predicted_eV_per_fu": -3.0, "rates": {}}
        failed = propose_and_lease(store, 1, **HALF, details=details)
        record(store, failed, n_formula_units=4, verdict="failed")
        propose_and_lease(store, 1, **HALF, parents=(4,), generation=3)
        yield store


@pytest.fixture
def findings(store):
    return Findings(store)


def test_it_goes_back_to_those_without_parents_each_once(findings):
    rows = lineage(findings, 4)
    assert [row.id for row in rows] == [4, 3, 2, 1]
    assert [row.parents for row in rows] == [(3, 1), (1, 2), (), ()]
    assert [row.operator for row in rows] == [
        "charge_swap",
        "crossover",
        "end_member",
        "end_member",
    ]
    assert [row.id for row in lineage(findings, 1)] == [1]


def test_it_says_what_was_expected_and_what_came_out(findings):
    row = lineage(findings, 4)[0]
    assert (row.predicted_eV_per_fu, row.deviation_eV_per_fu) == (-3.6, 0.08)
    assert row.found_eV_per_fu == -14.0 / 4
    assert row.error_eV_per_fu == pytest.approx(0.1)
    assert (row.rate, row.budget) == (0.25, 60)
    parent = lineage(findings, 4)[1]
    assert parent.rate is parent.predicted_eV_per_fu is parent.error_eV_per_fu is None


def test_a_prediction_is_compared_with_what_it_predicts_the_search_relaxation(store, findings):
    batch = store.batch()
    batch.queue_tight([4])
    batch.lease([4])
    leases = batch.commit().leases
    record(store, leases, n_formula_units=4, energy=-15.0)
    row = lineage(findings, 4)[0]
    assert row.energy_eV == -15.0
    assert row.found_eV_per_fu == -14.0 / 4


def test_heights_are_those_of_the_ranking(findings):
    ranked = {row.id: row for row in findings.ranked()}
    for row in lineage(findings, 4):
        assert row.above_hull_eV_per_fu == ranked[row.id].above_hull_eV_per_fu is not None
        assert row.formation_energy_eV_per_fu == ranked[row.id].formation_energy_eV_per_fu
        assert row.energy_eV == ranked[row.id].energy_eV


def test_one_without_a_valid_energy_has_none(findings):
    (failed,) = lineage(findings, 5)
    assert failed.verdict == "failed"
    assert failed.energy_eV is failed.found_eV_per_fu is failed.error_eV_per_fu is None
    assert failed.above_hull_eV_per_fu is None
    assert failed.predicted_eV_per_fu == -3.0
    running = lineage(findings, 6)[0]
    assert running.id == 6
    assert running.verdict is running.energy_eV is None


def test_one_from_elsewhere_comes_first_in_its_own_lineage(store, findings):
    batch = store.batch()
    batch.propose([example_proposal(None, origin="dft", fingerprint="moved", **HALF, parents=(4,))])
    batch.commit()
    rows = lineage(findings, FIRST_OUTSIDE)
    assert [row.id for row in rows] == [FIRST_OUTSIDE, 4, 3, 2, 1]
    assert rows[0].origin == "dft"


def test_a_number_that_is_not_there_is_named(findings):
    with pytest.raises(UsageError, match="no candidate 7 in this run: its last one is 6"):
        lineage(findings, 7)


def test_the_document_is_json(findings):
    for number in range(1, 7):
        assert json.loads(as_json(lineage(findings, number)))[0]["id"] == number
    first = json.loads(as_json(lineage(findings, 4)))[0]
    assert first["details"]["rates"] == {"charge_swap": 0.25, "crossover": 0.75}
    assert first["error_eV_per_fu"] == pytest.approx(0.1)


def test_the_table_says_who_comes_from_elsewhere(store, findings, capsys):
    batch = store.batch()
    batch.propose(
        [example_proposal(None, operator="user", origin="a.cif", fingerprint="moved", **HALF)]
    )
    batch.commit()
    make_console().print(lineage_table(lineage(findings, FIRST_OUTSIDE)))
    assert "user (a.cif)" in capsys.readouterr().out
    make_console().print(lineage_table(lineage(findings, 4)))
    assert "(" not in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("width", [80, 10_000])
def test_the_table_loses_nothing(findings, width, capsys):
    Console(width=width, soft_wrap=True).print(lineage_table(lineage(findings, 4)))
    text = capsys.readouterr().out
    child = next(line.split() for line in text.splitlines() if line.startswith(" 4 "))
    assert child[1:3] == ["charge_swap", "25%"]
    assert child[3:5] == ["3,", "1"]
    assert child[-4:] == ["ok", "+100.0", "±", "80.0"]
    assert "…" not in text
