"""What `gasearch status` shows of each subject, for people and as JSON."""

import io
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from gasearch.analysis.enumerate import host_of
from gasearch.analysis.findings import CompositionStatus, Findings, NotValid, Status
from gasearch.crystal.io.hosts import host_to_json
from gasearch.display import status as status_of
from gasearch.display.tables import as_json
from gasearch.execution.engine_file import EngineRecord
from gasearch.processes import identity
from gasearch.relax.audit import VERDICTS
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.store.activity import Activity, OldestLease
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import Counts
from gasearch.testing.store import LEVEL, example_run

MEMBER = {
    "candidate": 14,
    "x": 0.5,
    "neighbours": 24,
    "evaluated": 18,
    "screened_out": 6,
    "open": 0,
    "nearest_margin_eV_per_fu": 0.0123,
    "nearest_margin_sigmas": 4.08,
}


def event(**data):
    return SimpleNamespace(data=data | {"of a newer version": 1})


def surrogate(error, mean, used):
    errors = {"error_eV_per_fu": error, "mean_error_eV_per_fu": mean}
    return event(candidate=300, n_results=240, used=used, **errors)


def shown(content, width=10_000):
    file = io.StringIO()
    Console(file=file, width=width, soft_wrap=True, highlight=False).print(content)
    return file.getvalue()


def composition(**keys):
    given = {
        "x": 2 / 3,
        "formula": "Na32Fe24Mn24P48O192",
        "searched": 1234,
        "total": 11_269_366_602,
        "relaxed": 1230,
        "failed": 4,
        "best": 1234567,
        "best_energy_eV": -12345.67891,
        "best_formation_energy_eV_per_fu": 0.25,
        "valid": 1228,
        "open": 11_269_365_368,
        "not_valid": (),
    }
    return CompositionStatus(**(given | keys))


@pytest.mark.parametrize("width", [80, 100, 10_000])
def test_no_composition_loses_a_digit(width):
    text = shown(status_of.composition_table([composition()]), width)
    assert "…" not in text
    for word in ("0.6667", "1,234 / 11,269,366,602", "1234567", "-12345.6789", "250.0"):
        assert word in text


def test_what_is_unknown_is_a_dash():
    none = {"best": None, "best_energy_eV": None, "best_formation_energy_eV_per_fu": None}
    assert shown(status_of.composition_table([composition(**none)])).count("-") == 3


PROVEN = {"total": 64, "searched": 64, "open": 0, "valid": 61}
LOST = (NotValid(17, "order_lost"), NotValid(31, "order_lost"))
WHERE = "from the standard start, for this host, supercell and level"


class TestProof:
    def test_what_is_open_is_counted(self):
        line = status_of.proof_line(composition(total=64, open=12))
        assert line == "not proven: 12 of 64 distinct decorations are open"
        assert status_of.proof_line(composition(total=64, open=1)).endswith("decorations is open")

    def test_what_does_not_count_is_listed(self):
        row = composition(**PROVEN, not_valid=(*LOST, NotValid(40, "failed")))
        assert status_of.proof_line(row) == (
            f"proven among 61 of 64 distinct decorations with valid energies {WHERE}; "
            "2 lost their order: 17, 31; 1 failed: 40"
        )

    def test_every_verdict_but_ok_has_words(self):
        for verdict in set(VERDICTS) - {"ok"}:
            line = status_of.proof_line(composition(**PROVEN, not_valid=(NotValid(7, verdict),)))
            assert re.search(r"; 1 [a-z ]+: 7$", line), verdict

    def test_nothing_valid_proves_nothing(self):
        row = composition(total=2, open=0, valid=0, not_valid=LOST)
        assert status_of.proof_line(row) == (
            f"nothing to prove: none of 2 distinct decorations has a valid energy {WHERE}; "
            "2 lost their order: 17, 31"
        )

    def test_the_table_has_the_number_where_there_is_a_proof(self):
        rows = [composition(**PROVEN), composition(total=64, open=1, valid=63)]
        _, _, proven, not_proven = shown(status_of.composition_table(rows)).splitlines()
        assert proven.split()[-1] == "61"
        assert not_proven.split()[-1] == "250.0"

    def test_notes_are_of_proofs_with_exceptions_alone(self):
        rows = [
            composition(**PROVEN),
            composition(**PROVEN, not_valid=LOST),
            composition(not_valid=LOST),
        ]
        (line,) = status_of.proof_notes(rows)
        assert line == f"x = 0.6667: {status_of.proof_line(rows[1])}"


