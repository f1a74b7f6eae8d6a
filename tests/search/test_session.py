"""From a run folder to a search: new, resumed, refused."""

import json
import threading
from dataclasses import replace

import pytest

from gasearch.errors import UsageError
from gasearch.execution.devices import NoDeviceError
from gasearch.potentials.measured.awareness import ChargeBlindError
from gasearch.potentials.measured.level import LevelMismatchError
from gasearch.relax.calibration import CannotCalibrateError
from gasearch.run.folder import RunFolder
from gasearch.search.check import check_run
from gasearch.search.resume import CALIBRATION_FOUND, ChangedRunError
from gasearch.search.session import Session
from gasearch.store.sqlite.lock import DriverLock

QUICK = {"rattle": 0.0, "fmax": 9.0, "smax": 9.0}
"""One evaluation relaxes a structure."""


def session(folder):
    return Session(RunFolder(folder))


def recorded(folder):
    with RunFolder(folder).open_store() as store:
        return store.proposals(), store.outcomes()


def test_a_raised_budget_goes_on_where_the_search_ended(tmp_path, make_run):
    folder = make_run(tmp_path / "run", budget=6)
    assert session(folder).run() == "budget"
    first, _ = recorded(folder)
    assert session(make_run(folder, budget=10)).run() == "budget"
    proposals, outcomes = recorded(folder)
    assert proposals[:6] == first
    assert [p.budget for p in proposals] == [6] * 6 + [10] * 4
    assert len(outcomes) == 10
    assert check_run(RunFolder(folder), replay=True) == []
    with RunFolder(folder).open_store() as store:
        changes = [event.data for event in store.events(kind="operational")]
    assert len(changes) == 1
    assert changes[0]["search.budget"] == 10 or 10 in str(changes[0])


def test_without_screening_a_budget_changes_nothing_but_the_length(tmp_path, make_run):
    plain = {"screening": {"surrogate": False, "exact": False, "refine": 0.0}, "relax": QUICK}
    folder = make_run(tmp_path / "run", budget=6, **plain)
    whole = make_run(tmp_path / "whole", budget=10, **plain)
    session(folder).run()
    session(make_run(folder, budget=10, **plain)).run()
    session(whole).run()
    with_budgets = [recorded(run)[0] for run in (folder, whole)]
    short, long = ([(p.fingerprint, p.operator, p.parents) for p in ps] for ps in with_budgets)
    assert short == long


def test_a_run_from_before_screening_goes_on_without_it_or_says_so(tmp_path, make_run):
    folder = make_run(tmp_path / "run", budget=6)
    plain = {"screening": {"surrogate": False, "exact": False, "refine": 0.0, "adaptive": False}}
    old = make_run(tmp_path / "run", budget=6, seeds={"coulomb": False}, **plain)
    session(old).run()
    with RunFolder(folder).open_store() as store:
        run = store.run
    settings = {k: v for k, v in run.settings.items() if not k.startswith(("screening.", "seeds."))}
    before = replace(run, settings=settings)
    session(old).refuse_changes(before)
    screened = session(make_run(folder, budget=6))
    with pytest.raises(ChangedRunError, match=r"screening.*was started with"):
        screened.refuse_changes(before)


def test_errors_of_the_surrogate_and_the_refinement_of_the_hull_are_recorded(tmp_path, make_run):
    folder = make_run(
        tmp_path / "run", budget=60, supercell=(1, 2, 1), search={"initial": 12}, relax=QUICK
    )
    assert session(folder).run() == "budget"
    with RunFolder(folder).open_store() as store:
        fits = [event.data for event in store.events(kind="surrogate")]
        (last,) = [event.data for event in store.events(kind="refined")]
        proposals = store.proposals()
    assert [data["n_results"] for data in fits] == sorted(data["n_results"] for data in fits)
    assert fits[-1]["error_eV_per_fu"] > 0
    assert last["members"]
    assert {p.operator for p in proposals} & {"screened"}
    assert check_run(RunFolder(folder), replay=True) == []


def test_a_search_ends_when_every_decoration_is_evaluated(tmp_path, make_run):
    assert session(make_run(tmp_path / "run", budget=1000, relax=QUICK)).run() == "exhausted"
    proposals, outcomes = recorded(tmp_path / "run")
    assert len(proposals) == len(outcomes) == 16


def test_a_search_ends_when_nothing_improves(tmp_path, make_run):
    folder = make_run(
        tmp_path / "run", budget=1000, supercell=(1, 2, 1), search={"stagnation": 15}, relax=QUICK
    )
    assert session(folder).run() == "stagnation"
    assert 24 < len(recorded(folder)[0]) < 874


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("search.seed", {"search": {"seed": 4}}),
        ("search.x", {"search": {"x": [0.5]}}),
        ("relax.fmax", {"relax": {"fmax": 0.05}}),
        ("host.supercell", {"supercell": (1, 1, 2)}),
        ("operators", {"operators": {"na_vacancy_swap": 1}}),
        ("search.reproducible", {"search": {"reproducible": True}}),
    ],
)
def test_a_changed_defining_key_is_refused_by_name(tmp_path, make_run, key, change):
    folder = make_run(tmp_path / "run", budget=2)
    session(folder).run()
    before = recorded(folder)
    changed = make_run(folder, budget=8, **change)
    with pytest.raises(ChangedRunError, match=key):
        session(changed).run()
    assert recorded(folder) == before


