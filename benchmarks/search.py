"""Evaluations until the ground state: gasearch, the paper's `ase_ga` search, tempering, random.

    python benchmarks/search.py                                  all parts
    python benchmarks/search.py --part relaxed --method gasearch  some rows; others are kept
    python benchmarks/search.py --landscape nafepo4-121-pmmcs    those of a table made again
    python benchmarks/search.py --missing                        rows that the file does not have

Writes search.json after each row, then search.md and search-success.png. All numbers but times
repeat exactly with the same versions. Which rows there are: `search_cases.py`; the methods:
`search_methods.py`; engine time per candidate, the part "cost": `search_cost.py`.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer
from landscapes import MINIMA, NAMES, Landscape, make_landscape
from machine import describe_machine
from relaxed_landscapes import RelaxedLandscape, relaxed_landscape
from search_case import ALL, METHODS, Case, Tuning, x_text
from search_cases import MODEL_CELL, MODEL_X, PARTS
from search_cost import measure_cost
from search_figure import draw_success_curves
from search_methods import ase_ga_run, evaluations_needed
from search_report import RUNS, markdown, quantile, statistics
from search_tables import table_names

from gasearch.operators.contract import default_operators

RESULTS = Path(__file__).parent / "results"
COST = "cost"
POPULATIONS = (20, 50, 200)
FIRST_PILOT, N_PILOTS = 1001, 10
PACKAGES = ("gasearch", "numpy", "scipy", "ase", "ase-ga", "spglib")


class Document:
    """The file of results, merged row by row.

    Parameters
    ----------
    file
        Read if it exists; written by `save`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        self._rows = {_key(row): row for row in found.get("rows", [])}
        self.pilots: dict[str, list[dict[str, Any]]] = {}
        for pilot in found.get("pilots", []):
            self.pilots.setdefault(pilot["landscape"], []).append(pilot)
        self.cost: list[dict[str, Any]] = found.get("cost", [])

    def holds(self, case: Case) -> bool:
        """Return whether all rows of a case are there: same cap and seeds, no fewer runs."""
        rows = [self._find(case, goal) for goal in case.goals]
        wanted = (case.cap, case.first_seed)
        return all(
            row and (row["cap"], row["first_seed"]) == wanted and row["runs"] >= case.runs
            for row in rows
        )

    def _find(self, case: Case, goal: str) -> dict[str, Any] | None:
        # the label of ase_ga holds the population that was chosen
        wanted = (case.part, case.landscape, case.x, case.method, goal)
        names = ("part", "landscape", "x", "method", "goal")
        for row in self._rows.values():
            if tuple(row[name] for name in names) == wanted and row["label"].startswith(case.label):
                return row
        return None

    def forget_pilots(self, landscape: str) -> None:
        """Leave out the pilot runs on a landscape, at whatever x."""
        names = [name for name in self.pilots if name.split(", ")[0] == landscape]
        for name in names:
            del self.pilots[name]

    def put(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows, in place of those of the same key."""
        self._rows |= {_key(row): row for row in rows}

    def as_json(self) -> dict[str, Any]:
        """Return the whole, rows in the order of parts, landscapes and methods."""
        order = {name: n for n, name in enumerate([*PARTS, *METHODS])}

        def place(row: dict[str, Any]) -> tuple[Any, ...]:
            part, landscape, x = row["part"], row["landscape"], row["x"]
            rank = 0 if part in ("in-flight", "ablation") else order[row["method"]]
            share = -1 if x == ALL else Fraction(x)
            return order[part], landscape, share, row["goal"] == "hull", rank

        rows = sorted(self._rows.values(), key=place)
        return {
            "machine": describe_machine(PACKAGES),
            "operators": {o.name: o.weight for o in default_operators()},
            "landscapes": described_landscapes(),
            "rows": rows,
            "pilots": list(itertools.chain.from_iterable(self.pilots.values())),
            "cost": self.cost,
        }

    def save(self) -> dict[str, Any]:
        """Write the file and return what it holds."""
        document = self.as_json()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        part.replace(self._file)
        return document


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    label = row["method"] if row["method"] == "ase_ga" else row["label"]
    return row["part"], row["landscape"], row["x"], label, row["goal"]


def measure(case: Case, document: Document) -> list[dict[str, Any]]:
    """Return the rows of a case; pilot runs that had to go before it are put into the document."""
    run, label = case.run, case.label
    if case.tuning is not None:
        if case.tuning.name not in document.pilots:
            document.pilots[case.tuning.name] = pilot_runs(case.tuning)
        pilots = document.pilots[case.tuning.name]
        population = next(pilot["population"] for pilot in pilots if pilot["is_chosen"])
        run = functools.partial(case.run, population)
        label = f"{label}, population {population}"
    started = time.process_time()
    results = [evaluations_needed(run(seed), case.goals, case.cap) for seed in case.seeds]
    cpu_s = round(time.process_time() - started, 2)
    rows = []
    for goal in case.goals:
        needed = [found[goal] for found, _ in results]
        rows.append(
            {
                "part": case.part,
                "landscape": case.landscape,
                "x": case.x,
                "goal": goal,
                "method": case.method,
                "label": label,
                "first_seed": case.first_seed,
                "runs": case.runs,
                "cap": case.cap,
                "evaluations": needed,
                **statistics(needed),
                "median_distinct": quantile([n_distinct for _, n_distinct in results], 0.5),
                "cpu_s": cpu_s,
            }
        )
        print(*_key(rows[-1]), rows[-1]["median"], rows[-1]["percentile_90"], file=sys.stderr)
    return rows


def pilot_runs(tuning: Tuning) -> list[dict[str, Any]]:
    """Return the pilots of `ase_ga` with each population size; the best is marked."""
    pilots = []
    for population in POPULATIONS:
        run = functools.partial(ase_ga_run, tuning.landscape, population)
        needed = [
            evaluations_needed(run(seed), {"": tuning.goal}, tuning.cap)[0][""]
            for seed in range(FIRST_PILOT, FIRST_PILOT + N_PILOTS)
        ]
        capped = [tuning.cap if n is None else n for n in needed]
        pilots.append(
            {
                "landscape": tuning.name,
                "population": population,
                "first_seed": FIRST_PILOT,
                "cap": tuning.cap,
                "capped_mean": sum(capped) / len(capped),
                "evaluations": needed,
                **statistics(needed),
            }
        )
    best = min(pilots, key=lambda pilot: pilot["capped_mean"])
    return [{**pilot, "is_chosen": pilot is best} for pilot in pilots]


@functools.cache
def described_landscapes() -> list[dict[str, Any]]:
    """Return what the report says of each landscape."""
    large = json.loads(MINIMA.read_text(encoding="utf-8"))["landscapes"]
    names = ("name", "seed", "spread_meV_per_fu", "gap_meV_per_fu", "fingerprint", "orbit_size")
    return [
        *itertools.chain.from_iterable(_of_table(relaxed_landscape(n)) for n in table_names()),
        *(_of_model(make_landscape(name, MODEL_CELL, MODEL_X)) for name in NAMES),
        *(
            {"part": "large"}
            | {name: entry[name] for name in names}
            | {"found": f"{entry['n_found']} of {entry['n_runs']}"}
            for entry in large
        ),
    ]


def _of_model(landscape: Landscape) -> dict[str, Any]:
    goal = landscape.ground_state
    return {
        "part": "model",
        "name": landscape.name,
        "seed": None if landscape.name == "coulomb" else landscape.seed,
        "n_distinct": len(landscape),
        "spread_meV_per_fu": 1000 * landscape.spread,
        "gap_meV_per_fu": 1000 * landscape.gap,
        "n_minima": landscape.n_minima,
        "fingerprint": landscape.fingerprint(goal),
        "orbit_size": int(landscape.orbit_sizes[goal]),
    }


def _of_table(table: RelaxedLandscape) -> Iterator[dict[str, Any]]:
    vertices = set(table.hull_vertices) if table.compositions == table.host.compositions else set()
    for composition, minimum in zip(table.compositions, table.niche_minima, strict=True):
        rows = table.rows_at(composition)
        gap = table.gap(composition)
        yield {
            "part": "relaxed",
            "name": table.name,
            "x": x_text(composition),
            "n_distinct": len(rows),
            "n_ok": int(table.is_ok[rows].sum()),
            "spread_meV_per_fu": 1000 * table.spread(composition),
            "gap_meV_per_fu": 1000 * gap if gap < float("inf") else None,
            "n_as_low": len(table.rows_within(composition)),
            "is_vertex": minimum in vertices,
            "fingerprint": table.fingerprints[minimum],
            "orbit_size": int(table.orbit_sizes[minimum]),
        }


def _chosen(given: list[str] | None, known: Sequence[str], what: str) -> tuple[str, ...]:
    if unknown := sorted(set(given or ()) - set(known)):
        raise typer.BadParameter(f"unknown {what} {unknown[0]!r}; known: {', '.join(known)}.")
    return tuple(given or known)


def measure_parts(
    document: Document,
    parts: Sequence[str],
    is_wanted: Callable[[Case], bool],
    runs: int,
) -> None:
    """Measure all wanted rows; the file is written after each."""
    for part in parts:
        if part == COST:
            document.cost = measure_cost()
            document.save()
            continue
        for case in PARTS[part](runs):
            if is_wanted(case):
                document.put(measure(case, document))
                document.save()


def main(
    part: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join([*PARTS, COST])}.")] = None,
    method: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(METHODS)}.")] = None,
    landscape: Annotated[
        str, typer.Option(help="Only its rows; its pilot runs are made again too.")
    ] = "",
    missing: Annotated[bool, typer.Option(help="Only rows that the file does not have.")] = False,
    runs: Annotated[int, typer.Option(help="Runs per row, with seeds 1, 2, ...")] = RUNS,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document.")] = False,
) -> None:
    """Count evaluations until the ground state."""
    parts = _chosen(part, [*PARTS, COST], "part")
    methods = _chosen(method, list(METHODS), "method")
    file = output / "search.json"
    document = Document(file)

    if landscape and not missing:
        document.forget_pilots(landscape)

    def is_wanted(case: Case) -> bool:
        is_asked_for = case.method in methods and landscape in ("", case.landscape)
        return is_asked_for and not (missing and document.holds(case))

    measure_parts(document, parts, is_wanted, runs)
    written = document.save()
    text = markdown(written)
    (output / "search.md").write_text(text, encoding="utf-8")
    draw_success_curves(written, output / "search-success.png")
    print(json.dumps(written, indent=1) if as_json else text)


if __name__ == "__main__":
    typer.run(main)
