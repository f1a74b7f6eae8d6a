"""Tables and JSON of the commands: numbers, hosts, candidates, decorations. Nothing is computed."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from rich.table import Table

from gasearch.analysis.findings import Findings, Ranked, blind_lines
from gasearch.analysis.hull import NoEndMemberError
from gasearch.analysis.joint_hull import JointHull
from gasearch.analysis.lineage import Ancestor
from gasearch.crystal.declaration import Sublattice
from gasearch.crystal.host import Host
from gasearch.store.records import LevelRecord, RunRecord

TEXTS = ("formula", "made by", "fingerprint", "species", "parents", "run", "host", "rule", "reason")
"""Columns of text, which go on in the next line where a table is too wide."""
ENERGY, FORMATION, ABOVE = "E\n(eV)", "E_f\n(meV/f.u.)", "above hull\n(meV/f.u.)"
NOTHING = "note: no candidate with verdict ok here yet"
HELD = (
    "note: a held potential ranks the orders at one x (NaxFePO4 at x = 1/2: Kendall's tau 0.87 "
    "against DFT); energies across x, and so hull and voltage, are the potential's own (there "
    "-157 meV/f.u. against -50 of DFT)"
)
"""Figures of CHGNet 0.3.0: `benchmarks/results/held.md`."""
RELEASED = (
    "note: released candidates alone, of those that kept their order; energies across x, and so "
    "hull and voltage, stay those of a potential that was not trained on charge orders"
)
RANKS_ONLY = (
    "note: this potential only ranks orders at one x; its formation energies, hull and voltage "
    "have no physical meaning"
)


def as_json(document: object) -> str:
    """Return one JSON document, dataclasses as objects.

    Without NaN, which JSON does not have, and without what a terminal would obey.
    """
    text = json.dumps(
        document, indent=2, allow_nan=False, ensure_ascii=False, default=dataclasses.asdict
    )
    return text.translate({code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)})


def make_table(
    columns: Iterable[str], rows: Iterable[Iterable[str]], texts: Collection[str] = TEXTS
) -> Table:
    """Return a table: text to the left, and whole in any width; numbers to the right.

    Parameters
    ----------
    texts
        Columns of text, each with its "to ..." beside it.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        if column.removeprefix("to ") in texts:
            table.add_column(column, overflow="fold")
        else:
            table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def milli(value_eV: float | None) -> str:
    """Return an energy in meV for a table, '-' where there is none."""
    return "-" if value_eV is None else f"{1000 * value_eV:.1f}"


def electronvolt(value_eV: float | None) -> str:
    """Return an energy in eV for a table, '-' where there is none (None or NaN)."""
    return "-" if value_eV is None or math.isnan(value_eV) else f"{value_eV:.4f}"


def notes(found: Findings | JointHull) -> list[str]:
    """Return what a reader of energies must know about them."""
    missing = found.missing_ends()
    ends = f"note: {NoEndMemberError(missing)}".rstrip(".")
    runs = [found.run] if isinstance(found, Findings) else hull_runs(found)
    is_released = isinstance(found, JointHull) and found.members[0].is_released
    released = [RELEASED] if is_released else []
    return [*([ends] if missing else []), *cautions(found.level, runs), *released]


def hull_runs(hull: JointHull) -> list[RunRecord]:
    """Return the runs whose potential made a hull; none of a hull of DFT."""
    return [member.run for member in hull.members if member.dft_settings is None]


def cautions(level: LevelRecord, runs: Iterable[RunRecord] = ()) -> list[str]:
    """Return what the energies of a level are not good for.

    Parameters
    ----------
    runs
        At that level, whose potential may be charge-blind.
    """
    blind = dict.fromkeys(f"note: {line}" for run in runs for line in blind_lines(run))
    own = [*([RANKS_ONLY] if level.ranks_only else []), *([HELD] if level.is_held else [])]
    return [*own, *blind]


def host_lines(host: Host) -> list[str]:
    """Return what a user checks about a host before searching it."""
    low, high = host.x_range
    declared, total = host.declaration, sum(host.n_distinct(c) for c in host.compositions)
    size = f"{len(host.atoms)} sites, {host.n_formula_units} x {declared.formula_unit}"
    group = f"{host.space_group.symbol} at symprec = {declared.symprec:g} Å"
    n_operations = f"{len(host.permutations)} operations in the supercell"
    n_distinct = f"{at_least(total, is_exact=host.are_counted)} distinct decorations"
    x_range = f"neutral range x = {low:.4g} to {high:.4g} in {len(host.compositions)} compositions"
    if not host.has_axis:
        x_range = f"composition   {host.compositions[0].formula} alone"
    return [
        f"host          {declared.name}, {size}",
        f"space group   {group}, {n_operations}",
        *[_sublattice_line(sublattice) for sublattice in host.sublattices],
        f"{x_range}, {n_distinct}",
        *([_exclusions_line(host)] if len(host.exclusions) else []),
    ]