def test_the_newest_of_what_the_search_says_counts(tmp_path):
    host = host_of("nafepo4-olivine", (1, 1, 1))
    settings = {"search.x": "all"}
    run = example_run(4, host=host_to_json(host), host_atoms=host.atoms, settings=settings)
    with PopulationStore.create(tmp_path / "search.db", run, LEVEL) as store:
        findings = Findings(store)

        def shown_now():
            entries = status_of.status_entries(findings, findings.status(), RunFolder(tmp_path))
            return status_of.status_document(entries)

        assert shown_now()["surrogate"] is shown_now()["refined"] is shown_now()["workers"] is None
        first, second = surrogate(0.03, 0.041, True).data, surrogate(0.0123, 0.041, True).data
        for kind, data in (
            ("surrogate", first),
            ("surrogate", second),
            ("refined", {"members": []}),
            ("refined", {"members": [MEMBER]}),
        ):
            batch = store.batch()
            batch.event(kind, None, data)
            batch.commit()
        document = json.loads(as_json(shown_now()))
    assert document["surrogate"]["error_eV_per_fu"] == 0.0123
    assert document["refined"] == {"members": [MEMBER]}
    assert {"candidates", "failed", "by_composition", "done", "throughput"} <= document.keys()


class TestEntries:
    def test_counts(self):
        counts = Counts(10, 7, 2, 3, 1, 0, 275, {"ok": 7, "failed": 2})
        entry = status_of.counts_entry(counts)
        first, second = entry.lines
        assert first.startswith("10 candidates: 7 relaxed, 2 failed, 1 in flight, 0 queued; 3 dupl")
        assert second == "verdicts: 2 failed, 7 ok"
        assert (entry.keys["duplicates"], entry.keys["by_verdict"]) == (3, {"ok": 7, "failed": 2})

    @pytest.mark.parametrize(
        ("state", "line"),
        [
            ((False, None, "process 7 on here"), "running: process 7 on here"),
            ((True, "budget", None), "done (budget)"),
            (
                (False, "stopped", None),
                "not running (stopped); resume with: gasearch run 'a b'",
            ),
            ((False, None, None), "not running (no end recorded: killed or crashed); resume with"),
        ],
    )
    def test_what_to_do(self, state, line):
        entry = status_of.state_entry(Status(None, (), *state), "'a b'")
        assert entry.lines[0].startswith(line)
        assert tuple(entry.keys.values()) == state

    @pytest.mark.parametrize(
        ("errors", "used", "line"),
        [
            ((0.0123, 0.041), True, "over 240 results (mean of each composition: 41.0), used"),
            ((0.05, 0.041), False, "not used: it predicts no better than the mean of each comp"),
            ((0.0123, 0.041), False, "41.0), not used: too few results"),
            ((None, None), False, "surrogate: not used: 240 results are too few to know its error"),
        ],
    )
    def test_how_well_the_surrogate_predicts(self, errors, used, line):
        entry = status_of.surrogate_entry(surrogate(*errors, used))
        assert line in entry.lines[0]
        assert entry.keys["surrogate"] == {
            "candidate": 300,
            "n_results": 240,
            "error_eV_per_fu": errors[0],
            "mean_error_eV_per_fu": errors[1],
            "used": used,
        }

    def test_what_lies_around_the_hull_members(self):
        unknown = {"nearest_margin_eV_per_fu": None, "nearest_margin_sigmas": None}
        none = dict.fromkeys(("neighbours", "evaluated", "screened_out", "open"), 0)
        few = {"candidate": 9, "neighbours": 5, "evaluated": 3, "open": 2, "screened_out": 0}
        entry = status_of.refined_entry(
            event(members=[MEMBER | {"more": 1}, MEMBER | none | unknown, MEMBER | few | unknown])
        )
        first, second = entry.lines
        assert first == (
            "around candidate 14 (x = 0.5): 24 neighbours by one exchange: 18 evaluated, 0 open, "
            "6 screened out, the nearest predicted 12.3 meV/f.u. above it (4.1 standard deviations)"
        )
        assert second.endswith("5 neighbours by one exchange: 3 evaluated, 2 open, 0 screened out")
        assert entry.keys["refined"]["members"][0] == MEMBER

    def test_what_the_search_did_not_say_is_null(self):
        for entry in (
            status_of.surrogate_entry(None),
            status_of.refined_entry(None),
            status_of.workers_entry(None, 0.0),
        ):
            assert not entry.lines
            assert list(entry.keys.values()) == [None]

    def test_how_the_search_proceeds(self):
        lease = OldestLease(57, 7265.0, is_overdue=True)
        entry = status_of.activity_entry(Activity(412.4, 3.25, lease, 5, 2, 1))
        assert entry.lines == [
            "throughput: 412 in the last hour, 3.2 in all (relaxations per hour of running)",
            "oldest lease: candidate 57, 2 h 1 min, overdue",
            "tried again: 5 leases, 2 after a crash",
            "late: 1 result kept, and not counted",
        ]
        assert entry.keys == {
            "throughput": {"last_hour_per_h": 412.4, "overall_per_h": 3.25},
            "oldest_lease": {"candidate": 57, "age_s": 7265.0, "is_overdue": True},
            "attempts": 5,
            "crashes": 2,
            "late_results": 1,
        }

    def test_nothing_is_said_of_what_did_not_happen(self):
        nothing = Activity(None, None, None, attempts=0, crashes=0, late_results=0)
        assert status_of.activity_entry(nothing).lines == []

    def test_the_workers_of_a_driver_that_runs(self):
        workers = {"connected": 3, "busy": 2, "most": 8, "waiting": 5, "under_way": 12}
        record = EngineRecord("parsl", "slurm", identity(), workers=workers, updated=1000.0)
        (line,) = status_of.workers_entry(record, 1005.0).lines
        assert line == (
            "workers: 3 connected, 2 busy, of 8 at most (parsl, slurm); 12 relaxations under way, "
            "5 waiting"
        )
        noted = replace(record, workers={**workers, "note": "squeue: error"})
        entry = status_of.workers_entry(noted, 1130.0)
        assert entry.lines[0].endswith("5 waiting, as of 2 min 10 s ago; squeue: error")
        known = {"connected": 3, "note": "squeue: error", "left_behind": 0, "updated": 1000.0}
        assert known.items() <= entry.keys["workers"].items()

    def test_what_a_dead_driver_left(self):
        dead = {**identity(), "started": "another:1"}
        record = EngineRecord("local", "local", dead, [{"role": "worker"}], ["4711"])
        entry = status_of.workers_entry(record, 0.0)
        assert entry.keys["workers"]["left_behind"] == 2
        assert entry.lines[0].startswith(
            "workers: 2 processes or jobs of a dead driver may be left; the next"
        )
        assert status_of.workers_entry(EngineRecord("local", "local", dead), 0.0).lines == []

    def test_compositions(self):
        lost = composition(open=0, not_valid=(NotValid(17, "order_lost"),))
        document = json.loads(as_json(status_of.compositions_entry([lost, composition()]).keys))
        first, second = document["by_composition"]
        assert (first["proven"], second["proven"]) == (True, False)
        assert first["not_valid"] == [{"id": 17, "verdict": "order_lost"}]
        assert second["best_energy_eV"] == -12345.67891


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (90_061, "1 d 1 h")],
)
def test_a_stretch_of_time_is_in_its_two_largest_units(seconds, text):
    assert status_of.age(seconds) == text


