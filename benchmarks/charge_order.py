"""The claim: charge-aware models keep the charge order when they relax, charge-blind ones lose it.

Every mixed decoration of the 28-atom cell starts from undistorted sites, rattled ten times, and is
relaxed, cell included, by the model of the cross-validation that has not seen it. Which order comes
out is read by bond lengths (mean Fe-O below 2.13 Å: Fe3+) and by an independent reader of moments
(CHGNet as its authors trained it, split at 4.15), never by the labels. On the lowest DFT frame of
each of the 16 decorations the bonds misread one of 64 sites, and the moments none.

usage: charge_order.py relax RECIPE [--models FOLDER] [--rattles 10] [--doubled 12]
       charge_order.py report [--json] [--output FOLDER]
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from ase import Atoms
from machine import describe_machine

from gasearch.allocator import keep_freed_memory
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.potentials.contract import Batch
from gasearch.potentials.networks.checkpoint import load_checkpoint
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.relax.ase_relaxer import ReferenceRelaxer
from gasearch.relax.geometry import charge_labels, mean_bond_lengths, redox_sites
from gasearch.training.data.frames import Frame, lowest_frames
from gasearch.training.data.reading import read_frames
from gasearch.training.data.splitting import fold_names
from gasearch.training.state import write_durably

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data" / "nafepo4-pbeu" / "train.xyz"
MODELS = ROOT / "build" / "training"
RELAXED = ROOT / "build" / "charge_order"
BOND = 2.13  # Å: mean Fe-O, Fe3+ below and Fe2+ above
MOMENT = 4.15  # Bohr magnetons, of plain CHGNet: Fe3+ above and Fe2+ below
RATTLE = 0.05  # Å
PACKAGES = ("gasearch", "torch", "chgnet", "mace-torch", "schnetpack", "numpy")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Start:
    """A decoration and the model that relaxes it.

    Parameters
    ----------
    name
        In the data set, or "doubled-3".
    kind
        "unseen": by the model that has not seen it. "one model": all decorations by the model of
        fold 0, so that their energies can be compared. "doubled": random ones of 1x2x1.
    decoration
        Among its images the one whose working ions come first: equal orders have equal sites.
    fold
        Of the model.
    dft
        Energy of the lowest frame in eV per cell; None where there is none.
    """

    name: str
    kind: str
    decoration: Decoration
    fold: int
    dft: float | None


class Reader:
    """CHGNet as its authors trained it: blind to labels, a good reader of moments."""

    def __init__(self) -> None:
        from gasearch.potentials.registry import load_potential

        self.potential = load_potential("chgnet")

    def moments(self, atoms: Atoms) -> list[float]:
        """Return the moments of the redox sites, in Bohr magnetons."""
        found = self.potential.evaluate(Batch.from_atoms([atoms])).moments
        if found is None:
            raise RuntimeError("plain CHGNet gives no moments")
        return [abs(float(found[site])) for site in redox_sites(atoms)]


@app.command()
def relax(
    recipe: str,
    models: Path = MODELS,
    rattles: int = 10,
    doubled: Annotated[int, typer.Option(help="Random decorations of 1x2x1.")] = 12,
    output: Path = RELAXED,
) -> None:
    """Relax all starts with the models of a recipe's cross-validation; finished ones are kept."""
    keep_freed_memory()
    reader = Reader()
    target = output / f"{recipe}.json"
    rows = json.loads(target.read_text()) if target.exists() else []
    done = {(row["kind"], row["name"], row["rattle"]) for row in rows}
    counts = {"unseen": rattles, "one model": 2, "doubled": 1}
    for fold, group in groupby(starts(doubled), key=lambda start: start.fold):
        folder = models / recipe / f"fold{fold}"
        if not (folder / "model.json").exists():
            typer.echo(f"{recipe}: no model of fold {fold} yet", err=True)
            continue
        potential = load_checkpoint(folder)
        for start in group:
            n = counts[start.kind]
            missing = [k for k in range(n) if (start.kind, start.name, k) not in done]
            rows += [_relaxed(start, potential, reader, k) for k in missing]
            write_durably(target, (json.dumps(rows) + "\n").encode())
            typer.echo(f"{recipe} fold {fold} {start.kind} {start.name}", err=True)


