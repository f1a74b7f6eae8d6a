"""What the command line shows: tables, lines, and JSON. Nothing is computed here."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from gasearch.analysis.findings import (
    CompositionStatus,
    Findings,
    Ranked,
    RefinedMember,
    Status,
    SurrogateStatus,
)
from gasearch.analysis.lineage import Ancestor
from gasearch.crystal.declaration import Sublattice
from gasearch.crystal.host import Host
from gasearch.execution.engine_file import EngineRecord
from gasearch.relax.audit import Verdict
from gasearch.store.activity import Activity

_TEXTS = ("formula", "made by", "fingerprint", "species", "parents")
_E, _E_F, _ABOVE = "E\n(eV)", "E_f\n(meV/f.u.)", "above hull\n(meV/f.u.)"
NOTHING = "note: no candidate with verdict ok here yet"
_FAILURES = 3  # reasons to show
_OLD_S = 30.0  # after which what a driver wrote of its workers is told with its age
_NOT_VALID: Mapping[Verdict, tuple[str, str]] = {
    "order_lost": ("lost its order", "lost their order"),
    "broken": ("broke", "broke"),
    "unconverged": ("did not converge", "did not converge"),
    "failed": ("failed", "failed"),
}
RANKS_ONLY = (
    "note: this potential only ranks orders at one x; its formation energies, hull and voltage "
    "have no physical meaning"
)


def as_json(document: object) -> str:
    """Return one JSON document; no NaN, which JSON does not have, and nothing a terminal obeys."""
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
    return text.translate({code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)})


def milli(value_eV: float | None) -> str:
    """Return an energy in meV for a table, '-' where there is none."""
    return "-" if value_eV is None else f"{1000 * value_eV:.1f}"


def electronvolt(value_eV: float | None) -> str:
    """Return an energy in eV for a table, '-' where there is none."""
    return "-" if value_eV is None else f"{value_eV:.4f}"


def host_lines(host: Host) -> list[str]:
    """Return what a user checks about a host before searching it."""
    low, high = host.x_range
    declared, total = host.declaration, sum(host.n_distinct(c) for c in host.compositions)
    size = f"{len(host.atoms)} sites, {host.n_formula_units} x {declared.formula_unit}"
    group = f"{host.space_group.symbol} at symprec = {declared.symprec:g} Å"
    n_operations = f"{len(host.permutations)} operations in the supercell"
    x_range = f"x = {low:.4g} to {high:.4g} in {len(host.compositions)} compositions"
    return [
        f"host          {declared.name}, {size}",
        f"space group   {group}, {n_operations}",
        *[_sublattice_line(sublattice) for sublattice in host.sublattices],
        f"neutral range {x_range}, {total:,} distinct decorations",
    ]


def _sublattice_line(sublattice: Sublattice) -> str:
    kind = sublattice.kind.replace("_", " ")
    return f"{kind:<13} {len(sublattice)} sites: {', '.join(map(str, sublattice.species))}"


def composition_table(rows: Iterable[CompositionStatus]) -> Table:
    """Return how far the search is, and the lowest candidate, per composition."""
    proven = "proven\namong"
    table = _table("x", "formula", "searched /\ndistinct", "failed", "lowest\nid", _E, _E_F, proven)
    for row in rows:
        table.add_row(
            f"{row.x:.4g}",
            row.formula,
            f"{row.searched:,} / {row.total:,}",
            str(row.failed),
            "-" if row.best is None else str(row.best),
            electronvolt(row.best_energy_eV),
            milli(row.best_formation_energy_eV_per_fu),
            f"{row.valid:,}" if row.proven else "",
        )
    return table


def ranked_table(rows: Iterable[Ranked]) -> Table:
    """Return candidates with their energies."""
    table = _table("id", "x", _E, _E_F, _ABOVE, "made by", "fingerprint")
    for row in rows:
        table.add_row(
            str(row.id),
            f"{row.x:.4g}",
            electronvolt(row.energy_eV),
            milli(row.formation_energy_eV_per_fu),
            milli(row.above_hull_eV_per_fu),
            row.operator,
            row.fingerprint,
        )
    return table


def lineage_table(rows: Iterable[Ancestor]) -> Table:
    """Return a candidate and its ancestors, with what the surrogate expected of each."""
    error = "found -\npredicted\n(meV/f.u.)"
    table = _table("id", "made by", "rate", "parents", "x", _ABOVE, "verdict", error)
    for row in rows:
        elsewhere = "" if row.origin in ("search", row.operator) else f" ({row.origin})"
        table.add_row(
            str(row.id),
            row.operator + elsewhere,
            "-" if row.rate is None else f"{row.rate:.0%}",
            ", ".join(map(str, row.parents)) or "-",
            f"{row.x:.4g}",
            milli(row.above_hull_eV_per_fu),
            row.verdict or "-",
            _with_deviation(row.error_eV_per_fu, row.deviation_eV_per_fu),
        )
    return table


def _with_deviation(error_eV: float | None, deviation_eV: float | None) -> str:
    if error_eV is None:
        return "-"
    deviation = "" if deviation_eV is None else f" ± {1000 * deviation_eV:.1f}"
    return f"{1000 * error_eV:+.1f}{deviation}"


def count_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the counts of decorations per composition."""
    table = _table("x", "raw", "distinct")
    for row in rows:
        table.add_row(f"{row['x']:.4g}", f"{row['raw']:,}", f"{row['distinct']:,}")
    return table


