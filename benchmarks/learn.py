"""How many DFT jobs a learning loop needs, with the shipped model in the place of DFT.

    python benchmarks/learn.py choose FOLDER      the choice alone, on a search that is done
    python benchmarks/learn.py report

`choose` takes a run folder of NaxFePO4, 1x2x1, searched with plain CHGNet, held (`gasearch init
FOLDER --host nafepo4-olivine --supercell 1 2 1 --potential chgnet`, then `gasearch run`). What DFT
would say of a candidate is the energy of its order in the table of all 874, relaxed with
chgnet-nafepo4. Jobs are given out in rounds of eight, by three rules: as `gasearch learn` does it,
with its correction; the lowest of each composition, as the held potential has them; and at random.
Counted are the jobs until the order that is lowest in the table was computed at each of the nine x,
and the largest errors of the hull. No network is trained: this is what the choice and the
correction are worth.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import typer
from machine import describe_machine

from gasearch.analysis.findings import Findings, read_run
from gasearch.crystal.host import Host
from gasearch.learning.choice import Chosen, choose
from gasearch.learning.expected.predictions import Expectations, Expected, corrected, placed
from gasearch.learning.settings import ChoiceSection
from gasearch.learning.summary import hull_error

HERE = Path(__file__).parent
TABLE = HERE / "tables" / "nafepo4-121-chgnet-nafepo4.csv"
RESULTS = HERE / "results" / "learn.json"
RUN = "round-1/1x2x1"
JOBS, MOST, SEEDS = 8, 96, 5
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def truth() -> dict[str, tuple[float, float]]:
    """Return (x, energy of the cell in eV) of each order of the table that is valid."""
    lines = (line for line in TABLE.read_text().splitlines() if not line.startswith("#"))
    return {
        row["fingerprint"]: (float(row["x"]), float(row["energy_eV"]))
        for row in csv.DictReader(lines)
        if row["verdict"] == "ok"
    }


@dataclass
class Trial:
    """A search whose candidates get their DFT energies from the table."""

    host: Host
    rows: list[Expected]
    energies: Mapping[str, tuple[float, float]]
    correct: bool

    def expected(self) -> Expectations:
        """Return what is expected of all candidates."""
        rows = corrected(self.host, self.rows)[0] if self.correct else self.rows
        return Expectations(placed(rows, {RUN: self.host}), {}, {RUN: self.host})

    def compute(self, chosen: Sequence[Expected]) -> None:
        """Let DFT say what it says of some candidates."""
        ids = {row.id for row in chosen}
        self.rows = [
            replace(row, dft_eV=self.energies[row.fingerprint][1], has_job=True)
            if row.id in ids
            else row
            for row in self.rows
        ]

    @property
    def computed(self) -> list[Expected]:
        """Return the candidates that DFT has computed."""
        return [row for row in self.rows if row.has_job]

    def minima(self) -> set[str]:
        """Return the lowest order of the table at each x."""
        lowest: dict[float, str] = {}
        for name, (x, energy) in self.energies.items():
            if x not in lowest or energy < self.energies[lowest[x]][1]:
                lowest[x] = name
        return set(lowest.values())


def hull_of(points: Sequence[tuple[float, float]]) -> list[dict[str, float]]:
    """Return the hull of (x, energy per formula unit), as round.json writes it."""
    from gasearch.analysis.hull import formation_hull

    x, energy = zip(*sorted(points), strict=True)
    found = formation_hull(x, energy, 1, (0.0, 1.0))
    rows = zip(found.x, found.formation_energy_per_fu, found.on_hull, strict=True)
    return [{"x": float(a), "formation_per_fu": float(b)} for a, b, on in rows if on]


Rule = Callable[[Trial, int, np.random.Generator], Sequence[Expected]]


def by_learn(trial: Trial, jobs: int, rng: np.random.Generator) -> list[Expected]:
    """Choose as `gasearch learn` does."""
    del rng
    return [one.row for one in _chosen(trial, ChoiceSection(), jobs)]


def by_lowest(trial: Trial, jobs: int, rng: np.random.Generator) -> list[Expected]:
    """Take the lowest of each composition."""
    del rng
    only = ChoiceSection(lowest=1.0, uncertain=0.0, different=0.0)
    return [one.row for one in _chosen(trial, only, jobs)]


def _chosen(trial: Trial, settings: ChoiceSection, jobs: int) -> list[Chosen]:
    return choose(trial.expected(), settings, jobs, ())


def at_random(trial: Trial, jobs: int, rng: np.random.Generator) -> list[Expected]:
    """Take both ends, then any."""
    left = [row for row in trial.rows if not row.has_job]
    ends = [row for row in left if row.x in (0.0, 1.0)]
    rest = [row for row in left if row.x not in (0.0, 1.0)]
    drawn = [rest[k] for k in rng.permutation(len(rest))]
    return [*ends, *drawn][:jobs]


RULES: dict[str, tuple[Rule, bool]] = {
    "learn": (by_learn, True),
    "lowest": (by_lowest, False),
    "random": (at_random, False),
}


@app.command("choose")
def choose_(folder: Path) -> None:
    """Compare the rules on a search that is done."""
    energies = truth()
    with read_run(folder) as findings:
        rows, host = _rows(findings, energies), findings.host
    document = {"relaxed": len(rows), "rules": {}, "machine": describe_machine(("numpy",))}
    for name, (rule, correct) in RULES.items():
        seeds = range(SEEDS) if rule is at_random else (0,)
        document["rules"][name] = [
            _course(Trial(host, list(rows), energies, correct), rule, seed) for seed in seeds
        ]
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    report()


def _rows(findings: Findings, energies: Mapping[str, tuple[float, float]]) -> list[Expected]:
    units = findings.run.n_formula_units
    return [
        Expected(
            RUN, row.id, "1x2x1", row.fingerprint, row.formula, row.x, units, row.energy_eV,
            row.energy_eV, math.nan, None, has_job=False,
        )
        for row in findings.ranked()
        if row.fingerprint in energies
    ]  # fmt: skip


def _course(trial: Trial, rule: Rule, seed: int) -> dict[str, object]:
    """Return what a rule has found after each round."""
    rng, minima, units = np.random.default_rng(seed), trial.minima(), trial.host.n_formula_units
    table = hull_of([(x, energy / units) for x, energy in trial.energies.values()])
    rounds: list[dict[str, object]] = []
    done = None
    while len(trial.computed) < min(MOST, len(trial.rows)):
        trial.compute(rule(trial, JOBS, rng))
        known = trial.computed
        found = len(minima & {row.fingerprint for row in known})
        if found == len(minima) and done is None:
            done = len(known)
        dft = hull_of([(row.x, (row.dft_eV or 0) / units) for row in known])
        expected = [(row.x, row.expected_per_fu) for row in trial.expected().candidates]
        rounds.append(
            {
                "jobs": len(known),
                "minima": found,
                "hull_error_meV_per_fu": _milli(hull_error(dft, table)),
                "expected_hull_error_meV_per_fu": _milli(hull_error(hull_of(expected), table)),
            }
        )
    return {"seed": seed, "all_minima_after": done, "rounds": rounds}


def _milli(value: float | None) -> float | None:
    return None if value is None else round(1000 * value, 2)


_HEAD = (
    "{} candidates of NaxFePO4, 1x2x1, relaxed with plain CHGNet, held; chgnet-nafepo4 in the "
    "place of DFT; no training. Errors are in meV/f.u. after 8, 16, 24 and 40 jobs: largest "
    "deviations from the hull of the whole table."
)
_COLUMNS = ("rule", "jobs until all nine minima", "hull of DFT results", "expected hull")


@app.command()
def report() -> None:
    """Write the tables."""
    document = json.loads(RESULTS.read_text())
    lines = [
        _HEAD.format(document["relaxed"]),
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---|---:|---:|---:|",
    ]
    for name, courses in document["rules"].items():
        ends = sorted(one["all_minima_after"] or math.inf for one in courses)
        median = ends[len(ends) // 2]
        told = f"more than {MOST}" if math.isinf(median) else str(median)
        lines.append(
            f"| {name} | {told} | {_at(courses, 'hull')} | {_at(courses, 'expected_hull')} |"
        )
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")
    typer.echo("\n".join(lines))


def _at(courses: Sequence[Mapping[str, object]], key: str) -> str:
    """Return the medians over seeds of an error after some numbers of jobs."""
    told = []
    for jobs in (8, 16, 24, 40):
        values = [
            one[f"{key}_error_meV_per_fu"]
            for course in courses
            for one in course["rounds"]  # type: ignore[attr-defined]
            if one["jobs"] == jobs
        ]
        told.append(f"{np.median(values):.1f}" if values else "-")
    return ", ".join(told)


if __name__ == "__main__":
    app()
