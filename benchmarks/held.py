"""Charge order held in potentials that were trained on elements only.

All 16 decorations of 28-atom NaxFePO4 are relaxed, cell included, from undistorted sites, rattled
ten times by 0.05 Å: plain, held by moments, held by bonds, with stand-ins for Fe3+, and by the
trained default, which has seen these decorations. Which order comes out is read by bond valence
sums and by the moments of plain CHGNet, split between the end members, never by labels.
SevenNet cannot live beside mace-torch (other versions of e3nn): it gets an environment of its own.

usage: held.py relax METHOD [--rattles 10]     plain, moments, bonds, ga, sc, al, default,
                                               sevennet, sevennet-bonds
       held.py robustness [--only TEXT]        stiffness, hinge, larger rattle, the other's geometry
       held.py cost                            a held call against a plain one, side by side
       held.py minima METHOD [--most N]        where the nine minima of 1x2x1 rank: moments, bonds,
                                               sevennet-bonds; goes on where it was stopped
       held.py environment                     the one of SevenNet, in build/sevennet
       held.py report [--output benchmarks/results]
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import held_minima
import numpy as np
import typer
from ase import Atoms
from machine import describe_machine

from gasearch.allocator import keep_freed_memory
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.potentials.contract import Batch, Potential
from gasearch.potentials.held.hold import STIFFNESS, held_ranges
from gasearch.potentials.held.potential import held
from gasearch.potentials.held.valence import BondReader, bond_lengths
from gasearch.potentials.registry import load_potential
from gasearch.relax.audit import FUSED
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.calibration import Calibration, calibrate, with_hold
from gasearch.relax.geometry import charge_labels, closest_pair, redox_sites
from gasearch.relax.relaxed import Relaxed

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data" / "nafepo4-pbeu" / "train.xyz"
RELAXED = ROOT / "build" / "held"
SEVENNET = ROOT / "build" / "sevennet"
RATTLE, FAR = 0.05, 0.15  # Å
STAND_INS = {"ga": "Ga", "sc": "Sc", "al": "Al"}
METHODS = ("plain", "moments", "bonds", *STAND_INS, "default", "sevennet", "sevennet-bonds")
STIFFNESSES = (0.1, 0.3, 1.0, 3.0, 10.0)  # of the default
HINGES = (0.1, 0.2, 0.3, 0.4)
PACKAGES = ("gasearch", "torch", "chgnet", "numpy")
HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Start = tuple[str, Decoration]


@app.command()
def relax(method: str, rattles: int = 10, output: Path = RELAXED) -> None:
    """Relax all decorations by one method."""
    if method not in METHODS:
        raise typer.BadParameter(f"expected one of {', '.join(METHODS)}")
    if "sevennet" in method and importlib.util.find_spec("sevenn") is None:
        _in_environment("relax", method, "--rattles", str(rattles), "--output", str(output))
        return
    keep_freed_memory()
    potential, _ = _potential(method)
    rows: list[dict[str, Any]] = []
    for k in range(rattles):
        rows += _relaxed(potential, [(name, d, _start(d, k)) for name, d in starts()], k)
        _write(output / f"{method}.json", rows)
        typer.echo(f"{method}: rattle {k + 1} of {rattles}", err=True)


@app.command()
def robustness(only: str = "", output: Path = RELAXED) -> None:
    """Relax x = 1/2 by CHGNet with other stiffnesses and hinges, and all from worse starts.

    Rows that are there already stay; `--only` names a part of those to do, such as "0.15".
    """
    keep_freed_memory()
    path = output / "robustness.json"
    found: dict[str, Any] = _load(path) if path.exists() else {}
    for name, rows in _hard_cases():
        if only in name and name not in found:
            found[name] = rows()
            _write(path, found)
            typer.echo(name, err=True)


def _hard_cases() -> Iterator[tuple[str, Callable[[], list[dict[str, Any]]]]]:
    """Yield what is tried, by name, with what relaxes it."""
    plain = load_potential("chgnet")
    half = [(name, d) for name, d in starts() if d.x == 0.5]
    yield f"plain, rattled by {FAR} Å", partial(_from_far, plain)
    for by in ("moments", "bonds"):
        known = calibrate(HOST, plain, by)
        for factor in STIFFNESSES:
            hold = replace(known.hold, stiffness=factor * STIFFNESS[by])
            yield f"{by}, stiffness {hold.stiffness:g}", partial(_rows_of, held(plain, hold), half)
        for hinge in HINGES:
            hold = replace(known.hold, ranges=held_ranges(by, known.values[by], hinge))
            yield f"{by}, hinge {hinge:g}", partial(_rows_of, held(plain, hold), half)
        potential = held(plain, known.hold)
        yield f"{by}, rattled by {FAR} Å", partial(_from_far, potential)
        yield f"{by}, from the other order", partial(_from_others, potential)


@app.command()
def cost(repeats: int = 40) -> None:
    """Print the time of a held evaluation over that of a plain one, alternately measured."""
    plain = load_potential("chgnet")
    potentials = {"plain": plain}
    for by in ("moments", "bonds"):
        potentials[by] = held(plain, calibrate(HOST, plain, by).hold)
    batch = Batch.from_atoms([_start(d, 0) for _, d in starts() if d.x == 0.5][:1])
    times: dict[str, list[float]] = {name: [] for name in potentials}
    for _ in range(repeats):
        for name, potential in potentials.items():
            began = time.perf_counter()
            potential.evaluate(batch)
            times[name].append(time.perf_counter() - began)
    ratios = {n: float(np.median(t) / np.median(times["plain"])) for n, t in times.items()}
    _write(RELAXED / "cost.json", ratios)
    typer.echo(json.dumps(ratios))


@app.command()
def minima(method: str, most: int = 1000, output: Path = RELAXED) -> None:
    """Relax the decorations of the 1x2x1 table, the lowest of each composition first."""
    if method not in ("moments", "bonds", "sevennet-bonds"):
        raise typer.BadParameter("expected moments, bonds or sevennet-bonds")
    if "sevennet" in method and importlib.util.find_spec("sevenn") is None:
        _in_environment("minima", method, "--most", str(most), "--output", str(output))
        return
    keep_freed_memory()
    _, known = _potential(method)
    if known is None:
        raise typer.BadParameter(f"{method} is not held")
    potential, reader = with_hold(load_potential(_name(method)), known.to_json(), "own")
    path = output / f"minima-{method}.jsonl"
    held_minima.relax_tabulated(potential, reader, path, most, lambda t: typer.echo(t, err=True))


@app.command()
def environment() -> None:
    """Make the environment of SevenNet; needs the package registry."""
    python = SEVENNET / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(SEVENNET)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*install, "torch"], check=True)
    subprocess.run([*install, "--editable", str(ROOT), "pymatgen"], check=True)
    without = [part for part in install if part not in ("-c", str(ROOT / "constraints.txt"))]
    subprocess.run([*without, "sevenn", "torch==2.13.0"], check=True)


@app.command()
def report(
    output: Annotated[Path | None, typer.Option(help="Folder for held.*.")] = None,
    source: Path = RELAXED,
) -> None:
    """Summarise what was relaxed; what was not relaxed here stays as it was reported."""
    reader = _Reader()
    before = _load(output / "held.json") if output and (output / "held.json").exists() else {}
    methods = {m: _load(source / f"{m}.json") for m in METHODS if (source / f"{m}.json").exists()}
    new = {name: _summary(rows, reader) for name, rows in methods.items()}
    known = before.get("methods", {}) | new
    found = {name: known[name] for name in METHODS if name in known}
    document: dict[str, Any] = {**before, "methods": found, "machine": describe_machine(PACKAGES)}
    if (source / "robustness.json").exists():
        tried = _load(source / "robustness.json")
        hard = {name: _summary(rows, reader) for name, rows in tried.items()}
        document["robustness"] = hard | before.get("robustness", {}) | hard
    if (source / "cost.json").exists():
        document["cost"] = _load(source / "cost.json")
    lines_of = {m: source / f"minima-{m}.jsonl" for m in METHODS}
    begun = {m: path for m, path in lines_of.items() if held_minima.read_lines(path)}
    ranked = {m: held_minima.ranks(path) for m, path in begun.items()}
    if ranked:
        document["minima"] = document.get("minima", {}) | ranked
    text = _page(document)
    if output is not None:
        _write(output / "held.json", document)
        (output / "held.md").write_text(text, encoding="utf-8")
        _plot(found, output / "held.png")
    typer.echo(text)


def starts() -> Iterator[Start]:
    """Yield all distinct decorations of the 28-atom cell, by their names in the data."""
    for composition in HOST.compositions:
        for k, text in enumerate(HOST.fingerprints(composition)):
            yield f"{composition.x:g}-{k}", Decoration.from_fingerprint(HOST, text)


def energies_of_dft() -> dict[str, float]:
    """Return the energy of the lowest DFT frame of each decoration, in eV per cell."""
    from gasearch.training.data.frames import lowest_frames
    from gasearch.training.data.reading import read_frames

    by_fingerprint = {
        Decoration.from_atoms(HOST, frame.atoms).fingerprint: frame.energy
        for frame in lowest_frames(read_frames([DATA]).frames)
    }
    return {name: by_fingerprint[d.fingerprint] for name, d in starts()}


def _potential(method: str) -> tuple[Potential, Calibration | None]:
    if method == "default":
        return load_potential("default"), None
    if method in STAND_INS:
        return load_potential("chgnet", species={"Fe3+": STAND_INS[method]}), None
    plain = load_potential(_name(method))
    if method in ("plain", "sevennet"):
        return plain, None
    known = calibrate(HOST, plain, "bonds" if "bonds" in method else "moments")
    for line in known.in_words():
        typer.echo(line, err=True)
    return held(plain, known.hold), known


def _name(method: str) -> str:
    return f"{Path(__file__).resolve()}:sevennet" if "sevennet" in method else "chgnet"


def sevennet() -> Any:
    """Return SevenNet-0, whose weights come with its package (MIT)."""
    from sevenn.calculator import SevenNetCalculator

    return SevenNetCalculator("7net-0", device="cpu")


def _start(decoration: Decoration, rattle: int, amplitude: float = RATTLE) -> Atoms:
    atoms = decoration.to_atoms()
    rng = np.random.default_rng([11, rattle])
    atoms.positions += rng.normal(0.0, amplitude, atoms.positions.shape)
    return atoms


def _rows_of(
    potential: Potential, chosen: Sequence[Start] | Iterator[Start]
) -> list[dict[str, Any]]:
    return _relaxed(potential, [(name, d, _start(d, 0)) for name, d in chosen], 0)


def _from_far(potential: Potential) -> list[dict[str, Any]]:
    """Relax all orders twice from starts rattled by 0.15 Å."""
    rows = []
    for n in range(2):
        rows += _relaxed(potential, [(name, d, _far_start(d, n)) for name, d in starts()], n)
    return rows


def _far_start(decoration: Decoration, n: int) -> Atoms:
    """Return the n-th start of a large rattle in which no atoms are on top of each other.

    Now and then one puts an O within 1.04 Å of its P: the audit calls such a crystal broken,
    whatever relaxes it.
    """
    drawn = (_start(decoration, k, FAR) for k in itertools.count())
    sound = (atoms for atoms in drawn if closest_pair(atoms)[3] > FUSED)
    return next(itertools.islice(sound, n, None))


def _from_others(potential: Potential) -> list[dict[str, Any]]:
    """Relax each order of x = 1/2 from the relaxed geometry of the next with the same ions."""
    half = [(name, d) for name, d in starts() if d.x == 0.5]
    own = {
        name: relaxed.atoms
        for (name, _), (_, relaxed) in zip(
            half, _run(potential, [_start(d, 0) for _, d in half]), strict=True
        )
    }
    ions = {name: d.on(HOST.sublattices[0]).tobytes() for name, d in half}
    begun = []
    for name, decoration in half:
        other = next((o for o in own if o != name and ions[o] == ions[name]), None)
        if other is not None:
            atoms = decoration.to_atoms()
            atoms.set_cell(own[other].cell)
            atoms.positions = own[other].positions
            begun.append((name, decoration, atoms))
    return _relaxed(potential, begun, 0)


def _run(potential: Potential, atoms: Sequence[Atoms]) -> list[tuple[int, Relaxed]]:
    found = BatchRelaxer(potential).relax(enumerate(atoms))
    return sorted(found, key=lambda pair: pair[0])


def _relaxed(
    potential: Potential, begun: Sequence[tuple[str, Decoration, Atoms]], rattle: int
) -> list[dict[str, Any]]:
    found = _run(potential, [atoms for _, _, atoms in begun])
    rows = []
    for (name, decoration, _), (_, relaxed) in zip(begun, found, strict=True):
        ending = potential.evaluate(Batch.from_atoms([relaxed.atoms], potential.device))
        penalty = 0.0 if ending.penalties is None else float(ending.penalties[0])
        rows.append(
            {
                "name": name,
                "x": decoration.x,
                "rattle": rattle,
                "energy": relaxed.energy,
                "penalty": penalty,
                "n_calls": relaxed.n_calls,
                "converged": relaxed.converged,
                "volume": relaxed.atoms.cell.volume,
                "symbols": str(relaxed.atoms.symbols),
                "charges": charge_labels(relaxed.atoms).tolist(),
                "cell": relaxed.atoms.cell.array.tolist(),
                "positions": relaxed.atoms.positions.tolist(),
            }
        )
    return rows


class _Reader:
    """Both readers, split in the middle between the relaxed ends of plain CHGNet."""

    def __init__(self) -> None:
        self._chgnet = load_potential("chgnet")
        known = calibrate(HOST, self._chgnet, "moments")
        self._middle = {by: float(np.mean(list(v.values()))) for by, v in known.values.items()}
        self._bonds = BondReader(bond_lengths(["Fe"], ["O"]), {})
        self.dft = energies_of_dft()

    def read(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with what both readers say of its geometry."""
        atoms = Atoms(row["symbols"], row["positions"], cell=row["cell"], pbc=True)
        atoms.set_initial_charges(row["charges"])
        sites = redox_sites(atoms)
        is_oxidised = charge_labels(atoms)[sites] == 3
        moments = self._chgnet.evaluate(Batch.from_atoms([atoms])).moments
        sums = self._bonds.read(atoms)
        by = {
            "moments": np.abs(np.asarray(moments))[sites] > self._middle["moments"],
            "bonds": sums[sites] > self._middle["bonds"],
        }
        kept = {f"kept_by_{k}": bool(np.array_equal(v, is_oxidised)) for k, v in by.items()}
        return {**row, **kept, "dft": self.dft[row["name"]]}