def _exclusions_line(host: Host) -> str:
    pairs, limit = host.exclusions, host.declaration.min_site_distance
    lengths = host.distances[pairs[:, 0], pairs[:, 1]]
    return (
        f"exclusions    {len(pairs)} pairs of sites {lengths.min():.2f} to {lengths.max():.2f} Å "
        f"apart, less than {limit:g} Å: one of two is filled at most"
    )


def at_least(number: int, *, is_exact: bool) -> str:
    """Return a number, or that there are so many at least."""
    return f"{number:,}" if is_exact else f"at least {number:,}"


def _sublattice_line(sublattice: Sublattice) -> str:
    kind = sublattice.kind.replace("_", " ")
    return f"{kind:<13} {len(sublattice)} sites: {', '.join(map(str, sublattice.species))}"


def ranked_table(rows: Iterable[Ranked]) -> Table:
    """Return candidates with their energies; what few have is shown where any has it."""
    rows = list(rows)
    columns: dict[str, Callable[[Ranked], str]] = {
        "id": lambda row: str(row.id),
        "x": lambda row: f"{row.x:.4g}",
        ENERGY: lambda row: electronvolt(row.energy_eV),
        FORMATION: lambda row: milli(row.formation_energy_eV_per_fu),
        ABOVE: lambda row: milli(row.above_hull_eV_per_fu),
    }
    if any(row.sigma_eV_per_fu is not None for row in rows):
        columns["+-\n(meV/f.u.)"] = lambda row: milli(row.sigma_eV_per_fu)
    if any(row.verdict != "ok" for row in rows):
        columns |= {"verdict": lambda row: row.verdict, "reason": lambda row: row.reason}
    if any(row.exists_only_while_held for row in rows):
        columns["held by\n(meV)"] = lambda row: milli(row.penalty_eV)
    if any(row.same_as is not None for row in rows):
        columns["same\noutcome as"] = lambda row: str(row.same_as or "")
    columns |= {"made by": lambda row: row.operator, "fingerprint": lambda row: row.fingerprint}
    return make_table(columns, ([text(row) for text in columns.values()] for row in rows))


def ranked_documents(rows: Iterable[Ranked]) -> list[dict[str, Any]]:
    """Return candidates as JSON; of one that failed the energy is None."""
    documents = [dataclasses.asdict(row) for row in rows]
    for one in documents:
        one["energy_eV"] = None if math.isnan(one["energy_eV"]) else one["energy_eV"]
    return documents


def lineage_table(rows: Iterable[Ancestor]) -> Table:
    """Return a candidate and its ancestors, with what the surrogate expected of each."""
    error = "found -\npredicted\n(meV/f.u.)"
    return make_table(
        ("id", "made by", "rate", "parents", "x", ABOVE, "verdict", error),
        (
            (
                str(row.id),
                row.made_by,
                "-" if row.rate is None else f"{row.rate:.0%}",
                ", ".join(map(str, row.parents)) or "-",
                f"{row.x:.4g}",
                milli(row.above_hull_eV_per_fu),
                row.verdict or "-",
                _with_deviation(row.error_eV_per_fu, row.deviation_eV_per_fu),
            )
            for row in rows
        ),
    )


def _with_deviation(error_eV: float | None, deviation_eV: float | None) -> str:
    if error_eV is None:
        return "-"
    deviation = "" if deviation_eV is None else f" ± {1000 * deviation_eV:.1f}"
    return f"{1000 * error_eV:+.1f}{deviation}"


def count_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Return the counts of decorations per composition."""
    cells = (
        (
            f"{row['x']:.4g}",
            at_least(row["raw"], is_exact=row["exact"]),
            at_least(row["distinct"], is_exact=row["exact"]),
        )
        for row in rows
    )
    return make_table(("x", "raw", "distinct"), cells)


def decoration_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Return decorations with the species on their sublattice sites."""
    names = ("x", "orbit_size", "fingerprint", "species")
    cells = ([f"{row['x']:.4g}", *(str(row[name]) for name in names[1:])] for row in rows)
    return make_table(("x", "orbit\nsize", *names[2:]), cells)
