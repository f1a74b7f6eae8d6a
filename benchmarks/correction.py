"""The hull of a held potential, corrected by few DFT energies, against their number.

A case is a table of orders with energies of the potential and of DFT, all of them known. DFT
energies are revealed one by one in the order in which a user would ask for them: both ends, the
lowest predicted of each x, then the least certain near the hull; where x may be taken in any order,
a seed decides. After each, the lowest formation energy at each x and the hull are compared with
what all DFT energies say. Without a correction, the potential's ranking decides what is asked for,
and the hull is that of the DFT energies alone.

usage: correction.py measure [--output benchmarks/results]  all tables of benchmarks/tables/held-*
       correction.py table NAME RUN        from a run folder and its DFT jobs, or the shipped data
       correction.py small NAME            from held.py's relaxations of 1x2x1, the trained model
                                           standing for DFT
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import held_minima
import numpy as np
import typer
from machine import describe_machine
from numpy.typing import NDArray

from gasearch.analysis.findings import Findings
from gasearch.analysis.hull import lower_hull
from gasearch.crystal.chemistry import Chemistry
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.learning.expected.correction import Corrected, Correction, fit_correction
from gasearch.run.folder import RunFolder

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "benchmarks" / "tables"
DATA = ROOT / "data" / "nafepo4-pbeu" / "train.xyz"
RELAXED = ROOT / "build" / "held" / "minima-moments.jsonl"
NEAR = 0.05  # eV/f.u. above the lowest at one x
AS_LOW = 2e-4  # eV/f.u.: orders that close are as low as each other
SEEDS = 5
MOST = 28

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Case:
    """A table: orders with both energies, of the whole cell, in eV."""

    name: str
    title: str
    host: Host
    occupations: NDArray[np.uint8]
    x: Floats
    potential: Floats
    dft: Floats

    def __len__(self) -> int:
        return len(self.x)

    @property
    def ends(self) -> Integers:
        """Lowest orders of the potential at both ends."""
        return np.array([self._lowest(self.x.min()), self._lowest(self.x.max())])

    def _lowest(self, x: float) -> int:
        here = np.flatnonzero(self.x == x)
        return int(here[np.argmin(self.potential[here])])

    def formation(self, energies: Floats) -> Floats:
        """Return (n,) in eV/f.u., against the lowest energies at both ends; NaN stays."""
        low, high = self.x.min(), self.x.max()
        per_fu = energies / self.host.n_formula_units
        ends = [np.nanmin(per_fu[self.x == low]), np.nanmin(per_fu[self.x == high])]
        return np.asarray(per_fu - np.interp(self.x, [low, high], ends))


def read_case(path: Path) -> Case:
    """Return the case of a table; its first line says what it is."""
    lines = path.read_text(encoding="utf-8").splitlines()
    about = json.loads(lines[0].removeprefix("# "))
    host = Host.build(builtin_host(about["host"]), about["supercell"])
    rows = list(csv.DictReader(lines[1:]))
    occupations = [Decoration.from_fingerprint(host, r["fingerprint"]).occupation for r in rows]
    return Case(
        path.stem,
        about["title"],
        host,
        np.array(occupations),
        np.array([float(r["x"]) for r in rows]),
        np.array([float(r["potential_eV"]) for r in rows]),
        np.array([float(r["dft_eV"]) for r in rows]),
    )


class Guess(NamedTuple):
    """What is thought of all orders after some DFT energies: formation energies in eV/f.u."""

    formation: Floats
    sigma: Floats
    correction: Correction


def corrected(case: Case, known: Sequence[int]) -> Guess:
    """Return the guess of the correction; DFT energies stay as they are."""
    dft = np.full(len(case), np.nan)
    dft[list(known)] = case.dft[list(known)]
    correction = fit_correction(case.host, case.occupations, case.potential, dft)
    found: Corrected = correction.predict(case.occupations, case.potential)
    mean = np.where(np.isnan(dft), found.mean_eV, dft)
    return Guess(case.formation(mean), found.sigma_eV / case.host.n_formula_units, correction)


def asked_next(case: Case, known: Sequence[int], guess: Guess, rng: np.random.Generator) -> int:
    """Return the order that deserves DFT next: the lowest predicted, then the least certain."""
    lowest = {x: _argmin(guess.formation, case.x == x) for x in np.unique(case.x)}
    new = [n for n in lowest.values() if n not in known]
    if new:
        return int(rng.choice(new))
    floor = np.array([guess.formation[lowest[x]] for x in case.x])
    left = np.setdiff1d(np.arange(len(case)), known)
    near = left[guess.formation[left] - floor[left] < NEAR]
    if len(near):
        return int(near[np.argmax(guess.sigma[near])])
    return int(left[np.argmin(guess.formation[left] - floor[left])])


def by_rank(case: Case, rng: np.random.Generator) -> list[int]:
    """Return all orders as the potential's ranking asks for them: rank 1 at each x, rank 2 ..."""
    rank = np.empty(len(case), dtype=int)
    for x in np.unique(case.x):
        here = np.flatnonzero(case.x == x)
        rank[here[np.argsort(case.potential[here], kind="stable")]] = np.arange(len(here))
    order = np.lexsort((rng.random(len(case)), rank))
    return [*case.ends.tolist(), *(n for n in order.tolist() if n not in case.ends)]