def _summary(rows: Sequence[dict[str, Any]], reader: _Reader) -> dict[str, Any]:
    read = [reader.read(row) for row in rows]
    mixed = [row for row in read if 0 < row["x"] < 1]
    residuals = [1000 * row["penalty"] for row in mixed]
    return {
        "n_relaxed": len(read),
        "kept_by_moments": float(np.mean([row["kept_by_moments"] for row in mixed])),
        "kept_by_bonds": float(np.mean([row["kept_by_bonds"] for row in mixed])),
        "order_kendall_tau": _tau(read),
        "n_calls": float(np.mean([row["n_calls"] for row in read])),
        "converged": float(np.mean([row["converged"] for row in read])),
        "residual_meV_median": float(np.median(residuals)),
        "residual_meV_max": float(np.max(residuals)),
        "share_without_residual": float(np.mean([r < 0.5 for r in residuals])),
        "lowest_half_meV_per_fu": _lowest_half(read),
        "volume_A3_max": float(np.max([row["volume"] for row in read])),
    }


def _tau(rows: Sequence[dict[str, Any]]) -> float | None:
    """Return Kendall's tau-b of the mean energies of the orders at x = 1/2 against DFT."""
    from scipy.stats import kendalltau

    half = [row for row in rows if row["x"] == 0.5]
    names = sorted({row["name"] for row in half})
    if len(names) < 3:
        return None
    own = [np.mean([r["energy"] for r in half if r["name"] == name]) for name in names]
    true = [next(r["dft"] for r in half if r["name"] == name) for name in names]
    tau = float(kendalltau(np.round(own, 4), true).statistic)
    return None if math.isnan(tau) else tau


