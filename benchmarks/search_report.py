"""What is said of the runs of `search.py`: quantiles, tables and their notes, goals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

from search_notes import (
    ABLATION,
    COST,
    FIGURE,
    IN_FLIGHT,
    INTRODUCTION,
    LANDSCAPES,
    LARGE,
    MODEL,
    PILOTS,
    RELAXED,
)

QUANTILES = {"quartile_1": 0.25, "median": 0.5, "quartile_3": 0.75, "percentile_90": 0.9}
QUANTILE_HEADS = ["1st quartile", "median", "3rd quartile", "90 %", "solved"]
RUNS = 30
"""Per row, unless it says otherwise."""
Row = dict[str, Any]


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
    sections: dict[str, Callable[[dict[str, Any]], list[str]]] = {
        "Goals": goals,
        "Relaxed energies of real potentials": _relaxed,
        "Model landscapes, 12 f.u.": _model,
        "Large landscapes, 24 f.u.": _large,
        "Many in flight": _in_flight,
        "Features left out": _ablation,
        "Engine time": _cost,
        "Landscapes": _landscapes,
        "Pilot runs of `ase_ga`": _pilots,
    }
    lines = ["# Evaluations until the ground state", "", INTRODUCTION, ""]
    for title, section in sections.items():
        body = section(document)
        if body:
            lines += [f"## {title}", "", *body, ""]
    described = ", ".join(f"{key} {value}" for key, value in document["machine"].items())
    return "\n".join([*lines, "## Machine", "", f"{described}.", ""])


def of(document: dict[str, Any], part: str, **wanted: str) -> list[Row]:
    """Return the rows of a part that hold what is wanted."""
    return [
        row
        for row in document["rows"]
        if row["part"] == part and all(row[name] == value for name, value in wanted.items())
    ]


def goals(document: dict[str, Any]) -> list[str]:
    """Return the table of what was aimed at and what was reached."""
    body = [*_search_goals(document), *_cost_goals(document)]
    if not body:
        return []
    return _table(["goal", "on", "measured", "reached"], body)


def _search_goals(document: dict[str, Any]) -> Iterable[list[str]]:
    for row in of(document, "model"):
        if row["method"] in ("gasearch", "gasearch-uncharged"):
            name = f"{row['landscape']}, {row['label']}"
            is_met = _at_most(row["median"], 60) and _at_most(row["percentile_90"], 120)
            found = f"{_number(row, 'median')} and {_number(row, 'percentile_90')}"
            yield [
                "median at most 60, 90 % at most 120",
                name,
                found,
                _yes_unless_built_in(row, is_met),
            ]
            yield from _against(document, row, "ase_ga", 10, "model", "a tenth of `ase_ga`")
    for row in of(document, "relaxed", goal="ground state"):
        if row["method"] not in ("gasearch", "gasearch-uncharged"):
            continue
        n_distinct = _n_distinct(document, row)
        if n_distinct > 500:
            yield from _against(document, row, "ase_ga", 10, "relaxed", "a tenth of `ase_ga`")
        else:
            yield from _against(document, row, "random", 3, "relaxed", "under a third of random")
    for row in of(document, "large"):
        if row["method"] in ("gasearch", "gasearch-uncharged"):
            solved = f"{row['solved_share']:.0%}"
            name = f"{row['landscape']}, 24 f.u., {row['label']}"
            yield ["95 % solved within 3,000", name, solved, _yes(row["solved_share"] >= 0.95)]


def _against(
    document: dict[str, Any], row: Row, method: str, factor: int, part: str, goal: str
) -> Iterable[list[str]]:
    """Yield the line of a goal that compares medians, where both are known."""
    others = of(document, part, method=method, landscape=row["landscape"], x=row["x"])
    if not others or row["median"] is None:
        return
    other = others[0]["median"] or others[0]["cap"]
    name = f"{row['landscape']}, x = {row['x']}, {row['label']}"
    found = f"{row['median']:,} against {other:,}, 1 / {other / row['median']:.1f}"
    is_met = other > factor * row["median"]
    yield [f"median {goal}", name, found, _yes_unless_built_in(row, is_met)]


def _n_distinct(document: dict[str, Any], row: Row) -> int:
    return next(
        int(entry["n_distinct"])
        for entry in document["landscapes"]
        if (entry["name"], entry.get("x")) == (row["landscape"], row["x"])
    )


def _cost_goals(document: dict[str, Any]) -> Iterable[list[str]]:
    for entry in document["cost"]:
        if entry["n_results"] != max(e["n_results"] for e in document["cost"]):
            continue
        cell, name = entry["cell"], f"{entry['n_results']:,} results"
        ms, refit, rate = (entry[key] for key in ("mean_s", "refit_s", "features_per_s"))
        yield [
            f"at most 100 ms a candidate at {name}",
            cell,
            f"{1000 * ms:.0f} ms",
            _yes(ms <= 0.1),
        ]
        yield [f"refit within 0.2 s at {name}", cell, f"{refit:.2f} s", _yes(refit <= 0.2)]
        rate_text = f"{rate:,.0f}"
        yield ["features of 50,000 decorations a second", cell, rate_text, _yes(rate >= 50_000)]


def _at_most(value: int | None, limit: int) -> bool:
    return value is not None and value <= limit


def _yes_unless_built_in(row: Row, is_met: bool) -> str:
    """Return the verdict on a row; Coulomb starts on the Coulomb landscape deserve none."""
    is_built_in = row["landscape"] == "coulomb" and row["method"] == "gasearch"
    return "by construction" if is_built_in and is_met else _yes(is_met)


def _yes(is_met: bool) -> str:
    return "yes" if is_met else "**no**"


def _number(row: Row, name: str) -> str:
    value = row[name]
    return f">{row['cap']:,}" if value is None else f"{value:,}"


def _quantiles(row: Row) -> list[str]:
    return [*(_number(row, name) for name in QUANTILES), f"{row['solved_share']:.0%}"]


def _full(rows: Sequence[Row], first: str, names: Callable[[Row], str]) -> list[str]:
    """Return a table with a line for each row."""
    body = [[names(row), row["label"], *_quantiles(row), str(row["runs"])] for row in rows]
    return _table([first, "method", *QUANTILE_HEADS, "runs"], body)


def _relaxed(document: dict[str, Any]) -> list[str]:
    rows = of(document, "relaxed")
    if not rows:
        return []
    whole = [row for row in rows if row["x"] == "all"]
    single = [row for row in rows if row["x"] != "all"]
    lines = _full(whole, "table, goal", lambda row: f"{row['landscape']}, {row['goal']}")
    methods = list(dict.fromkeys(row["method"] for row in single))
    body = []
    for name, x in dict.fromkeys((row["landscape"], row["x"]) for row in single):
        by_method = {r["method"]: r for r in single if (r["landscape"], r["x"]) == (name, x)}
        n_distinct = _n_distinct(document, {"landscape": name, "x": x})
        cells = [_pair(by_method[m]) if m in by_method else "" for m in methods]
        body.append([name, x, str(n_distinct), *cells])
    heads = [_head([row for row in single if row["method"] == method]) for method in methods]
    single_table = _table(["table", "x", "distinct", *heads], body)
    return [
        "![success curves](search-success.png)",
        "",
        FIGURE,
        "",
        *lines,
        "",
        "One composition at a time, median / 90 %:",
        "",
        *single_table,
        "",
        RELAXED,
    ]


def _head(rows: Sequence[Row]) -> str:
    """Return the name of a method, with the number of its runs where that is not the usual one."""
    label = str(rows[0]["label"]).partition(", population")[0]
    n_runs = min(row["runs"] for row in rows)
    return label if n_runs in (1, RUNS) else f"{label} ({n_runs} runs)"


def _pair(row: Row) -> str:
    """Return median and 90th percentile, and the solved share where it is not all."""
    text = f"{_number(row, 'median')} / {_number(row, 'percentile_90')}"
    return text if row["solved_share"] == 1 else f"{text} ({row['solved_share']:.0%})"


def _model(document: dict[str, Any]) -> list[str]:
    rows = of(document, "model")
    if not rows:
        return []
    return [*_full(rows, "landscape", lambda row: row["landscape"]), "", MODEL]


def _large(document: dict[str, Any]) -> list[str]:
    rows = of(document, "large")
    if not rows:
        return []
    return [*_full(rows, "landscape", lambda row: row["landscape"]), "", LARGE]


def _in_flight(document: dict[str, Any]) -> list[str]:
    rows = of(document, "in-flight")
    if not rows:
        return []
    return [*_full(rows, "landscape", lambda row: row["landscape"]), "", IN_FLIGHT]


def _ablation(document: dict[str, Any]) -> list[str]:
    rows = of(document, "ablation")
    if not rows:
        return []
    names = list(dict.fromkeys(row["landscape"] for row in rows))
    body = []
    for label in dict.fromkeys(row["label"] for row in rows):
        own = [row for row in rows if row["label"] == label]
        cells = {row["landscape"]: _number(row, "median") for row in own}
        all_runs = [n for row in own for n in row["evaluations"]]
        cap = max(row["cap"] for row in own)
        pooled = [quantile(all_runs, share) for share in (0.5, 0.9)]
        text = " / ".join(f">{cap:,}" if n is None else f"{n:,}" for n in pooled)
        body.append([label, *(cells.get(name, "") for name in names), text])
    return [*_table(["", *names, "all: median / 90 %"], body), "", ABLATION]


def _cost(document: dict[str, Any]) -> list[str]:
    if not document["cost"]:
        return []
    heads = ["cell", "results", "features", "ms a candidate", "longest", "first", "refit"]
    heads += ["features of so many a second", "matrix product"]
    body = [
        [
            entry["cell"],
            f"{entry['n_results']:,}",
            str(entry["n_features"]),
            f"{1000 * entry['mean_s']:.0f}",
            f"{1000 * entry['longest_s']:.0f}",
            f"{1000 * entry['first_s']:,.0f}",
            f"{1000 * entry['refit_s']:.0f}",
            f"{entry['features_per_s']:,.0f}",
            f"{1000 * entry['yardstick_s']:.0f}",
        ]
        for entry in document["cost"]
    ]
    return [*_table(heads, body), "", COST]


def _landscapes(document: dict[str, Any]) -> list[str]:
    heads = ["landscape", "x", "distinct", "valid", "spread", "gap", "as low", "minima", "vertex"]
    heads += ["ground state", "its orbit"]
    body = []
    for entry in document["landscapes"]:
        gap = entry["gap_meV_per_fu"]
        name = entry["name"] + (", 24 f.u." if entry["part"] == "large" else "")
        if entry.get("seed") is not None:
            name += f", seed {entry['seed']}"
        body.append(
            [
                name,
                str(entry.get("x", Fraction(2, 3))),
                f"{entry.get('n_distinct', 11_269_366_602):,}",
                str(entry.get("n_ok", "")),
                f"{entry['spread_meV_per_fu']:.0f}",
                "" if gap is None else f"{gap:.2f}",
                str(entry.get("n_as_low", "")),
                str(entry.get("n_minima", "")),
                "yes" if entry.get("is_vertex") else "",
                f"`{entry['fingerprint']}`",
                str(entry["orbit_size"]),
            ]
        )
    return [*_table(heads, body), "", LANDSCAPES]


def _pilots(document: dict[str, Any]) -> list[str]:
    if not document["pilots"]:
        return []
    body = [
        [
            pilot["landscape"],
            str(pilot["population"]),
            _number(pilot, "median"),
            f"{pilot['capped_mean']:,.0f}",
            "yes" if pilot["is_chosen"] else "",
        ]
        for pilot in document["pilots"]
    ]
    return [PILOTS, "", *_table(["landscape", "population", "median", "mean", "chosen"], body)]


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    rows = [head, ["---"] * len(head), *body]
    return [f"| {' | '.join(row)} |" for row in rows]