def _argmin(values: Floats, where: NDArray[np.bool_]) -> int:
    here = np.flatnonzero(where)
    return int(here[np.nanargmin(values[here])])


def lowest_by_x(case: Case, formation: Floats) -> Floats:
    """Return (n_x,) lowest formation energies; on the hull of the others where none is known."""
    shares = np.unique(case.x)
    here = [formation[case.x == x] for x in shares]
    lowest = np.array([np.nan if np.isnan(v).all() else np.nanmin(v) for v in here])
    known = ~np.isnan(lowest)
    return np.where(known, lowest, np.interp(shares, *lower_hull(shares[known], lowest[known])))


def scored(case: Case, formation: Floats) -> dict[str, float]:
    """Return how far off a set of formation energies is, in meV/f.u., from all of DFT."""
    true = case.formation(case.dft)
    shares, best = np.unique(case.x), lowest_by_x(case, true)
    off = np.abs(lowest_by_x(case, formation) - best)[1:-1]
    hulls = [
        np.interp(shares, *lower_hull(shares, lowest_by_x(case, f))) for f in (true, formation)
    ]
    right = []
    for x, value in zip(shares[1:-1], best[1:-1], strict=True):
        here = case.x == x
        is_known = not np.isnan(formation[here]).all()
        right.append(is_known and true[_argmin(formation, here)] - value < AS_LOW)
    return {
        "largest": 1000 * float(off.max()),
        "mean": 1000 * float(off.mean()),
        "hull": 1000 * float(np.abs(hulls[0] - hulls[1]).max()),
        "right": float(np.mean(right)),
    }


