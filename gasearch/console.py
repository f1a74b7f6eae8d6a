"""What the command line shows: tables, progress, and JSON. Nothing is computed here."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gasearch.host import Host
from gasearch.host_declaration import Sublattice
from gasearch.inspection import CompositionStatus, Ranked, Status
from gasearch.store.records import LevelRecord, Outcome

_LOG_EVERY_S = 10.0


def as_json(document: object) -> str:
    """Return one JSON document; no NaN, which JSON does not have."""
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)


def milli(value_eV: float | None) -> str:
    """Return an energy in meV for a table, '-' where there is none."""
    return "-" if value_eV is None else f"{1000 * value_eV:.1f}"


def host_lines(host: Host) -> list[str]:
    """Return what a user checks about a host before searching it."""
    low, high = host.x_range
    declared, total = host.declaration, sum(host.n_distinct(c) for c in host.compositions)
    size = f"{len(host.atoms)} sites, {host.n_formula_units} x {declared.formula_unit}"
    group = f"{host.space_group.symbol} at symprec = {declared.symprec:g} Å"
    n_operations = f"{len(host.permutations)} operations in the supercell"
    x_range = f"x = {low:g} to {high:g} in {len(host.compositions)} compositions"
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
    """Return searched / total per composition."""
    table = _table("x", "formula", "searched / distinct", "failed", "lowest", "E (eV)")
    for row in rows:
        table.add_row(
            f"{row.x:.4g}",
            row.formula,
            f"{row.searched:,} / {row.total:,}",
            str(row.failed),
            "-" if row.best is None else str(row.best),
            "-" if row.best_energy_eV is None else f"{row.best_energy_eV:.4f}",
        )
    return table


def ranked_table(rows: Iterable[Ranked]) -> Table:
    """Return candidates with their energies."""
    table = _table(
        "id", "x", "E (eV)", "E_f (meV/f.u.)", "above hull (meV/f.u.)", "found by", "fingerprint"
    )
    for row in rows:
        table.add_row(
            str(row.id),
            f"{row.x:.4g}",
            f"{row.energy_eV:.4f}",
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


def status_document(status: Status) -> dict[str, Any]:
    """Return the status as `gasearch status --json` prints it."""
    counts = dataclasses.asdict(status.counts)
    return {
        **counts,
        "by_composition": [dataclasses.asdict(row) for row in status.by_composition],
        "done": status.done,
        "ending": status.ending,
    }


def ranked_document(row: Ranked) -> dict[str, Any]:
    """Return a candidate as `gasearch best --json` prints it."""
    return dataclasses.asdict(row)


def hull_document(rows: Iterable[Ranked], level: LevelRecord) -> dict[str, Any]:
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
    return {"level": level.name, "ranks_only": level.ranks_only, "points": points}


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        is_text = column in ("formula", "found by", "fingerprint")
        table.add_column(column, justify="left" if is_text else "right", no_wrap=True)
    return table


class Watch(Protocol):
    """Shows how a search proceeds."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def __call__(self, outcomes: Sequence[Outcome]) -> None:
        """Take the results of one commit."""
        ...


class _Tally:
    """Counts results since the start and keeps the last one in words."""

    def __init__(self, n_done: int) -> None:
        self.n_done = n_done
        self.n_failed = 0
        self.last = ""

    def add(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            self.n_done += 1
            self.n_failed += outcome.verdict != "ok"
            energy = "" if outcome.verdict == "failed" else f" {outcome.energy:.3f} eV"
            self.last = f"{outcome.composition}{energy} {outcome.verdict}"


class BarWatch:
    """A progress bar, for a terminal."""

    def __init__(self, console: Console, n_done: int, budget: int) -> None:
        self._tally = _Tally(n_done)
        self._progress = Progress(
            TextColumn("relaxed"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
        )
        self._task = self._progress.add_task("", total=budget, completed=n_done)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def __call__(self, outcomes: Sequence[Outcome]) -> None:
        """Show the newest results."""
        self._tally.add(outcomes)
        if outcomes:
            self._progress.update(
                self._task, completed=self._tally.n_done, description=self._tally.last
            )


class LineWatch:
    """A line now and then, for a log file."""

    def __init__(self, console: Console, n_done: int, budget: int) -> None:
        self._console = console
        self._tally = _Tally(n_done)
        self._budget = budget
        self._last_line = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def __call__(self, outcomes: Sequence[Outcome]) -> None:
        """Show the newest results."""
        self._tally.add(outcomes)
        if outcomes and time.monotonic() - self._last_line >= _LOG_EVERY_S:
            self._last_line = time.monotonic()
            self._console.print(
                f"{time.strftime('%H:%M:%S')} {self._tally.n_done} of {self._budget} candidates, "
                f"{self._tally.n_failed} not ok; last {self._tally.last}",
                highlight=False,
                soft_wrap=True,
            )


def watch(console: Console, n_done: int, budget: int) -> Watch:
    """Return a progress bar on a terminal, plain lines elsewhere."""
    return (BarWatch if console.is_terminal else LineWatch)(console, n_done, budget)
