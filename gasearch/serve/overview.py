"""The head of the page: how far each run is, how fast, and what is under way, as it is now."""

from __future__ import annotations

import time
from typing import Any

from gasearch.display.status import (
    age,
    counts_entry,
    per_hour_text,
    progress_lines,
    running_line,
    workers_entry,
)
from gasearch.display.tables import cautions
from gasearch.report.sections import Cell, Section, Table, Text
from gasearch.serve.document import section_documents
from gasearch.serve.view import View, shown_x
from gasearch.serve.watching import LiveRun, Moment
from gasearch.store.activity import per_hour
from gasearch.store.records import Counts

_HOUR_S = 3600.0
_MOST_LEASES = 40


def run_document(run: LiveRun, number: int) -> dict[str, Any]:
    """Return where a run stands.

    Parameters
    ----------
    number
        Its place among the runs of the page.
    """
    moment, findings = run.moment, run.findings
    document: dict[str, Any] = {
        "number": number,
        "name": run.name,
        "version": moment.version,
        "is_whole": moment.is_whole,
        "looked_s": moment.looked_s,
        "trouble": moment.trouble,
        "warnings": [moment.trouble] if moment.trouble else [],
        "lines": [],
        "x": [],
    }
    if findings is None or moment.view is None:
        return document
    counts = _counts(moment.view, moment)
    lately, overall = _rates(moment)
    document |= {
        "host": findings.host.declaration.name,
        "cell": run.cell,
        "level": findings.level.name,
        "state": "running" if moment.driver else moment.ending or "not running",
        "done": counts.relaxed + counts.failed,
        "budget": moment.budget,
        "valid": counts.by_verdict.get("ok", 0),
        "ground_states": len(moment.view.ground_states),
        "last_hour": per_hour_text(lately),
        "overall": per_hour_text(overall),
        "lines": run_lines(run),
        "x": shown_x(findings.host.compositions),
        "leases": section_documents([_leases(moment)]),
    }
    document["warnings"] += cautions(findings.level, [run.record] if run.record else [])
    return document


def run_lines(run: LiveRun) -> list[str]:
    """Return where a run stands, for people."""
    moment = run.moment
    lines: list[str] = []
    if moment.view is None:
        return lines
    if not moment.is_whole:
        lines.append(f"reading: {moment.n_read:,} candidates so far")
    counts = _counts(moment.view, moment)
    lately, overall = _rates(moment)
    done, is_running = counts.relaxed + counts.failed, moment.driver is not None
    lines += counts_entry(counts).lines
    lines.append(running_line(moment.driver, moment.ending, run.folder.quoted))
    lines += progress_lines(done, moment.budget, lately or overall, is_running=is_running)
    lines += workers_entry(moment.engine, time.time()).lines
    if overall is not None:
        rates = f"{per_hour_text(lately)} in the last hour, {per_hour_text(overall)} in all"
        lines.append(f"candidates per hour of running: {rates}")
    if moment.leases:
        oldest = moment.leases[0]
        since = "" if oldest.age_s is None else f", {age(oldest.age_s)}"
        late = ", overdue" if oldest.is_overdue else ""
        lines.append(f"oldest lease: candidate {oldest.candidate}{since}{late}")
    return lines


def _rates(moment: Moment) -> tuple[float | None, float | None]:
    """Return candidates per hour of running, of the last hour and in all."""
    view, now_s = moment.view, moment.looked_s
    if view is None:
        return None, None
    since_s = now_s - _HOUR_S
    lately = per_hour(view.finished_since(since_s), moment.ran, since_s, now_s)
    overall = per_hour(view.finished_since(0.0), moment.ran, 0.0, now_s)
    return lately, overall


def _counts(view: View, moment: Moment) -> Counts:
    by_verdict: dict[Any, int] = dict(view.counts())
    open_lines = [one for line in view.table.open.values() for one in line.evaluations]
    return Counts(
        candidates=len(view.table.number),
        relaxed=sum(n for verdict, n in by_verdict.items() if verdict != "failed"),
        failed=by_verdict.get("failed", 0),
        duplicates=int(view.table.n_rejected.sum()),
        in_flight=len(moment.leases),
        queued=sum(one.state == "queued" for one in open_lines),
        n_calls=int(view.table.n_calls.sum()),
        by_verdict=by_verdict,
    )


def _leases(moment: Moment) -> Section:
    if not moment.leases:
        return Section("leases", "Under way", [Text("No relaxation is under way.")])
    rows = [
        (
            Cell(str(one.candidate), str(one.candidate)),
            f"{one.x:.4g}",
            one.operator,
            one.purpose,
            "-" if one.age_s is None else age(one.age_s),
            str(one.attempt),
            "overdue" if one.is_overdue else "",
        )
        for one in moment.leases[:_MOST_LEASES]
    ]
    n = len(moment.leases)
    shown = f"; the oldest {_MOST_LEASES}" if n > _MOST_LEASES else ""
    names = ("candidate", "x", "made by", "for", "since", "attempt", "")
    return Section("leases", "Under way", [Table(names, rows, f"{n} relaxations{shown}")])
