"""The section of what was promoted, and of what DFT made of it."""

from __future__ import annotations

from collections.abc import Sequence

from gasearch.report.sections import Cell, Section, Table, Text
from gasearch.serve.watching import DftState
from gasearch.store.dft_jobs import DftJobRow

_MOST_ROWS = 200


def dft_section(dft: DftState, n_formula_units: int) -> Section:
    """Return what was promoted, why, and how its DFT jobs ended."""
    title = "Promoted and DFT"
    if not dft.promoted and not dft.jobs:
        return Section("dft", title, [Text("Nothing was promoted yet.")])
    reasons: dict[int, list[str]] = {}
    for one in dft.promoted:
        reasons.setdefault(one.candidate, []).append(f"{one.rule}: {one.reason}")
    jobs: dict[int, list[DftJobRow]] = {number: [] for number in reasons}
    for job in dft.jobs:
        jobs.setdefault(job.candidate, []).append(job)
    rows: list[Sequence[str | Cell]] = []
    for number, own in jobs.items():
        why = "; ".join(reasons.get(number, ["-"]))
        if not own:
            rows.append((candidate_cell(number), why, "no job yet", "-", "-", "-"))
        rows += [_row(job, why, dft, n_formula_units) for job in own]
    names = ("candidate", "promoted by", "level", "job", "charge order", "E (eV/f.u.)")
    table = Table(names, rows[:_MOST_ROWS])
    return Section("dft", title, [Text(_summary(dft, len(reasons), len(rows))), table])


def _row(job: DftJobRow, why: str, dft: DftState, n_formula_units: int) -> Sequence[str | Cell]:
    result = dft.results.get((job.level, job.found or job.candidate))
    energy = Cell("-")
    if result is not None:
        text = f"{result.energy / n_formula_units:.4f}"
        energy = Cell(text, f"{result.candidate} {job.level}")
    state = f"{job.state} ({job.reason})" if job.reason else job.state
    return candidate_cell(job.candidate), why, job.level, state, job.charge_order or "-", energy


def _summary(dft: DftState, n_promoted: int, n_rows: int) -> str:
    states = [job.state for job in dft.jobs]
    counted = ", ".join(f"{states.count(one)} {one}" for one in dict.fromkeys(states))
    jobs = f"{len(states)} DFT jobs: {counted}" if states else "no DFT job yet"
    more = f" The first {_MOST_ROWS} are shown." if n_rows > _MOST_ROWS else ""
    return f"{n_promoted} promoted; {jobs}.{more}"


def candidate_cell(number: int) -> Cell:
    """Return a number that a click turns into the candidate."""
    return Cell(str(number), str(number))
