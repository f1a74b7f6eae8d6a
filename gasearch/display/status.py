"""What `gasearch status` shows: each subject once, its lines beside its keys in `--json`.

Another subject is one more function here, named in `status_entries`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from gasearch.analysis.findings import CompositionStatus, Findings, Status, blind_lines
from gasearch.display.reasons import Cause, cause_documents, cause_lines, causes
from gasearch.display.tables import ENERGY, FORMATION, electronvolt, make_table, milli
from gasearch.execution.engine_file import EngineRecord, read_engine_file
from gasearch.relax.audit import IN_WORDS
from gasearch.run.folder import RunFolder
from gasearch.store.activity import Activity, activity, not_ok
from gasearch.store.records import BUDGET, Counts, Event, RunRecord

_OLD_S = 30.0  # after which what a driver wrote of its workers is shown with its age
_SURROGATE = ("candidate", "n_results", "error_eV_per_fu", "mean_error_eV_per_fu", "used")
_MEMBER = (
    "candidate",
    "x",
    "neighbours",
    "evaluated",
    "screened_out",
    "open",
    "nearest_margin_eV_per_fu",
    "nearest_margin_sigmas",
)


@dataclass(frozen=True)
class Entry:
    """One subject of the status.

    Parameters
    ----------
    keys
        What `--json` has of it.
    lines
        The same for people; () where it goes without saying.
    """

    keys: Mapping[str, Any]
    lines: Sequence[str] = ()


def status_entries(findings: Findings, status: Status, folder: RunFolder) -> list[Entry]:
    """Return where a search stands, subject by subject."""
    store, is_running = findings.store, status.running is not None
    found = activity(store, is_running)
    return [
        counts_entry(status.counts),
        awareness_entry(findings.run),
        reasons_entry(causes(not_ok(store))),
        state_entry(status, folder.quoted),
        progress_entry(status, findings.run.operational.get(BUDGET), found),
        workers_entry(read_engine_file(folder.path), time.time()),
        activity_entry(found),
        surrogate_entry(store.newest_event("surrogate")),
        refined_entry(store.newest_event("refined")),
        compositions_entry(status.by_composition),
    ]


def status_document(entries: Iterable[Entry]) -> dict[str, Any]:
    """Return the status as `gasearch status --json` prints it."""
    return {key: value for entry in entries for key, value in entry.keys.items()}


def status_lines(entries: Iterable[Entry]) -> list[str]:
    """Return the lines of all subjects."""
    return [line for entry in entries for line in entry.lines]


def counts_entry(counts: Counts) -> Entry:
    """Return how many candidates there are, and their verdicts."""
    numbers = (
        f"{counts.candidates} candidates: {counts.relaxed} relaxed, {counts.failed} failed, "
        f"{counts.in_flight} in flight, {counts.queued} queued; {counts.duplicates} duplicates "
        "drawn and rejected"
    )
    verdicts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.by_verdict.items()))
    lines = [numbers, f"verdicts: {verdicts}"] if verdicts else [numbers]
    return Entry(dataclasses.asdict(counts), lines)


def state_entry(status: Status, folder: str) -> Entry:
    """Return whether it runs, and how it ended or can go on.

    Parameters
    ----------
    folder
        As it is typed in a shell.
    """
    keys = {"done": status.done, "ending": status.ending, "running": status.running}
    return Entry(keys, [running_line(status.running, status.ending, folder)])


def running_line(running: str | None, ending: str | None, folder: str) -> str:
    """Return whether a search runs, and how it ended or can go on.

    Parameters
    ----------
    running
        The process that drives it, in words.
    ending
        Why its last run ended; None if it was killed.
    folder
        As it is typed in a shell.
    """
    if running is not None:
        return f"running: {running}"
    if ending not in (None, "stopped"):
        return f"done ({ending})"
    how = "stopped" if ending else "no end recorded: killed or crashed"
    return f"not running ({how}); resume with: gasearch run {folder}"


def awareness_entry(run: RunRecord) -> Entry:
    """Return whether the potential tells oxidation states apart; a line only where it does not."""
    keys = {
        "charge_blind": run.is_charge_blind,
        "charge_awareness_eV": run.charge_awareness,
    }
    return Entry(keys, blind_lines(run))


def reasons_entry(found: Sequence[Cause]) -> Entry:
    """Return why candidates are not ok."""
    return Entry({"reasons": cause_documents(found)}, cause_lines(found))


def progress_entry(status: Status, budget: object, found: Activity) -> Entry:
    """Return how much of the budget is done, and how long the rest takes."""
    done, is_running = status.counts.relaxed + status.counts.failed, status.running is not None
    most = budget if isinstance(budget, int) else None
    rate = found.last_hour_per_h or found.overall_per_h
    keys = {"budget": most, "time_left_s": time_left_s(done, most, rate) if is_running else None}
    return Entry(keys, progress_lines(done, most, rate, is_running=is_running))


def progress_lines(
    done: int, budget: int | None, rate_per_h: float | None, *, is_running: bool
) -> list[str]:
    """Return how much of the budget is done, and how long the rest takes at a rate.

    Parameters
    ----------
    done
        Candidates whose search relaxation has ended.
    budget
        Candidates at the most; None where it is not known.
    """
    if budget is None:
        return []
    share = f"progress: {done:,} of {budget:,} candidates ({done / budget:.0%})"
    left_s = time_left_s(done, budget, rate_per_h) if is_running else None
    return [share if left_s is None else f"{share}, about {age(left_s)} left at this rate"]


def time_left_s(done: int, budget: int | None, rate_per_h: float | None) -> float | None:
    """Return how long the rest of a budget takes, in seconds; None where that is not known."""
    if budget is None or not rate_per_h:
        return None
    return 3600.0 * max(0, budget - done) / rate_per_h


def workers_entry(record: EngineRecord | None, now_s: float) -> Entry:
    """Return the workers of a driver, or what a dead one left behind.

    Parameters
    ----------
    now_s
        Seconds since 1970.
    """
    if record is None:
        return Entry({"workers": None})
    left = [] if record.is_current else [*record.processes, *record.jobs]
    found = {**record.workers, "updated": record.updated, "left_behind": len(left)}
    keys = {"workers": found}
    if not record.is_current:
        what = f"{_counted(len(left), 'process or job', 'processes or jobs')} of a dead driver"
        line = f"workers: {what} may be left; the next gasearch run ends them"
        return Entry(keys, [line] if left else [])
    alone = record.provider == record.engine
    where = record.engine if alone else f"{record.engine}, {record.provider}"
    text = (
        f"workers: {found.get('connected', 0)} connected, {found.get('busy', 0)} busy, of "
        f"{found.get('most', 0)} at most ({where}); {found.get('under_way', 0)} relaxations under "
        f"way, {found.get('waiting', 0)} waiting"
    )
    old_s = now_s - record.updated
    since = f", as of {age(old_s)} ago" if old_s > _OLD_S else ""
    note = f"; {found['note']}" if found.get("note") else ""
    return Entry(keys, [f"{text}{since}{note}"])


def activity_entry(found: Activity) -> Entry:
    """Return how a search proceeds; no line for what did not happen."""
    keys = dataclasses.asdict(found)
    rates = {name: keys.pop(name) for name in ("last_hour_per_h", "overall_per_h")}
    lines = []
    if found.overall_per_h is not None:
        recent = found.last_hour_per_h
        lately = "" if recent is None else f"{per_hour_text(recent)} in the last hour, "
        overall = f"{per_hour_text(found.overall_per_h)} in all"
        lines.append(f"throughput: {lately}{overall} (relaxations per hour of running)")
    if found.oldest_lease is not None:
        lease = found.oldest_lease
        overdue = ", overdue" if lease.is_overdue else ""
        lines.append(f"oldest lease: candidate {lease.candidate}, {age(lease.age_s)}{overdue}")
    if found.attempts:
        crashes = f", {found.crashes:,} after a crash" if found.crashes else ""
        lines.append(f"tried again: {_counted(found.attempts, 'lease')}{crashes}")
    if found.late_results:
        lines.append(f"late: {_counted(found.late_results, 'result')} kept, and not counted")
    return Entry({"throughput": rates, **keys}, lines)


def surrogate_entry(event: Event | None) -> Entry:
    """Return how well the surrogate predicts what it was not fitted to, when last fitted.

    Its error and that of the mean of each composition are cross-validated root mean squares; None
    where there are too few results. `candidate` is the one for which it was fitted.
    """
    found = _chosen(event.data, _SURROGATE) if event else None
    if found is None:
        return Entry({"surrogate": None})
    error, mean = found["error_eV_per_fu"], found["mean_error_eV_per_fu"]
    if error is None or mean is None:
        few = f"{found['n_results']} results are too few to know its error"
        return Entry({"surrogate": found}, [f"surrogate: not used: {few}"])
    use = "used"
    if not found["used"]:
        reason = "it predicts no better than the mean of each composition"
        use = f"not used: {reason if error >= mean else 'too few results'}"
    line = (
        f"surrogate: {milli(error)} meV/f.u. cross-validated over {found['n_results']:,} results "
        f"(mean of each composition: {milli(mean)}), {use}"
    )
    return Entry({"surrogate": found}, [line])


def refined_entry(event: Event | None) -> Entry:
    """Return what became of the neighbours of hull members, one exchange away, at the end.

    Each neighbour was evaluated, screened out (predicted to lie well above the member) or is open.
    The nearest margin is how far above the member the surrogate puts the nearest of those screened
    out.
    """
    if event is None:
        return Entry({"refined": None})
    listed: Any = event.data["members"]
    members = [_chosen(member, _MEMBER) for member in listed]
    lines = [_refined_line(member) for member in members if member["neighbours"]]
    return Entry({"refined": {"members": members}}, lines)


def _refined_line(member: Mapping[str, Any]) -> str:
    nearest = ""
    if member["nearest_margin_eV_per_fu"] is not None:
        sigmas = member["nearest_margin_sigmas"]
        deviations = "" if sigmas is None else f" ({sigmas:.1f} standard deviations)"
        margin = milli(member["nearest_margin_eV_per_fu"])
        nearest = f", the nearest predicted {margin} meV/f.u. above it{deviations}"
    return (
        f"around candidate {member['candidate']} (x = {member['x']:.4g}): "
        f"{member['neighbours']:,} neighbours by one exchange: {member['evaluated']:,} evaluated, "
        f"{member['open']:,} open, {member['screened_out']:,} screened out{nearest}"
    )


def _chosen(data: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the part of an event that is known here; newer versions may say more."""
    return {name: data[name] for name in names}