def _lowest_half(rows: Sequence[dict[str, Any]]) -> float | None:
    """Return the lowest formation energy at x = 1/2, in meV per formula unit."""
    lowest = {x: min((r["energy"] for r in rows if r["x"] == x), default=None) for x in (0, 0.5, 1)}
    if None in lowest.values():
        return None
    return float(1000 / 4 * (lowest[0.5] - (lowest[0] + lowest[1]) / 2))  # type: ignore[operator]


_COLUMNS = {
    "n_relaxed": ("relaxed", "{:.0f}"),
    "kept_by_moments": ("kept, by moments", "{:.1%}"),
    "kept_by_bonds": ("by bonds", "{:.1%}"),
    "order_kendall_tau": ("tau, x = 1/2", "{:.2f}"),
    "n_calls": ("calls", "{:.1f}"),
    "converged": ("converged", "{:.0%}"),
    "share_without_residual": ("penalty below 0.5 meV", "{:.0%}"),
    "residual_meV_max": ("largest, meV/cell", "{:.1f}"),
    "lowest_half_meV_per_fu": ("lowest E_f at 1/2, meV/f.u.", "{:.0f}"),
}


def _page(document: dict[str, Any]) -> str:
    lines = [
        "# Charge order held in potentials without training",
        "",
        "All 16 decorations of 28-atom NaxFePO4 from undistorted, rattled sites; orders that were",
        "kept are counted over the 14 with both Fe2+ and Fe3+. DFT: -50 meV/f.u. at x = 1/2.",
        "",
        *_table(document["methods"]),
    ]
    if "cost" in document:
        told = ", ".join(f"{n} {r:.2f}" for n, r in document["cost"].items())
        lines += ["", f"Time of an evaluation over that of plain CHGNet, one 26-atom cell: {told}."]
    if "robustness" in document:
        lines += ["", "## Robustness, CHGNet", "", *_table(document["robustness"])]
    if "minima" in document:
        lines += ["", *held_minima.page(document["minima"])]
    return "\n".join(lines) + "\n"


