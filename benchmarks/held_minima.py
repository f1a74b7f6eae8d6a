"""Where the minima of the trained model's table rank in a held potential.

`benchmarks/tables/nafepo4-121-chgnet-nafepo4.csv` has all 874 decorations of 56-atom NaxFePO4 as
the trained default relaxes them. Here the same are relaxed with a held potential from the same
starts, the lowest of each composition first, so that what was stopped early says something too.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.potentials.contract import Potential
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.moment_reader import MomentReader
from gasearch.search.dispatcher import start_structure

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "benchmarks" / "tables" / "nafepo4-121-chgnet-nafepo4.csv"
RATTLE, SEED = 0.02, 1  # of the table
CHUNK = 8
N_UNITS = 8
Row = dict[str, Any]


def tabulated() -> list[Row]:
    """Return the rows of the table, the lowest of each composition first, then the second ones."""
    with TABLE.open(encoding="utf-8") as file:
        lines = [line for line in file if not line.startswith("#")]
    rows = [
        {"fingerprint": row["fingerprint"], "x": float(row["x"]), "energy": float(row["energy_eV"])}
        for row in csv.DictReader(lines)
    ]
    rows.sort(key=lambda row: (row["x"], row["energy"]))
    rank = dict.fromkeys({row["x"] for row in rows}, 0)
    for row in rows:
        row["rank"] = rank[row["x"]] = rank[row["x"]] + 1
    return sorted(rows, key=lambda row: (row["rank"], row["x"]))


def relax_tabulated(
    potential: Potential,
    reader: MomentReader | None,
    path: Path,
    most: int,
    say: Callable[[str], None],
) -> None:
    """Relax so many of each composition, and add a line for each to a file; those there stay."""
    host = Host.build(builtin_host("nafepo4-olivine"), (1, 2, 1))
    known = {row["fingerprint"] for row in read_lines(path)}
    left = [r for r in tabulated() if r["rank"] <= most and r["fingerprint"] not in known]
    path.parent.mkdir(parents=True, exist_ok=True)
    for chunk in _chunks(left):
        starts = [
            (n, start_structure(Decoration.from_fingerprint(host, r["fingerprint"]), RATTLE, SEED))
            for n, r in enumerate(chunk)
        ]
        with path.open("a", encoding="utf-8") as file:
            for n, relaxed in BatchRelaxer(potential, None, reader).relax(starts):
                found = {
                    "fingerprint": chunk[n]["fingerprint"],
                    "energy": relaxed.energy,
                    "penalty": relaxed.penalty,
                    "verdict": relaxed.verdict,
                    "n_calls": relaxed.n_calls,
                }
                file.write(json.dumps(found) + "\n")
                file.flush()
        say(f"{path.stem}: rank {chunk[-1]['rank']}, x = {chunk[-1]['x']:g}")


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for first in range(0, len(rows), CHUNK):
        yield rows[first : first + CHUNK]


def read_lines(path: Path) -> list[Row]:
    """Return what was relaxed so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def ranks(path: Path) -> dict[str, Any]:
    """Return, composition by composition, where the table's minimum stands in the held potential.

    Only what relaxed with its order kept is ranked.
    """
    from scipy.stats import kendalltau

    found = {row["fingerprint"]: row for row in read_lines(path)}
    table = [row for row in tabulated() if row["fingerprint"] in found]
    by_x: list[Row] = []
    for x in sorted({row["x"] for row in table}):
        rows = [row for row in table if row["x"] == x]
        kept = [row for row in rows if found[row["fingerprint"]]["verdict"] == "ok"]
        own = np.array([found[row["fingerprint"]]["energy"] for row in kept])
        true = np.array([row["energy"] for row in kept])
        if not len(kept):
            continue
        first = int(np.argmin(true))
        lowest = int(np.argmin(own))
        tau = float(kendalltau(own, true).statistic) if len(kept) > 2 else None
        by_x.append(
            {
                "x": x,
                "relaxed": len(rows),
                "kept": len(kept),
                "has_minimum": kept[first]["rank"] == 1,
                "rank_of_minimum": int((own < own[first]).sum()) + 1,
                "above_lowest_meV_per_fu": float(1000 * (own[first] - own[lowest]) / N_UNITS),
                "rank_of_lowest": kept[lowest]["rank"],
                "kendall_tau": tau,
            }
        )
    penalties = [1000 * row["penalty"] for row in found.values() if row["verdict"] == "ok"]
    return {
        "relaxed": len(found),
        "kept": sum(row["verdict"] == "ok" for row in found.values()),
        "n_calls": float(np.mean([row["n_calls"] for row in found.values()])),
        "share_without_residual": sum(p < 0.5 for p in penalties) / max(len(penalties), 1),
        "residual_meV_max": float(max(penalties, default=0.0)),
        "by_x": by_x,
    }


def page(documents: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines of the report."""
    lines = [
        "## The nine minima of 1x2x1",
        "",
        "All 874 decorations of 56-atom NaxFePO4 are tabulated as the trained default relaxes",
        "them. The rank of its lowest order, and how high it lies above the lowest of the held",
        "potential in meV per formula unit, among as many as were relaxed, lowest first.",
        "",
    ]
    for name, found in documents.items():
        told = (
            f"**{name}**: {found['kept']} of {found['relaxed']} kept their order, "
            f"{found['n_calls']:.1f} calls; the penalty is below 0.5 meV per cell in "
            f"{found['share_without_residual']:.0%} and at most {found['residual_meV_max']:.1f}."
        )
        lines += [
            told,
            "",
            "| x | kept | rank of the minimum | meV/f.u. | tabulated rank of the lowest | tau |",
            "|---:|---:|---:|---:|---:|---:|",
        ]
        for row in found["by_x"]:
            tau = "-" if row["kendall_tau"] is None else f"{row['kendall_tau']:.2f}"
            rank = row["rank_of_minimum"] if row["has_minimum"] else "lost its order"
            lines.append(
                f"| {row['x']:g} | {row['kept']} of {row['relaxed']} | {rank} "
                f"| {row['above_lowest_meV_per_fu']:.1f} | {row['rank_of_lowest']} | {tau} |"
            )
        lines.append("")
    return lines
