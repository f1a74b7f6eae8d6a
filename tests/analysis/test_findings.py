"""What a run has found, from its database alone."""

import shutil
import threading

import numpy as np
import pytest

from gasearch.analysis.findings import (
    Findings,
    NotValid,
)
from gasearch.analysis.hull import formation_hull
from gasearch.crystal.declaration import HostError
from gasearch.errors import UsageError
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.store.sqlite.lock import DriverLock
from gasearch.testing.store import propose_and_lease, record

END_FAILS = """

class EndFails(Misbehaving):
    def is_poison(self, atoms):
        return "Na" not in atoms.symbols

    def misbehave(self):
        self.results["energy"] = float("nan")
"""


def opened(folder):
    return RunFolder(folder).open_store()


@pytest.fixture(scope="module")
def failing(tmp_path_factory, make_run):
    """A search in which everything with three Na fails."""
    folder = make_run(tmp_path_factory.mktemp("run"), "./toy.py:Raising", budget=100)
    Session(RunFolder(folder)).run()
    return folder


@pytest.fixture
def findings(finished):
    with opened(finished) as store:
        yield Findings(store)


class TestStatus:
    def test_it_counts_what_was_searched_of_what_there_is(self, findings):
        status = findings.status()
        assert [row.x for row in status.by_composition] == [0, 0.25, 0.5, 0.75, 1]
        assert [row.searched for row in status.by_composition] == [1, 2, 10, 2, 1]
        assert [row.total for row in status.by_composition] == [1, 2, 10, 2, 1]
        assert status.counts.candidates == status.counts.relaxed == 16
        assert (status.done, status.ending, status.running) == (True, "exhausted", None)

    def test_the_lowest_of_each_composition_is_that_of_the_ranking(self, findings):
        ranked = findings.ranked()
        for row in findings.status().by_composition:
            own = [r for r in ranked if r.formula == row.formula]
            best = min(own, key=lambda r: (r.energy_eV, r.id))
            assert (row.best, row.best_energy_eV) == (best.id, best.energy_eV)
            assert row.best_formation_energy_eV_per_fu == pytest.approx(
                best.formation_energy_eV_per_fu, abs=1e-12
            )

    def test_a_composition_without_a_valid_candidate_has_no_lowest(self, failing):
        with opened(failing) as store:
            rows = Findings(store).status().by_composition
        empty = rows[3]
        assert (empty.searched, empty.failed) == (2, 2)
        assert empty.best is empty.best_energy_eV is empty.best_formation_energy_eV_per_fu is None

    def test_a_stopped_search_is_not_done(self, tmp_path, make_run):
        folder, stop = make_run(tmp_path / "run"), threading.Event()
        Session(RunFolder(folder)).run(lambda outcomes: stop.set(), stop)
        with opened(folder) as store:
            status = Findings(store).status()
        assert (status.done, status.ending, status.running) == (False, "stopped", None)

    def test_a_killed_search_has_no_ending(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", "./toy.py:Raising")

        def die(outcomes):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Session(RunFolder(folder)).run(die)
        with opened(folder) as store:
            status = Findings(store).status()
        assert (status.done, status.ending, status.running) == (False, None, None)

    def test_a_search_with_a_driver_is_running_whatever_its_last_ending(self, finished, tmp_path):
        folder = shutil.copytree(finished, tmp_path / "run")
        with DriverLock(folder / "search.db"), opened(folder) as store:
            status = Findings(store).status()
        assert status.running is not None
        assert status.running.startswith("process ")
        assert not status.done

    def test_only_the_compositions_of_the_search_are_shown(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", search={"x": [0.5]})
        Session(RunFolder(folder)).run()
        with opened(folder) as store:
            assert [row.x for row in Findings(store).status().by_composition] == [0, 0.5, 1]


class TestProof:
    def test_a_composition_without_open_decorations_is_proven(self, findings):
        rows = findings.status().by_composition
        assert [row.valid for row in rows] == [row.total for row in rows] == [1, 2, 10, 2, 1]
        assert all(row.proven and row.open == 0 and row.not_valid == () for row in rows)

    def test_what_failed_is_not_open_and_not_valid(self, failing):
        with opened(failing) as store:
            found, failures = Findings(store).composition("3/4"), Findings(store).failures()
        assert (found.total, found.valid, found.open, found.proven) == (2, 0, 0, True)
        assert [(c.id, c.verdict) for c in found.not_valid] == [(n, "failed") for n, _ in failures]

    def test_there_is_no_proof_while_one_is_open(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", budget=2, search={"x": [0, 0.75, 1]})
        Session(RunFolder(folder)).run()
        formula = "Na3Fe4P4O16"
        with RunFolder(folder).open_store(read_only=False) as store:

            def found():
                row = Findings(store).composition(0.75)
                return row.searched, row.valid, row.open, len(row.not_valid), row.proven

            assert found() == (0, 0, 2, 0, False)
            first = propose_and_lease(store, 1, composition=formula, x=0.75)
            assert found() == (1, 0, 2, 0, False)  # proposed, and not finished
            record(store, first, n_formula_units=4)
            assert found() == (1, 1, 1, 0, False)
            second = propose_and_lease(store, 1, composition=formula, x=0.75)
            record(store, second, n_formula_units=4, verdict="order_lost")
            assert found() == (2, 1, 0, 1, True)
            row = Findings(store).status().by_composition[1]
            assert row == Findings(store).composition("3/4")
            assert row.not_valid == (NotValid(second[0].candidate, "order_lost"),)

    def test_a_composition_that_is_not_searched_is_open(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", budget=2, search={"x": [0, 1]})
        Session(RunFolder(folder)).run()
        with opened(folder) as store:
            found = Findings(store).composition("1/2")
        assert (found.searched, found.total, found.open, found.proven) == (0, 10, 10, False)


class TestRanking:
    def test_it_is_that_of_the_hull(self, findings):
        ranked = findings.ranked()
        hull = formation_hull([r.x for r in ranked], [r.energy_eV for r in ranked], 4, (0.0, 1.0))
        assert np.allclose(
            [r.formation_energy_eV_per_fu for r in ranked], hull.formation_energy_per_fu
        )
        assert np.allclose([r.above_hull_eV_per_fu for r in ranked], hull.above_hull_per_fu)
        assert [r.on_hull for r in ranked] == hull.on_hull.tolist()

    def test_orbit_sizes_add_up_to_all_decorations(self, findings):
        assert sum(row.orbit_size for row in findings.ranked()) == 1 + 16 + 36 + 16 + 1

    def test_best_of_a_composition_goes_by_energy(self, findings):
        rows = findings.best("1/2", 4)
        assert [row.x for row in rows] == [0.5] * 4
        energies = [row.energy_eV for row in rows]
        assert energies == sorted(energies)
        assert energies == sorted(r.energy_eV for r in findings.ranked() if r.x == 0.5)[:4]

    def test_best_of_all_goes_by_the_distance_from_the_hull(self, findings):
        above = [row.above_hull_eV_per_fu for row in findings.best(None, 100)]
        assert len(above) == 16
        assert above == sorted(above)
        assert above[0] == 0

    def test_the_lowest_of_each_composition(self, findings):
        rows = findings.lowest(2)
        assert [row.x for row in rows] == [0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1]
        assert [row.id for row in rows if row.x == 0.5] == [r.id for r in findings.best(0.5, 2)]

    def test_candidates_can_be_chosen_by_number(self, findings):
        assert [row.id for row in findings.chosen([7, 3])] == [7, 3]
        assert [row.id for row in findings.chosen(None)] == [r.id for r in findings.best(None, 10)]
        assert len(findings.chosen([])) == 10

    def test_a_number_that_is_not_there_is_named(self, findings, failing):
        with pytest.raises(UsageError, match="no relaxed candidate 99, 100 in this run"):
            findings.chosen([1, 99, 100])
        with opened(failing) as store:
            failed, _ = Findings(store).failures()[0]
            with pytest.raises(UsageError, match=f"no relaxed candidate {failed}"):
                Findings(store).chosen([failed])

    @pytest.mark.parametrize("x", ["0.3", "1.5", "-1", "half"])
    def test_an_x_that_cannot_be_is_refused(self, findings, x):
        with pytest.raises(HostError, match="x = "):
            findings.best(x, 1)


class TestWithoutAnEnd:
    @pytest.fixture
    def endless(self, tmp_path, make_run):
        """A search whose x = 0 fails."""
        folder = make_run(tmp_path / "run", "./toy.py:EndFails", budget=8)
        with (folder / "toy.py").open("a") as file:
            file.write(END_FAILS)
        Session(RunFolder(folder)).run()
        with opened(folder) as store:
            yield Findings(store)

    def test_there_are_no_formation_energies(self, endless):
        assert endless.missing_ends() == [0.0]
        rows = endless.ranked()
        assert rows
        assert all(row.formation_energy_eV_per_fu is None and not row.on_hull for row in rows)
        status = endless.status()
        assert all(r.best_formation_energy_eV_per_fu is None for r in status.by_composition)
        assert [row.energy_eV for row in endless.best(0.5, 3)]

    def test_those_with_both_ends_miss_none(self, findings):
        assert findings.missing_ends() == []


def test_failures_are_listed_with_their_reasons(failing, findings):
    with opened(failing) as store:
        failures = Findings(store).failures()
    assert len(failures) == 2
    assert [number for number, _ in failures] == sorted(number for number, _ in failures)
    assert all("the calculator gave up" in reason for _, reason in failures)
    assert findings.failures() == []