def _table(found: dict[str, dict[str, Any]]) -> list[str]:
    heads = [head for head, _ in _COLUMNS.values()]
    lines = ["| method | " + " | ".join(heads) + " |", "|---" + "|---:" * len(heads) + "|"]
    for name, values in found.items():
        cells = [
            "-" if values[key] is None else form.format(values[key])
            for key, (_, form) in _COLUMNS.items()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _plot(found: dict[str, dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), sharey=True)
    names = list(found)
    for shift, key in ((-0.2, "bonds"), (0.2, "moments")):
        shares = [100 * found[name][f"kept_by_{key}"] for name in names]
        left.barh(np.arange(len(names)) + shift, shares, height=0.38, label=f"read by {key}")
    left.set(xlabel="charge orders kept (%)", yticks=range(len(names)), yticklabels=names)
    left.invert_yaxis()
    left.legend(fontsize=8)
    right.barh(range(len(names)), [found[n]["order_kendall_tau"] or 0 for n in names], height=0.6)
    right.set(xlabel="Kendall's tau against DFT, x = 1/2", xlim=(0, 1))
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _in_environment(*words: str) -> None:
    python = SEVENNET / "bin" / "python"
    if not python.exists():
        raise typer.BadParameter("SevenNet has no environment yet: held.py environment")
    subprocess.run([str(python), str(Path(__file__).resolve()), *words], check=True)


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
