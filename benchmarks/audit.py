"""How often the audit of a charge order is wrong, on DFT frames whose order is known.

The order of each frame is read from its geometry by moments (CHGNet as its authors trained it) and
by bond lengths. Relaxed and strained frames have the order that they are labelled with: a reader
that says otherwise is wrong. Frames half-way to another order and beyond have a geometry that
belongs to the other one: there a reader should contradict the label.

usage: audit.py [--json] [--output FOLDER]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from charge_order import BOND
from machine import describe_machine

from gasearch.relax.audit import audit
from gasearch.relax.geometry import mean_bond_lengths
from gasearch.relax.moment_reader import chgnet_reader
from gasearch.training.data.frames import Frame
from gasearch.training.data.reading import read_frames
from gasearch.training.state import write_durably

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data" / "nafepo4-pbeu" / "train.xyz"
PACKAGES = ("gasearch", "torch", "chgnet", "numpy")


def main(
    as_json: Annotated[bool, typer.Option("--json")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for audit.*.")] = None,
) -> None:
    """Read all frames, and print how often the readers contradict the labels."""
    reader = chgnet_reader()
    groups: dict[str, list[Frame]] = {}
    for frame in read_frames([DATA]).frames:
        groups.setdefault(_kind(frame), []).append(frame)
    found = {kind: _contradicted(group, reader) for kind, group in sorted(groups.items())}
    document = {"frames": found, "machine": describe_machine(PACKAGES)}
    text, table = json.dumps(document, indent=1) + "\n", _table(found)
    if output is not None:
        write_durably(output / "audit.json", text.encode())
        write_durably(output / "audit.md", (table + "\n").encode())
    typer.echo(text if as_json else table)


def _kind(frame: Frame) -> str:
    if frame.hop is not None:
        return "half-way to another order, or beyond" if frame.hop.share >= 0.5 else "on the way"
    if "rattle" in frame.tag:
        return "rattled"
    return "strained" if frame.tag.startswith("strain") else "relaxed"


def _contradicted(frames: Sequence[Frame], reader: Any) -> dict[str, int]:
    """Return how many frames the readers find in another order than their labels say."""
    verdicts = [
        audit(frame.atoms, frame.atoms, reader.read(frame.atoms), reader.ranges).verdict
        for frame in frames
    ]
    return {
        "frames": len(frames),
        "moments": sum(verdict == "order_lost" for verdict in verdicts),
        "bonds": sum(_bonds_contradict(frame) for frame in frames),
    }


def _bonds_contradict(frame: Frame) -> bool:
    sites = frame.redox_sites
    short = mean_bond_lengths(frame.atoms, sites) < BOND
    return not np.array_equal(short, frame.charges[sites] == 3)


def _table(found: dict[str, dict[str, int]]) -> str:
    lines = [
        "DFT frames whose label is contradicted by the geometry, as two readers see it",
        "",
        "| frames | number | by moments | by bonds |",
        "|---|---:|---:|---:|",
    ]
    for kind, one in found.items():
        lines.append(f"| {kind} | {one['frames']} | {one['moments']} | {one['bonds']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
