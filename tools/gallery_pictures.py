"""Pictures of docs/gallery.md: what the searches of runs/ found, one small PNG for each host.

python tools/gallery_pictures.py RUN_FOLDER... --output docs/images/gallery
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from ase.visualize.plot import plot_atoms
from PIL import Image

from gasearch.analysis.findings import Findings
from gasearch.display.plotting import new_figure
from gasearch.run.folder import RunFolder

VIEWS = {"olivine": "-90x,-90y,0z", "maricite": "-90x,-90y,0z", "p2": "0x,0y,0z"}
"""Down which axis: the rotation by the last word of the host's name; others lie at a slant."""
SLANT = "-80x,15y,0z"
REDUCED, OXIDISED = (0.90, 0.62, 0.0), (0.0, 0.45, 0.70)  # orange, blue
PALE = {8: (1.0, 0.8, 0.8), 15: (0.75, 0.75, 0.75)}  # O and P
REPEATS = {"nanfm-o3": (2, 2, 1), "nacoo2-p2": (2, 2, 1)}
SHOWN = {"nafepo4-olivine": 2 / 3, "na2fesio4": 0.75, "nacoo2-p2": 0.5}
"""x of the picture; of other hosts the middle of the range."""


def shown(folder: RunFolder) -> tuple[str, Atoms]:
    """Return the host's name, and the lowest structure at the composition that is shown."""
    with folder.open_store() as store:
        findings = Findings(store)
        host = findings.host
        low, high = host.x_range
        x = SHOWN.get(host.declaration.name, (low + high) / 2)
        lowest: dict[float, int] = {}
        for row in sorted(findings.ranked(), key=lambda row: row.energy_eV):
            lowest.setdefault(row.x, row.id)
        number = lowest[min(lowest, key=lambda held: abs(held - x))]
        return host.declaration.name, store.relaxed(number).atoms


def colours(atoms: Atoms) -> np.ndarray:
    """Return (n_atoms, 3) colours; of an element in two charge states, by charge."""
    charges = atoms.get_initial_charges()
    found = jmol_colors[atoms.numbers].copy()
    for number, colour in PALE.items():
        found[atoms.numbers == number] = colour
    for number in set(atoms.numbers[charges > 1]):
        own = atoms.numbers == number
        if np.ptp(charges[own]):
            found[own] = REDUCED
            found[own & (charges > charges[own].min() + 0.5)] = OXIDISED
    return np.asarray(found)


def draw(name: str, atoms: Atoms, output: Path) -> None:
    """Write one picture."""
    figure = new_figure(3, 2.4)
    axes = figure.add_subplot()
    view = VIEWS.get(name.rpartition("-")[2], SLANT)
    atoms.wrap()
    atoms = atoms * REPEATS.get(name, (1, 1, 1))
    if name == "nacoo2-p2":  # one layer of Na above one of Co
        z = atoms.get_scaled_positions()[:, 2]
        atoms = atoms[(atoms.numbers != 8) & (z < 0.4)]  # type: ignore[assignment]
    radii = 0.45 * covalent_radii[atoms.numbers]
    plot_atoms(atoms, axes, rotation=view, radii=radii, colors=colours(atoms), show_unit_cell=2)
    axes.set_axis_off()
    path = output / f"{name}.png"
    figure.savefig(path, dpi=100)
    Image.open(path).convert("RGB").quantize(48).save(path, optimize=True)


def main(
    folders: list[Path], output: Annotated[Path, typer.Option()] = Path("docs/images/gallery")
) -> None:
    """Draw the lowest structure of each run folder."""
    output.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        draw(*shown(RunFolder(folder)), output)


if __name__ == "__main__":
    typer.run(main)