def test_what_failed_alike_is_one_line_with_its_number(tmp_path, make_run):
    options = {"supercell": (1, 2, 1), "budget": 8, "search": {"x": ["3/8"], "budget": 8}}
    folder = make_run(tmp_path / "run", "./toy.py:Raising", **options)
    Session(RunFolder(folder)).run()
    with RunFolder(folder).open_store() as store:
        findings = Findings(store)
        failed = [number for number, _ in findings.failures()]
        entries = status_of.status_entries(findings, findings.status(), RunFolder(folder))
    lines = status_of.status_lines(entries)
    (line,) = [line for line in lines if line.startswith("not ok: ")]
    assert line.startswith(f"not ok: 6 failed, such as candidate {failed[0]}: ")
    assert "the calculator gave up" in line
    (cause,) = status_of.status_document(entries)["reasons"]
    assert (cause["candidates"], cause["example"]) == (6, failed[0])
    assert "progress: 8 of 8 candidates (100%)" in lines


@pytest.mark.parametrize(
    ("budget", "rate", "is_running", "line"),
    [
        (
            200,
            50.0,
            True,
            "progress: 100 of 200 candidates (50%), about 2 h 0 min left at this rate",
        ),
        (200, 50.0, False, "progress: 100 of 200 candidates (50%)"),
        (200, None, True, "progress: 100 of 200 candidates (50%)"),
        (80, 50.0, True, "progress: 100 of 80 candidates (125%), about 0 s left at this rate"),
    ],
)
def test_the_time_left_follows_from_the_rate(budget, rate, is_running, line):
    found = status_of.progress_lines(100, budget, rate, is_running=is_running)
    assert found == [line]
    assert status_of.progress_lines(100, None, rate, is_running=is_running) == []