@app.command()
def report(
    output: Annotated[Path | None, typer.Option(help="Folder for charge_order.*.")] = None,
    source: Path = RELAXED,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Summarise what was relaxed."""
    files = sorted(source.glob("*.json"))
    rows = {path.stem: [_read(row) for row in json.loads(path.read_text())] for path in files}
    found = {name: summary(group) for name, group in rows.items()}
    document = {"models": found, "machine": describe_machine(PACKAGES)}
    if output is not None:
        write_durably(
            output / "charge_order.json", (json.dumps(document, indent=1) + "\n").encode()
        )
        write_durably(output / "charge_order.md", (table(found) + "\n").encode())
        _plot(rows, found, output / "charge_order.png")
    typer.echo(json.dumps(document, indent=1) if as_json else table(found))


def starts(n_doubled: int, n_folds: int = 5) -> Iterator[Start]:
    """Yield what is relaxed, by the fold of the model."""
    frames = read_frames([DATA]).frames
    lowest = {frame.decoration: frame for frame in lowest_frames(frames)}
    host = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
    double = Host.build(builtin_host("nafepo4-olivine"), (1, 2, 1))
    folds = fold_names(frames, n_folds)
    for fold, names in enumerate(folds):
        for name in names:
            yield _start(name, "unseen", lowest[name], host, fold)
        if fold == 0:
            for name in sorted(name for names in folds for name in names):
                yield _start(name, "one model", lowest[name], host, fold)
            yield from _doubled(double, n_doubled)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what a recipe's relaxations show."""
    unseen, one_model, doubled = (
        [row for row in rows if row["kind"] == kind] for kind in ("unseen", "one model", "doubled")
    )
    return {
        "n_relaxed": len(unseen),
        "kept_by_bonds": _share(unseen, "kept_by_bonds"),
        "kept_by_moments": _share(unseen, "kept_by_moments"),
        "kept_by_decoration": _by_name(unseen),
        "n_doubled": len(doubled),
        "doubled_kept_by_bonds": _share(doubled, "kept_by_bonds"),
        "doubled_kept_by_moments": _share(doubled, "kept_by_moments"),
        "order_kendall_tau": ranking(unseen),
        "one_model_kendall_tau": ranking(one_model),
        "span_meV": span(one_model),
        "dft_span_meV": span([{**row, "energy": row["dft"]} for row in one_model]),
        "converged": _share(rows, "converged"),
        "n_calls": float(np.mean([row["n_calls"] for row in rows])) if rows else None,
    }


def ranking(rows: Sequence[dict[str, Any]]) -> float | None:
    """Return Kendall's tau-b of relaxed energies at x = 1/2 against DFT."""
    from scipy.stats import kendalltau

    half = [row for row in rows if abs(row["x"] - 0.5) < 1e-6]
    names = sorted({row["name"] for row in half})
    if len(names) < 3:
        return None
    found = [np.mean([row["energy"] for row in half if row["name"] == name]) for name in names]
    true = [next(row["dft"] for row in half if row["name"] == name) for name in names]
    tau = kendalltau(np.round(found, 4), true).statistic
    return None if np.isnan(tau) else float(tau)


def span(rows: Sequence[dict[str, Any]]) -> float | None:
    """Return the mean span of the energies of charge orders of one Na order and start, in meV."""
    groups: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        groups.setdefault((row["working_ions"], row["rattle"]), []).append(row["energy"])
    spans = [max(group) - min(group) for group in groups.values() if len(group) > 1]
    return 1000 * float(np.mean(spans)) if spans else None


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the summary as Markdown."""
    columns = {
        "n_relaxed": "relaxed",
        "kept_by_bonds": "order kept, by bonds",
        "kept_by_moments": "by moments",
        "doubled_kept_by_bonds": "1x2x1, by bonds",
        "doubled_kept_by_moments": "by moments",
        "order_kendall_tau": "tau, x = 1/2",
        "one_model_kendall_tau": "by one model",
        "span_meV": "span, meV",
        "n_calls": "calls",
    }
    lines = [
        "Relaxed from undistorted, rattled sites by models that have not seen the decoration",
        "",
        "| model | " + " | ".join(columns.values()) + " |",
        "|---" + "|---:" * len(columns) + "|",
    ]
    for name, values in found.items():
        told = (_told(key, values[key]) for key in columns)
        lines.append(f"| {name} | " + " | ".join(told) + " |")
    lines += [
        "",
        "By one model: of fold 0, which has seen most of them. Span: of the energies of the charge "
        "orders of one Na order from one start, per cell; DFT: "
        + ", ".join(sorted({_told("", v["dft_span_meV"]) for v in found.values()}))
        + " meV.",
    ]
    return "\n".join(lines)


def _plot(
    rows: dict[str, Sequence[dict[str, Any]]], found: dict[str, dict[str, Any]], path: Path
) -> None:
    """Draw relaxed energies against DFT at x = 1/2, and how often the order was kept."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8))
    for name in [name for name in ("chgnet", "chgnet-blind") if name in rows]:
        half = [r for r in rows[name] if r["kind"] == "one model" and abs(r["x"] - 0.5) < 1e-6]
        lowest = min(row["dft"] for row in half), min(row["energy"] for row in half)
        true, own = (
            [250 * (row[key] - low) for row in half]
            for key, low in zip(("dft", "energy"), lowest, strict=True)
        )
        left.plot(true, own, "o" if name == "chgnet" else "x", label=name)
    left.axline((0, 0), slope=1, color="0.7", lw=1)
    left.set(xlabel="DFT (meV/f.u.)", ylabel="relaxed by the model (meV/f.u.)", title="x = 1/2")
    left.legend()
    names = list(found)
    for shift, key, label in ((-0.2, "bonds", "by bond lengths"), (0.2, "moments", "by moments")):
        shares = [100 * (found[name][f"kept_by_{key}"] or 0) for name in names]
        right.barh(np.arange(len(names)) + shift, shares, height=0.38, label=label)
    right.set(xlabel="charge orders kept (%)", yticks=range(len(names)), yticklabels=names)
    right.invert_yaxis()
    right.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _start(name: str, kind: str, frame: Frame, host: Host, fold: int) -> Start:
    decoration = _first_image(Decoration.from_atoms(host, frame.atoms))
    return Start(name, kind, decoration, fold, frame.energy)


def _first_image(decoration: Decoration) -> Decoration:
    """Return the image whose working ions (the first sublattice) sit on the first sites."""
    images = [decoration.moved(k) for k in range(len(decoration.host.permutations))]
    return max(images, key=lambda image: image.occupation.tobytes())


def _doubled(host: Host, n: int) -> Iterator[Start]:
    mixed = host.compositions[1:-1]
    for k in range(n):
        rng = np.random.default_rng([7, k])
        decoration = Decoration.random(host, mixed[k % len(mixed)], rng)
        yield Start(f"doubled-{k}", "doubled", decoration, 0, None)


def _relaxed(
    start: Start, potential: NetworkPotential, reader: Reader, rattle: int
) -> dict[str, Any]:
    atoms = start.decoration.to_atoms()
    rng = np.random.default_rng([11, rattle])
    atoms.positions += rng.normal(0.0, RATTLE, atoms.positions.shape)
    found = ReferenceRelaxer(potential).relax_one(atoms)
    sites = redox_sites(atoms)
    labels = charge_labels(atoms)[sites]
    bonds = mean_bond_lengths(found.atoms, sites)
    moments = reader.moments(found.atoms)
    return {
        "name": start.name,
        "kind": start.kind,
        "fold": start.fold,
        "x": start.decoration.x,
        "working_ions": start.decoration.on(start.decoration.host.sublattices[0]).tobytes().hex(),
        "rattle": rattle,
        "energy": found.energy,
        "dft": start.dft,
        "labels": labels.tolist(),
        "bonds": np.round(bonds, 4).tolist(),
        "moments": np.round(moments, 4).tolist(),
        "verdict": found.verdict,
        "converged": found.converged,
        "n_calls": found.n_calls,
    }


def _read(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with what the two readers say."""
    oxidised = np.array(row["labels"]) == 3
    by_bonds, by_moments = np.array(row["bonds"]) < BOND, np.array(row["moments"]) > MOMENT
    return {
        **row,
        "kept_by_bonds": bool(np.array_equal(by_bonds, oxidised)),
        "kept_by_moments": bool(np.array_equal(by_moments, oxidised)),
    }


def _share(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    return float(np.mean([row[key] for row in rows])) if rows else None


def _by_name(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    names = sorted({row["name"] for row in rows})
    return {
        name: float(np.mean([row["kept_by_bonds"] for row in rows if row["name"] == name]))
        for name in names
    }


def _told(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if "kept" in key:
        return f"{100 * value:.0f} %"
    return f"{value:.2f}" if "tau" in key else f"{value:.0f}"


if __name__ == "__main__":
    app()
