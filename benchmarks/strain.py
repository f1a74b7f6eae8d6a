"""Energy against strain, and relaxed volumes of the end members: what no stress label has taught.

The strained frames of the data are relaxed geometries scaled along axes, computed at constant
cutoff. Their energies, relative to the unstrained frame, are compared with each model's; and the
volumes that end members relax to, cell free, with the minima of the data's own isotropic scans
(337 Å^3 for Na4Fe4P4O16 and 284 Å^3 for Fe4P4O16).

usage: strain.py MODEL... [--json] [--output FOLDER]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from ase import Atoms
from machine import describe_machine

from gasearch.allocator import keep_freed_memory
from gasearch.potentials.contract import Potential
from gasearch.potentials.registry import load_potential
from gasearch.relax.ase_relaxer import ReferenceRelaxer
from gasearch.training.data.frames import Frame, by_decoration, lowest_frames
from gasearch.training.data.reading import read_frames
from gasearch.training.evaluation.predict import predict_energies
from gasearch.training.state import write_durably

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data" / "nafepo4-pbeu" / "train.xyz"
MINIMA = {"111-v0-0": 337.0, "111-v4-0": 284.0}  # Å^3 per cell
PACKAGES = ("gasearch", "torch", "chgnet", "mace-torch", "schnetpack", "numpy")
_SCAN = np.linspace(0.94, 1.05, 23)  # of each axis


def main(
    models: Annotated[list[str], typer.Argument(help="As in run.toml.")],
    as_json: Annotated[bool, typer.Option("--json")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for strain.*.")] = None,
) -> None:
    """Measure, and print a table."""
    keep_freed_memory()
    frames = read_frames([DATA]).frames
    found = {name: measure(load_potential(name), frames) for name in models}
    document = {"models": found, "machine": describe_machine(PACKAGES)}
    text = json.dumps(document, indent=1) + "\n"
    if output is not None:
        write_durably(output / "strain.json", text.encode())
        write_durably(output / "strain.md", (table(found) + "\n").encode())
        _plot(found, frames, output / "strain.png")
    typer.echo(text if as_json else table(found))


def measure(potential: Potential, frames: Sequence[Frame]) -> dict[str, Any]:
    """Return a model's errors under strain, its scans and its relaxed volumes."""
    errors, scans, volumes = [], {}, {}
    for name, group in by_decoration(frames).items():
        strained = [frame for frame in group if frame.tag.startswith("strain")]
        if not strained:
            continue
        base = lowest_frames(group)[0]
        errors += _errors(potential, base, strained)
        scans[name] = _scan(potential, base.atoms)
        if name in MINIMA:
            relaxed = ReferenceRelaxer(potential).relax_one(base.atoms)
            volume = float(relaxed.atoms.cell.volume)
            scanned = _minimum(np.array(scans[name]["volumes"]), np.array(scans[name]["energies"]))
            volumes[name] = {
                "relaxed_A3": volume,
                "scanned_A3": scanned,
                "data_A3": MINIMA[name],
                "error_percent": 100 * (volume / MINIMA[name] - 1),
                "verdict": relaxed.verdict,
            }
    return {
        "n_strained": len(errors),
        "strain_mae_meV_per_atom": 1000 * float(np.abs(errors).mean()),
        "volumes": volumes,
        "scans": scans,
    }


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return volumes and errors as Markdown."""
    lines = [
        "Energies of strained frames relative to the unstrained one, and volumes of end members",
        "relaxed cell free, in Å^3 per cell (minima of the data: NaFePO4 337, FePO4 284)",
        "",
        "| model | strained frames | meV/atom | NaFePO4 | % | FePO4 | % |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, one in found.items():
        told = [
            f"{one['volumes'][end]['relaxed_A3']:.1f} | {one['volumes'][end]['error_percent']:+.1f}"
            for end in MINIMA
        ]
        mean = one["strain_mae_meV_per_atom"]
        lines.append(f"| {name} | {one['n_strained']} | {mean:.2f} | {' | '.join(told)} |")
    return "\n".join(lines)


def _errors(potential: Potential, base: Frame, strained: Sequence[Frame]) -> list[float]:
    """Return errors of energies relative to the unstrained frame, in eV per atom."""
    own, *others = predict_energies(potential, [base.atoms, *(frame.atoms for frame in strained)])
    true = [float(frame.energy or 0) - float(base.energy or 0) for frame in strained]
    pairs = zip(others, true, strict=True)
    return [(energy - own - real) / len(base) for energy, real in pairs]


def _scan(potential: Potential, atoms: Atoms) -> dict[str, list[float]]:
    """Return volumes and energies of a crystal scaled alike along all axes."""
    scaled = []
    for factor in _SCAN:
        copy = atoms.copy()
        copy.set_cell(copy.cell.array * factor, scale_atoms=True)
        scaled.append(copy)
    energies = predict_energies(potential, scaled)
    return {
        "volumes": [float(copy.cell.volume) for copy in scaled],
        "energies": [float(energy) for energy in energies],
    }


def _minimum(volumes: np.ndarray[Any, Any], energies: np.ndarray[Any, Any]) -> float:
    """Return the volume of lowest energy, from a parabola through the three lowest points."""
    k = int(np.clip(energies.argmin(), 1, len(energies) - 2))
    a, b, _ = np.polyfit(volumes[k - 1 : k + 2], energies[k - 1 : k + 2], 2)
    return float(-b / (2 * a))


def _plot(found: Mapping[str, Mapping[str, Any]], frames: Sequence[Frame], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(MINIMA), figsize=(9, 3.6))
    groups = by_decoration(frames)
    for axis, name in zip(axes, MINIMA, strict=True):
        base = lowest_frames(groups[name])[0]
        points = [frame for frame in groups[name] if frame.tag.startswith("strain_iso")] + [base]
        true = [1000 * (float(f.energy or 0) - float(base.energy or 0)) for f in points]
        axis.plot([f.atoms.cell.volume for f in points], true, "ko", label="DFT")
        for model, one in found.items():
            scan = one["scans"][name]
            own = np.interp(base.atoms.cell.volume, scan["volumes"], scan["energies"])
            axis.plot(scan["volumes"], 1000 * (np.array(scan["energies"]) - own), label=model)
        axis.set(title=base.composition, xlabel="volume (Å$^3$ per cell)", ylabel="energy (meV)")
        axis.set_ylim(min(true) - 200, max(true) + 400)
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