def test_another_potential_behind_the_same_name_is_refused(tmp_path, make_run):
    folder = make_run(tmp_path / "run", budget=4)
    session(folder).run()
    source = (folder / "toy.py").read_text()
    make_run(folder, budget=8)
    (folder / "toy.py").write_text(source.replace("np.exp(-r / 2)", "np.exp(-r / 2.1)"))
    with pytest.raises((LevelMismatchError, ChangedRunError), match=r"changed|cannot change"):
        session_in_new_process(folder)


def session_in_new_process(folder):
    """Load the changed file as a new process would."""
    import sys

    for name in [n for n in sys.modules if n.startswith("gasearch_plugin_toy")]:
        del sys.modules[name]
    session(folder).run()


def test_a_charge_blind_potential_is_refused_unless_allowed(tmp_path, make_run):
    folder = make_run(tmp_path / "run", "./toy.py:Blind")
    text = (folder / "run.toml").read_text()
    assert session(folder).run() == "budget"
    refused = make_run(tmp_path / "refused", "./toy.py:Blind")
    (refused / "run.toml").write_text(text.replace('"allow_charge_blind" = true', ""))
    with pytest.raises(ChargeBlindError, match="charge-blind"):
        session(refused).run()
    assert not (refused / "search.db").exists()


def test_a_stop_keeps_what_is_committed_and_the_search_goes_on_later(tmp_path, make_run):
    folder, reference = (make_run(tmp_path / name, relax=QUICK) for name in ("run", "reference"))
    stop = threading.Event()
    seen = []

    def observe(outcomes):
        seen.extend(outcomes)
        if len(seen) >= 5:
            stop.set()

    assert session(folder).run(observe, stop) == "stopped"
    assert len(recorded(folder)[1]) == 5
    session(folder).run()
    session(reference).run()
    assert recorded(folder) == recorded(reference)


def test_one_driver_at_a_time(tmp_path, make_run):
    folder = make_run(tmp_path / "run")
    with (
        DriverLock(folder / "search.db"),
        pytest.raises(Exception, match="running"),
    ):
        session(folder).run()


def test_end_members_and_what_is_near_the_hull_are_relaxed_a_second_time(tmp_path, make_run):
    folder = make_run(tmp_path / "run", "pmmcs", budget=4, relax={"fmax": 0.05})
    session(folder).run()
    with RunFolder(folder).open_store() as store:
        rows = {row.candidate: row for row in store.evaluations()}
        tight = {c for c in rows if store.relaxed(c, "search").energy > rows[c].energy + 1e-9}
        assert store.relaxed(1, "tight").fmax <= 0.01
        assert tight <= {1, 2}
        assert len(store.outcomes()) == 4, "a tight relaxation does not steer the search"
    session(folder).run()
    with RunFolder(folder).open_store() as store:
        assert len(store.outcomes()) == 4


@pytest.mark.parametrize(
    ("x", "problem"),
    [([1.5], "outside the neutral range"), ([0.3], "cannot hold x"), (["a/b"], "is not a number")],
)
def test_compositions_that_cannot_be_are_refused_at_once(tmp_path, make_run, x, problem):
    with pytest.raises(UsageError, match=problem):
        session(make_run(tmp_path / "run", search={"x": x}))


def test_a_key_of_a_later_version_at_its_default_does_not_stop_an_old_run(tmp_path, make_run):
    import sqlite3

    folder = make_run(tmp_path / "run", budget=4)
    session(folder).run()
    with sqlite3.connect(folder / "search.db") as database:
        (text,) = database.execute("select settings from run").fetchone()
        settings = json.loads(text)
        del settings["potential.species"], settings["relax.rattle"]
        database.execute("update run set settings = ?", (json.dumps(settings),))
    database.close()
    assert session(make_run(folder, budget=6)).run() == "budget"
    with pytest.raises(ChangedRunError, match=r"relax\.rattle"):
        session(make_run(folder, budget=8, relax={"rattle": 0.1})).run()