def decoration_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return decorations with the species on their sublattice sites."""
    table = _table("x", "orbit\nsize", "fingerprint", "species")
    for row in rows:
        table.add_row(f"{row['x']:.4g}", str(row["orbit_size"]), row["fingerprint"], row["species"])
    return table


def _table(*columns: str) -> Table:
    """Return an empty table; where it is too wide, texts go on in the next line."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        if column in _TEXTS:
            table.add_column(column, overflow="fold")
        else:
            table.add_column(column, justify="right", no_wrap=True)
    return table


def status_lines(status: Status, folder: str) -> list[str]:
    """Return where a search stands, in words."""
    counts = status.counts
    drawn = f"{counts.duplicates} duplicates drawn and rejected"
    numbers = (
        f"{counts.candidates} candidates: {counts.relaxed} relaxed, {counts.failed} failed, "
        f"{counts.in_flight} in flight, {counts.queued} queued; {drawn}"
    )
    verdicts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.by_verdict.items()))
    lines = [numbers, *([f"verdicts: {verdicts}"] if verdicts else []), _state(status, folder)]
    if status.engine is not None:
        lines += engine_lines(status.engine, time.time())
    if status.activity is not None:
        lines += activity_lines(status.activity)
    if status.surrogate is not None:
        lines.append(_surrogate_line(status.surrogate))
    members = status.refined.members if status.refined is not None else ()
    return [*lines, *(_refined_line(member) for member in members if member.neighbours)]


def engine_lines(record: EngineRecord, now_s: float) -> list[str]:
    """Return the workers of a driver, in words, or what a dead one left.

    Parameters
    ----------
    now_s
        Seconds since 1970.
    """
    if not record.is_current:
        left = [*record.processes, *record.jobs]
        what = f"{_counted(len(left), 'process or job', 'processes or jobs')} of a dead driver"
        return [f"workers: {what} may be left; the next gasearch run ends them"] if left else []
    told = record.workers
    where = (
        record.engine if record.provider == record.engine else f"{record.engine}, {record.provider}"
    )
    text = (
        f"workers: {told.get('connected', 0)} connected, {told.get('busy', 0)} busy, of "
        f"{told.get('most', 0)} at most ({where}); {told.get('under_way', 0)} relaxations under "
        f"way, {told.get('waiting', 0)} waiting"
    )
    old_s = now_s - record.updated
    since = f", as of {age(old_s)} ago" if old_s > _OLD_S else ""
    note = f"; {told['note']}" if told.get("note") else ""
    return [f"{text}{since}{note}"]


def activity_lines(found: Activity) -> list[str]:
    """Return how a search proceeds, in words; nothing of what did not happen."""
    lines = []
    if found.overall_per_h is not None:
        recent = found.last_hour_per_h
        lately = "" if recent is None else f"{_per_hour(recent)} in the last hour, "
        overall = f"{_per_hour(found.overall_per_h)} in all"
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
    return lines