def follow(case: Case, seed: int, most: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield after each DFT energy, from both ends on, what the correction then says."""
    rng = np.random.default_rng(seed)
    known = case.ends.tolist()
    while True:
        guess = corrected(case, known)
        left = np.setdiff1d(np.arange(len(case)), known)
        missed = (guess.formation - case.formation(case.dft))[left]
        one = guess.correction
        yield (
            len(known),
            {
                **scored(case, guess.formation),
                "used": float(one.is_used),
                "left_out": 1000 * one.error_eV_per_fu,
                "left_out_z": (
                    one.left_out_error_eV_per_fu / one.left_out_sigma_eV_per_fu
                ).tolist(),
                "untried": 1000 * float(np.sqrt(np.mean(missed**2))) if len(left) else float("nan"),
                "z": (missed / guess.sigma[left]).tolist(),
                "scale": one.scale[0],
            },
        )
        if len(known) >= most or not len(left):
            return
        known.append(asked_next(case, known, guess, rng))


def follow_ranking(case: Case, seed: int, most: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the same of DFT energies alone, asked for by the potential's ranking."""
    order = by_rank(case, np.random.default_rng(seed))
    for n in range(2, min(most, len(case)) + 1):
        dft = np.full(len(case), np.nan)
        dft[order[:n]] = case.dft[order[:n]]
        yield n, scored(case, case.formation(dft))


Follow = Callable[[Case, int, int], Iterator[tuple[int, dict[str, Any]]]]


def measured(case: Case) -> dict[str, Any]:
    """Return what both ways make of a case, by the number of DFT energies."""
    most = min(MOST, len(case))
    shares = np.unique(case.x)
    return {
        "title": case.title,
        "orders": len(case),
        "compositions": len(shares),
        "without": scored(case, case.formation(case.potential)),
        "x": shares.tolist(),
        "lowest_potential": (1000 * lowest_by_x(case, case.formation(case.potential))).tolist(),
        "lowest_dft": (1000 * lowest_by_x(case, case.formation(case.dft))).tolist(),
        "corrected": _over_seeds(follow, case, most),
        "ranking": _over_seeds(follow_ranking, case, most),
    }


def _over_seeds(way: Follow, case: Case, most: int) -> list[dict[str, Any]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for seed in range(SEEDS):
        for n, result in way(case, seed, most):
            found.setdefault(n, []).append(result)
    return [{"n": n, **_summary(results)} for n, results in sorted(found.items())]


def _summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for key, first in results[0].items():
        if isinstance(first, list):
            joined = np.concatenate([r[key] for r in results])
            summary[key] = _coverage(joined)
        else:
            value = float(np.median([r[key] for r in results]))
            summary[key] = None if np.isnan(value) else value
            if key == "used":
                summary[key] = float(np.mean([r[key] for r in results]))
    summary["largest_worst"] = float(np.max([r["largest"] for r in results]))
    return summary


def _coverage(normalised: Floats) -> dict[str, float] | None:
    if not len(normalised):
        return None
    return {
        "rms": float(np.sqrt(np.mean(normalised**2))),
        "within_1": float(np.mean(np.abs(normalised) < 1)),
        "within_2": float(np.mean(np.abs(normalised) < 2)),
        "n": len(normalised),
    }


_ABOUT = """\
# The hull of a held potential, corrected by few DFT energies

Energies in meV/f.u.; medians of five seeds, which decide in what order x is taken. After so many
DFT energies, asked for by the correction (both ends, the lowest predicted of each x, then the least
certain near it):

- largest, mean: how far the lowest formation energy at an x inside the range is from what all DFT
  energies say; hull: the same of the convex hull, at its worst x;
- right: x inside the range where the order predicted lowest is the lowest of DFT;
- untried: root mean square error of all orders without a DFT energy (in the end those far above
  the hull); left out: what cross-validation says of it; used: seeds where it is no worse than none;
- sigma: root mean square of errors over their standard deviations, and how many lie within one.

DFT alone: as many energies of what the potential ranks first at each x, then second, and so on;
nothing is predicted, and where an x has none, the hull of the others counts. Orders without a DFT
energy that kept them are not in the tables; of 1x2x1, 200 orders of 874 are, the lowest and others
at random."""
_SHOWN = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28)


def page(cases: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [_ABOUT]
    for case in cases.values():
        lines += ["", *_case_lines(case)]
    return "\n".join(lines) + "\n"


def _case_lines(case: dict[str, Any]) -> list[str]:
    alone = {row["n"]: row for row in case["ranking"]}
    lines = [
        f"## {case['title']}",
        "",
        f"{case['orders']} orders. {_alone(case['without'])}",
        "",
        "| x | " + " | ".join(f"{x:.3g}" for x in case["x"]) + " |",
        "|---|" + "---:|" * len(case["x"]),
        "| lowest, potential | " + " | ".join(f"{v:.0f}" for v in case["lowest_potential"]) + " |",
        "| lowest, DFT | " + " | ".join(f"{v:.0f}" for v in case["lowest_dft"]) + " |",
        "",
        f"| {' | '.join(_HEADS)} |",
        "|" + "---:|" * len(_HEADS),
        *(_row(row, alone[row["n"]]) for row in case["corrected"] if row["n"] in _SHOWN),
    ]
    every = _pooled([row["z"] for row in case["corrected"]])
    out = _pooled([row["left_out_z"] for row in case["corrected"]])
    lines += ["", f"Errors over sigma, all rows: untried {every}; left out {out}."]
    return lines


def _alone(score: dict[str, float]) -> str:
    return (
        f"The potential alone: largest {score['largest']:.0f}, mean {score['mean']:.0f}, "
        f"hull {score['hull']:.0f}, right {score['right']:.0%}."
    )


def _row(row: dict[str, Any], alone: dict[str, Any]) -> str:
    z = row["z"]
    cells = [
        f"{row['n']}",
        *(f"{row[key]:.0f}" for key in ("largest", "mean", "hull")),
        f"{row['right']:.0%}",
        *("-" if row[key] is None else f"{row[key]:.0f}" for key in ("untried", "left_out")),
        f"{row['used']:.0%}",
        "-" if z is None else f"{z['rms']:.2f}, {z['within_1']:.0%}",
        *(f"{alone[key]:.0f}" for key in ("largest", "mean", "hull")),
        f"{alone['right']:.0%}",
    ]
    return "| " + " | ".join(cells) + " |"


def _pooled(parts: Sequence[dict[str, float] | None]) -> str:
    known = [part for part in parts if part]
    n = np.array([part["n"] for part in known])
    rms = np.sqrt(np.average([part["rms"] ** 2 for part in known], weights=n))
    within = [np.average([part[key] for part in known], weights=n) for key in _WITHIN]
    return f"{rms:.2f} in root mean square, {within[0]:.0%} within 1, {within[1]:.0%} within 2"


_HEADS = (
    *("DFT energies", "largest", "mean", "hull", "right", "untried", "left out", "used", "sigma"),
    *("DFT alone: largest", "mean", "hull", "right"),
)
_WITHIN = ("within_1", "within_2")

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def measure(output: Annotated[Path, typer.Option()] = ROOT / "benchmarks" / "results") -> None:
    """Follow all tables, and write correction.md and correction.json."""
    cases = {}
    for path in sorted(TABLES.glob("held-*.csv")):
        cases[path.stem] = measured(read_case(path))
        typer.echo("\n".join(_case_lines(cases[path.stem])))
    document = {"cases": cases, "machine": describe_machine(("gasearch", "numpy"))}
    (output / "correction.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (output / "correction.md").write_text(page(cases), encoding="utf-8")


@app.command()
def table(name: str, run: Path) -> None:
    """Write a table from a run folder: DFT energies of its jobs, or of the shipped frames."""
    with RunFolder(run).open_store(read_only=True) as store:
        findings = Findings(store)
        host, rows = findings.host, findings.ranked()
    dft = _of_jobs(run) or _of_frames(host)
    known = [(r, dft.get(r.id, dft.get(r.fingerprint))) for r in rows]
    kept = [(r.fingerprint, r.x, r.energy_eV, e) for r, e in known if e is not None]
    what = "DFT single points at its geometries" if _of_jobs(run) else "the shipped DFT frames"
    cell = "x".join(str(n) for n in host.matrix.diagonal())
    title = f"{Chemistry.of(host).formula(1.0)}, {cell}: held CHGNet, and {what}"
    _write(name, host, title, kept)


def _of_jobs(run: Path) -> dict[int | str, float]:
    found = [json.loads(p.read_text("utf-8")) for p in run.glob("dft/*/status.json")]
    return {
        one["candidate"]: one["energy_eV"]
        for one in found
        if one["state"] == "collected" and one["charge_order"] == "kept"
    }


def _of_frames(host: Host) -> dict[int | str, float]:
    """Return the lowest frame of each order, strained ones left out: not all orders have them."""
    import ase.io

    lowest: dict[int | str, float] = {}
    for atoms in ase.io.iread(DATA, ":"):
        if not atoms.info["tag"].startswith("strain"):
            key = Decoration.from_atoms(host, atoms, tolerance=2.5).fingerprint
            lowest[key] = min(lowest.get(key, np.inf), atoms.get_potential_energy())
    return lowest


@app.command()
def small(name: str) -> None:
    """Write a table of 1x2x1: held CHGNet against the trained model, which stands for DFT."""
    found = {row["fingerprint"]: row for row in held_minima.read_lines(RELAXED)}
    rows = [
        (r["fingerprint"], r["x"], found[r["fingerprint"]]["energy"], r["energy"])
        for r in held_minima.tabulated()
        if r["fingerprint"] in found and found[r["fingerprint"]]["verdict"] == "ok"
    ]
    host = Host.build(builtin_host("nafepo4-olivine"), (1, 2, 1))
    _write(name, host, "NaFePO4, 1x2x1: held CHGNet, and the trained model in place of DFT", rows)


def _write(
    name: str, host: Host, title: str, rows: Sequence[tuple[str, float, float, float]]
) -> None:
    about = {
        "title": title,
        "host": host.declaration.name,
        "supercell": host.matrix.diagonal().tolist(),
    }
    lines = [f"# {json.dumps(about)}", "fingerprint,x,potential_eV,dft_eV"]
    for key, x, own, dft in sorted(rows, key=lambda row: (row[1], row[0])):
        lines.append(f"{key},{x:.12g},{own:.6f},{dft:.6f}")
    path = TABLES / f"held-{name}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    typer.echo(f"{path.name}: {len(rows)} orders")


if __name__ == "__main__":
    app()