def compositions_entry(rows: Sequence[CompositionStatus]) -> Entry:
    """Return how far the search is at each composition; for people there is a table of it."""
    documents = [{**dataclasses.asdict(row), "proven": row.proven} for row in rows]
    return Entry({"by_composition": documents})


def composition_table(rows: Iterable[CompositionStatus]) -> Table:
    """Return how far the search is, and the lowest candidate, per composition."""
    names = ("x", "formula", "searched /\ndistinct", "failed", "lowest\nid", ENERGY, FORMATION)
    return make_table(
        (*names, "proven\namong"),
        (
            (
                f"{row.x:.4g}",
                row.formula,
                f"{row.searched:,} / {row.total:,}",
                str(row.failed),
                "-" if row.best is None else str(row.best),
                electronvolt(row.best_energy_eV),
                milli(row.best_formation_energy_eV_per_fu),
                f"{row.valid:,}" if row.proven else "",
            )
            for row in rows
        ),
    )


def proof_line(row: CompositionStatus) -> str:
    """Return whether the lowest candidate of a composition is proven to be the lowest."""
    decorations = f"{row.total:,} distinct decorations"
    if not row.proven:
        are = "is" if row.open == 1 else "are"
        return f"not proven: {row.open:,} of {decorations} {are} open"
    where = "from the standard start, for this host, supercell and level"
    if not row.valid:
        text = f"nothing to prove: none of {decorations} has a valid energy {where}"
    else:
        text = f"proven among {row.valid:,} of {decorations} with valid energies {where}"
    return "; ".join([text, *_not_valid(row)])


def proof_notes(rows: Iterable[CompositionStatus]) -> list[str]:
    """Return a line for each composition that is proven but for candidates that do not count."""
    return [f"x = {row.x:.4g}: {proof_line(row)}" for row in rows if row.proven and row.not_valid]


def _not_valid(row: CompositionStatus) -> list[str]:
    """Return the candidates of each verdict but ok, in words."""
    texts = []
    for verdict, (one, more) in IN_WORDS.items():
        ids = [candidate.id for candidate in row.not_valid if candidate.verdict == verdict]
        if ids:
            what = one if len(ids) == 1 else more
            texts.append(f"{len(ids):,} {what}: {', '.join(map(str, ids))}")
    return texts


def per_hour_text(rate: float | None) -> str:
    """Return a rate per hour with two digits at least, '-' where there is none."""
    if rate is None:
        return "-"
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _counted(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def age(seconds: float) -> str:
    """Return a stretch of time in its two largest units."""
    whole = round(seconds)
    for unit_s, unit, part_s, part in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= unit_s:
            return f"{whole // unit_s} {unit} {whole % unit_s // part_s} {part}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