def _per_hour(rate: float) -> str:
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


def _surrogate_line(found: SurrogateStatus) -> str:
    error, mean = found.error_eV_per_fu, found.mean_error_eV_per_fu
    if error is None or mean is None:
        return f"surrogate: not used: {found.n_results} results are too few to tell its error"
    use = "used"
    if not found.used:
        reason = "it predicts no better than the mean of each composition"
        use = f"not used: {reason if error >= mean else 'too few results'}"
    return (
        f"surrogate: {milli(error)} meV/f.u. cross-validated over {found.n_results:,} results "
        f"(mean of each composition: {milli(mean)}), {use}"
    )


def _refined_line(member: RefinedMember) -> str:
    nearest = ""
    if member.nearest_margin_eV_per_fu is not None:
        sigmas = member.nearest_margin_sigmas
        deviations = "" if sigmas is None else f" ({sigmas:.1f} standard deviations)"
        margin = milli(member.nearest_margin_eV_per_fu)
        nearest = f", the nearest predicted {margin} meV/f.u. above it{deviations}"
    return (
        f"around candidate {member.candidate} (x = {member.x:.4g}): {member.neighbours:,} "
        f"neighbours by one exchange: {member.evaluated:,} evaluated, {member.open:,} open, "
        f"{member.screened_out:,} screened out{nearest}"
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
    for verdict, (one, more) in _NOT_VALID.items():
        ids = [candidate.id for candidate in row.not_valid if candidate.verdict == verdict]
        if ids:
            what = one if len(ids) == 1 else more
            texts.append(f"{len(ids):,} {what}: {', '.join(map(str, ids))}")
    return texts


def _state(status: Status, folder: str) -> str:
    if status.running is not None:
        return f"running: {status.running}"
    if status.done:
        return f"done ({status.ending})"
    how = "stopped" if status.ending else "ended without a word: killed, or by an error"
    return f"not running ({how}); resume with: gasearch run {folder}"


def status_document(status: Status) -> dict[str, Any]:
    """Return the status as `gasearch status --json` prints it."""
    return {
        **dataclasses.asdict(status.counts),
        "by_composition": [
            {**dataclasses.asdict(row), "proven": row.proven} for row in status.by_composition
        ],
        "done": status.done,
        "ending": status.ending,
        "running": status.running,
        "surrogate": dataclasses.asdict(status.surrogate) if status.surrogate else None,
        "refined": dataclasses.asdict(status.refined) if status.refined else None,
        **_activity_document(status.activity),
        "workers": _engine_document(status.engine) if status.engine else None,
    }


def _engine_document(record: EngineRecord) -> dict[str, Any]:
    left = [] if record.is_current else [*record.processes, *record.jobs]
    return {**record.workers, "updated": record.updated, "left_behind": len(left)}


def _activity_document(found: Activity | None) -> dict[str, Any]:
    if found is None:
        return {}
    document = dataclasses.asdict(found)
    rates = {name: document.pop(name) for name in ("last_hour_per_h", "overall_per_h")}
    return {"throughput": rates, **document}


def ranked_document(row: Ranked) -> dict[str, Any]:
    """Return a candidate as `gasearch best --json` prints it."""
    return dataclasses.asdict(row)


def ancestor_document(row: Ancestor) -> dict[str, Any]:
    """Return a candidate as `gasearch lineage --json` prints it."""
    return dataclasses.asdict(row)


def notes(findings: Findings) -> list[str]:
    """Return what a reader of energies must know about them."""
    missing = findings.missing_ends()
    where = " and ".join(f"x = {x:.4g}" for x in missing)
    ends = f"note: no formation energies yet: no candidate with verdict ok at {where}"
    return [*([ends] if missing else []), *([RANKS_ONLY] if findings.level.ranks_only else [])]


def failure_lines(findings: Findings) -> list[str]:
    """Return the first reasons why candidates failed."""
    failures = findings.failures()
    lines = [f"candidate {number} failed: {reason}" for number, reason in failures[:_FAILURES]]
    more = len(failures) - _FAILURES
    return [*lines, f"and {more} more failed"] if more > 0 else lines
