"""What the command line shows: tables, lines, and JSON. Nothing is computed here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from gasearch.host import Host
from gasearch.host_declaration import Sublattice
from gasearch.inspection import CompositionStatus, Findings, Ranked, Status

_TEXTS = ("formula", "found by", "fingerprint", "species")
_E, _E_F, _ABOVE = "E\n(eV)", "E_f\n(meV/f.u.)", "above hull\n(meV/f.u.)"
NOTHING = "note: no candidate with verdict ok here yet"
_FAILURES = 3  # reasons to show
RANKS_ONLY = (
    "note: this potential only ranks orders at one x; its formation energies, hull and voltage "
    "have no physical meaning"
)


def as_json(document: object) -> str:
    """Return one JSON document; no NaN, which JSON does not have."""
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)


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
    table = _table("x", "formula", "searched /\ndistinct", "failed", "lowest\nid", _E, _E_F)
    for row in rows:
        table.add_row(
            f"{row.x:.4g}",
            row.formula,
            f"{row.searched:,} / {row.total:,}",
            str(row.failed),
            "-" if row.best is None else str(row.best),
            electronvolt(row.best_energy_eV),
            milli(row.best_formation_energy_eV_per_fu),
        )
    return table


def ranked_table(rows: Iterable[Ranked]) -> Table:
    """Return candidates with their energies."""
    table = _table("id", "x", _E, _E_F, _ABOVE, "found by", "fingerprint")
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
    return [numbers, *([f"verdicts: {verdicts}"] if verdicts else []), _state(status, folder)]


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
        "by_composition": [dataclasses.asdict(row) for row in status.by_composition],
        "done": status.done,
        "ending": status.ending,
        "running": status.running,
    }


def ranked_document(row: Ranked) -> dict[str, Any]:
    """Return a candidate as `gasearch best --json` prints it."""
    return dataclasses.asdict(row)


def hull_document(rows: Iterable[Ranked], findings: Findings) -> dict[str, Any]:
    """Return the hull as `gasearch hull --json` prints it."""
    points = [
        {
            "id": row.id,
            "x": row.x,
            "formation_energy_eV_per_fu": row.formation_energy_eV_per_fu,
            "on_hull": row.on_hull,
        }
        for row in rows
    ]
    level = findings.level
    return {"level": level.name, "ranks_only": level.ranks_only, "points": points}


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
