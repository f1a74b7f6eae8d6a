"""Charge orders that only seem to differ are one outcome; those that differ are not."""

import numpy as np
import pytest

from gasearch.analysis.findings import Findings
from gasearch.analysis.outcomes import one_outcome
from gasearch.display.tables import ranked_table
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session

HALF = "Na2Fe4P4O16"


def searched(folder):
    Session(RunFolder(folder)).run()
    return RunFolder(folder)


@pytest.fixture(scope="module")
def blind(tmp_path_factory, make_run):
    folder = tmp_path_factory.mktemp("blind") / "run"
    return searched(make_run(folder, "./toy.py:Blind", relax={"rattle": 0.0}))


def test_under_a_charge_blind_potential_orders_of_one_na_order_are_one_outcome(blind):
    with blind.open_store() as store:
        findings = Findings(store)
        rows = [row for row in findings.best("1/2", 99) if row.formula == HALF]
        assert len(rows) == 10
        firsts = [row for row in rows if row.same_as is None]
        assert len(firsts) == 3, "there are three orders of two Na on four sites"
        for row in rows:
            assert row.same_as is None or row.same_as in [first.id for first in firsts]
        table = ranked_table(rows)
        assert any("outcome" in str(column.header) for column in table.columns)


def test_under_a_potential_that_sees_charges_they_stay_apart(tmp_path, make_run):
    folder = searched(make_run(tmp_path / "run", relax={"rattle": 0.0}))
    with folder.open_store() as store:
        rows = {row.id: row for row in Findings(store).best("1/2", 99)}
        assert len(rows) == 10
        for row in rows.values():  # the toy relaxes nothing, and some of its orders are degenerate
            if row.same_as is not None:
                assert row.energy_eV == pytest.approx(rows[row.same_as].energy_eV, abs=1e-9)
        assert sum(row.same_as is None for row in rows.values()) >= 7


def test_equal_energies_in_unlike_geometries_are_two_outcomes(blind, monkeypatch):
    with blind.open_store() as store:
        findings = Findings(store)
        group = [row for row in findings.best("1/2", 99) if row.same_as is not None]
        one, other = group[0].same_as, group[0].id
        assert one_outcome(findings.host, store, {one: 0.0, other: 1e-4}) == {other: one}
        assert one_outcome(findings.host, store, {one: 0.0, other: 0.1}) == {}
        plain = store.relaxed

        def distorted(number):
            found = plain(number)
            if number == other:
                oxygen = np.flatnonzero(found.atoms.symbols == "O")[0]
                found.atoms.positions[oxygen] += [0.0, 0.14, 0.0]
            return found

        monkeypatch.setattr(store, "relaxed", distorted)
        assert one_outcome(findings.host, store, {one: 0.0, other: 1e-4}) == {}
