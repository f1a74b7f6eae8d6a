"""What is said of the runs of `search.py`: quantiles, the table, the figure of success curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

STYLES = {
    "gasearch": ("#0072B2", "-"),
    "ase_ga": ("#D55E00", "--"),
    "random": ("#000000", ":"),
}
"""Colour (Okabe and Ito, readable for the colour-blind) and dash of each method."""
NOTES = """\
- An evaluation is one structure that would be relaxed. `random` and `gasearch` know equivalent
  decorations; `ase_ga`, as in the paper, only skips exact repeats. Last column: how many of a run's
  evaluations were not equivalent to an earlier one of it, median.
- `random` draws evenly from all raw decorations and skips equivalents of earlier ones. A decoration
  with a small orbit comes late in it, and ground states are often such.
- `ase_ga`: the operators and weights of arXiv 2603.26471 on the lattice of Na/X and Fe/Ga; what
  stands in for which part is said in `benchmarks/ase_ga_baseline.py`. Its population was chosen
  beforehand, see below.
- `gasearch`: defaults, at this composition only, no end members, in_flight = 1 (each result is
  known before the next proposal). Operators and weights: {operators}. The weight 2
  of `symmetrise` was chosen on these two landscapes, which flatters the row; on five others
  (many-body, landscape seeds 1 to 5, search seeds 101 to 120) the medians are 81, 137, 335, 191 and
  310 with it, and 158, 183, 504, 183 and 311 with weight 1."""
LANDSCAPES = """\
Spread: standard deviation over raw decorations. Gap: from the ground state to the second lowest
distinct decoration. Minima: distinct decorations that no exchange of two sites of one sublattice
lowers. `coulomb`: formal charges, not screened. `many-body`: Coulomb over 10, plus random pairs,
triplets and surroundings of the same spread (`benchmarks/energies.py`)."""
PILOTS = """\
Seeds {first} to {last}, which are not among those of the table. For each landscape the population
with the lowest mean was taken; unsolved runs count as the cap in it."""
QUANTILES = {"quartile_1": 0.25, "median": 0.5, "quartile_3": 0.75, "percentile_90": 0.9}


def quantile(evaluations: Sequence[int | None], share: float) -> int | None:
    """Return the smallest number within which `share` of the runs are solved.

    None stands for unsolved: as a run, and as a result.
    """
    ordered = sorted(math.inf if n is None else n for n in evaluations)
    value = ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]
    return None if math.isinf(value) else int(value)


def statistics(evaluations: Sequence[int | None]) -> dict[str, float | int | None]:
    """Return quantiles of evaluations to the ground state and the share of solved runs."""
    result: dict[str, float | int | None] = {
        name: quantile(evaluations, share) for name, share in QUANTILES.items()
    }
    result["solved_share"] = sum(n is not None for n in evaluations) / len(evaluations)
    return result


def markdown(document: dict[str, Any]) -> str:
    """Return the whole report as a page of text with tables."""
    settings = document["settings"]
    lines = [
        "# Evaluations until the ground state",
        "",
        _introduction(settings),
        "",
        *_row_table(document),
        "",
        *_notes(document),
        "",
        "## Landscapes",
        "",
        *_landscape_table(document["landscapes"]),
        "",
        *_pilot_section(document),
        "## Machine",
        "",
        ", ".join(f"{key} {value}" for key, value in document["machine"].items()) + ".",
        "",
    ]
    return "\n".join(lines)


def _introduction(settings: dict[str, Any]) -> str:
    a, b, c = settings["supercell"]
    return (
        f"NaxFePO4, {a}x{b}x{c}, x = {settings['x']}: {settings['n_distinct']:,} distinct "
        f"decorations ({settings['n_raw']:,} raw). {settings['runs']} runs per row, seeds 1 to "
        f"{settings['runs']}, one evaluation at a time; a run ends unsolved after "
        f"{settings['cap']:,} evaluations."
    )


def _row_table(document: dict[str, Any]) -> list[str]:
    cap = document["settings"]["cap"]
    body = [
        [
            row["landscape"],
            row["label"],
            *(_shown(row[name], cap) for name in QUANTILES),
            f"{row['solved_share']:.0%}",
            f"{row['median_distinct']:,}",
        ]
        for row in document["rows"]
    ]
    head = [
        "landscape",
        "method",
        "1st quartile",
        "median",
        "3rd quartile",
        "90 %",
        "solved",
        "distinct",
    ]
    return _table(head, body)


def _shown(value: int | None, cap: int) -> str:
    return f">{cap:,}" if value is None else f"{value:,}"


def _notes(document: dict[str, Any]) -> list[str]:
    operators = ", ".join(f"{name} {weight:g}" for name, weight in document["operators"].items())
    return [NOTES.format(operators=operators or "none")]


def _landscape_table(landscapes: Iterable[dict[str, Any]]) -> list[str]:
    head = ["landscape", "seed", "spread", "gap", "minima", "ground state", "its orbit"]
    body = [
        [
            entry["name"],
            "" if entry["seed"] is None else str(entry["seed"]),
            f"{entry['spread_meV_per_fu']:.0f} meV/f.u.",
            f"{entry['gap_meV_per_fu']:.1f} meV/f.u.",
            str(entry["n_minima"]),
            f"`{entry['ground_state']}`",
            str(entry["orbit_size"]),
        ]
        for entry in landscapes
    ]
    return [*_table(head, body), "", LANDSCAPES]


def _pilot_section(document: dict[str, Any]) -> list[str]:
    if not document["pilots"]:
        return []
    seeds = document["settings"]["pilot_seeds"]
    cap = document["settings"]["cap"]
    body = [
        [
            pilot["landscape"],
            str(pilot["population"]),
            _shown(pilot["median"], cap),
            f"{pilot['capped_mean']:,.0f}",
            "yes" if pilot["is_chosen"] else "",
        ]
        for pilot in document["pilots"]
    ]
    return [
        "## Pilot runs",
        "",
        PILOTS.format(first=seeds[0], last=seeds[-1]),
        "",
        *_table(["landscape", "population", "median", "mean", "chosen"], body),
        "",
    ]


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    rows = [head, ["---"] * len(head), *body]
    return [f"| {' | '.join(row)} |" for row in rows]


def draw_success_curves(document: dict[str, Any], file: Path) -> None:
    """Write the share of solved runs over evaluations, one panel per landscape."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row["landscape"] for row in document["rows"]))
    figure, panels = plt.subplots(
        1, len(names), figsize=(4.6 * len(names), 3.6), sharey=True, squeeze=False
    )
    cap = document["settings"]["cap"]
    for panel, name in zip(panels[0], names, strict=True):
        for row in document["rows"]:
            if row["landscape"] == name:
                colour, dash = STYLES[row["method"]]
                panel.step(
                    *success_curve(row["evaluations"], cap),
                    where="post",
                    color=colour,
                    linestyle=dash,
                    label=row["label"],
                )
        panel.set(xscale="log", xlim=(min(10, cap // 2), cap), ylim=(0, 1.02), title=name)
        panel.set_xlabel("evaluations")
        panel.grid(alpha=0.3)
        panel.legend(loc="upper left", frameon=False)
    panels[0][0].set_ylabel("share of runs solved")
    figure.tight_layout()
    figure.savefig(file, dpi=150, metadata={"Software": None})
    plt.close(figure)


def success_curve(evaluations: Sequence[int | None], cap: int) -> tuple[list[int], list[float]]:
    """Return evaluations and the share of runs solved within them, from 1 to the cap."""
    solved = sorted(n for n in evaluations if n is not None)
    steps = [1, *solved, cap]
    shares = [sum(n <= step for n in solved) / len(evaluations) for step in steps]
    return steps, shares