class TestInFlight:
    def test_auto_is_one_per_worker_or_enough_for_the_device(self, tmp_path, make_run):
        several = session(make_run(tmp_path / "run", execution={"workers": 3}))
        assert (several.device, several.in_flight) == ("cpu", 3)
        several = session(make_run(tmp_path / "run", execution={"workers": 3}))
        several.device = "cuda"
        assert several.in_flight * len(several.host.atoms) >= 8192
        order = several.executor_request()
        assert order.places == several.in_flight
        assert order.source.device == "cuda"
        assert order.source.limits == tmp_path / "run" / "batch_limits.json"
        chosen = make_run(tmp_path / "run", search={"in_flight": 2}, execution={"workers": 3})
        assert session(chosen).in_flight == 2

    def test_a_reproducible_search_keeps_what_it_was_started_with(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", budget=4, search={"reproducible": True})
        session(folder).run()
        search = {"reproducible": True}
        make_run(folder, budget=8, search=search, execution={"workers": 3})
        resumed = session(folder)
        assert resumed.in_flight == 1
        make_run(folder, budget=8, search=search)
        assert session(folder).run() == "budget"
        assert check_run(RunFolder(folder), replay=True) == []
        make_run(folder, budget=8, search={"reproducible": True, "in_flight": 2})
        with pytest.raises(
            ChangedRunError, match=r"search\.in_flight .* started with 1, .* says 2"
        ):
            session(folder).run()

    def test_a_device_that_is_not_there_is_refused_before_anything_is_made(
        self, tmp_path, make_run, monkeypatch
    ):
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        folder = make_run(tmp_path / "run", execution={"device": "cuda", "workers": 2})
        with pytest.raises(NoDeviceError, match="torch sees none here"):
            session(folder).run()
        assert not (folder / "search.db").exists()


HELD = {"potential": "pmmcs", "potential_keys": {"hold": "bonds"}, "relax": QUICK}


class TestHolds:
    """A search with a held potential; pmmcs, for it is quick."""

    def test_the_calibration_is_recorded_and_a_resume_uses_it(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", budget=3, **HELD)
        session(folder).run()
        with RunFolder(folder).open_store() as store:
            found = store.run.settings[CALIBRATION_FOUND]
            assert store.level.is_held
            assert store.level.name.startswith("pmmcs held by bonds-")
        assert found["hold"]["by"] == "bonds"
        again = session(make_run(folder, budget=6, **HELD))
        assert again.calibration == found
        assert again.executor_request().source.calibration == found
        again.run()
        assert len(recorded(folder)[1]) == 6
        assert check_run(RunFolder(folder), replay=True, rejudge=True) == []

    def test_workers_hold_as_this_process_does(self, tmp_path, make_run, forked_workers):
        alone = make_run(tmp_path / "alone", budget=4, **HELD)
        worked = make_run(tmp_path / "worked", budget=4, execution={"workers": 1}, **HELD)
        for folder in (alone, worked):
            session(folder).run()
        first, second = (recorded(folder)[1] for folder in (alone, worked))
        energies = [{o.candidate: o.energy for o in outcomes} for outcomes in (first, second)]
        assert energies[0] == energies[1]

    @pytest.mark.parametrize(
        ("key", "value"), [("hold", "off"), ("hold", "moments"), ("hold_stiffness", 5.0)]
    )
    def test_another_hold_is_another_search(self, tmp_path, make_run, key, value):
        folder = make_run(tmp_path / "run", budget=3, **HELD)
        session(folder).run()
        changed = HELD | {"potential_keys": {"hold": "bonds", key: value}}
        with pytest.raises(ChangedRunError, match=rf"potential\.{key} defines the search"):
            session(make_run(folder, budget=3, **changed)).run()

    def test_what_cannot_be_held_is_one_line_before_anything_is_made(self, tmp_path, make_run):
        wrong = HELD | {"potential_keys": {"hold": "moments"}}
        folder = make_run(tmp_path / "run", budget=3, **wrong)
        with pytest.raises(CannotCalibrateError, match="gives no moments"):
            session(folder).run()
        assert not RunFolder(folder).is_started

    def test_a_blind_potential_is_told_of_the_hold(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", budget=3)
        text = (folder / "run.toml").read_text().replace("LabelEnergy", "Blind")
        (folder / "run.toml").write_text(text)
        with pytest.raises(ChargeBlindError, match='hold = "auto"'):
            session(folder).run()


class TestMovedPotential:
    def test_one_with_unchanged_bytes_goes_on_and_its_place_is_recorded(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", "./models/toy.py:LabelEnergy")
        (folder / "models").mkdir()
        source = (folder / "toy.py").read_bytes()
        (folder / "models" / "toy.py").write_bytes(source)
        make_run(folder, "./models/toy.py:LabelEnergy", budget=4)
        session(folder).run()
        (folder / "models").rename(folder / "elsewhere")
        make_run(folder, "./elsewhere/toy.py:LabelEnergy", budget=6)
        assert session(folder).run() == "budget"
        with RunFolder(folder).open_store() as store:
            place = "./elsewhere/toy.py:LabelEnergy"
            assert store.run.operational["potential.place"] == place
            assert store.run.settings["potential.name"] == "./models/toy.py:LabelEnergy"
            moves = [e.data for e in store.events() if "potential.place" in e.data]
            assert moves == [{"potential.place": place}]
        assert check_run(RunFolder(folder), replay=True) == []

    def test_one_with_other_bytes_is_refused(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", budget=4)
        session(folder).run()
        (folder / "new.py").write_text((folder / "toy.py").read_text() + "\n# changed\n")
        make_run(folder, "./new.py:LabelEnergy", budget=6)
        with pytest.raises(ChangedRunError, match=r"potential\.name"):
            session(folder).run()
