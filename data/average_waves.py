"""Bring energies that were computed at a fixed cutoff to the average number of plane waves.

    python data/average_waves.py HOST FILE.xyz

HOST is a built-in one; a frame's `decoration` names its supercell (121-... is 1x2x1). Each energy
becomes energy - SLOPE * formula units * plane_wave_excess, as `[dft.gpaw] basis_correction` has it
for new jobs; the excess stays in the frame, so nothing is lost, and no frame is corrected twice.
"""

from __future__ import annotations

from pathlib import Path

import ase.io
import typer
from ase.calculators.singlepoint import SinglePointCalculator
from recompute import hosts_and_levels

from gasearch.dft.codes.gpaw import job_input
from gasearch.dft.codes.gpaw_job import plane_wave_excess
from gasearch.run.dft_section import DftSection, GpawSection

SLOPE = -16.2
"""eV per formula unit and logarithm of the number, at 450 eV: jobs of gasearch measure -16.2 for
NaFePO4, -16.0 for FePO4, -15.9 for Li1/2FePO4; two series of strains of LixFePO4 -16.4."""
_SECTION = DftSection(gpaw=GpawSection(grid_spacing=0.0))


def main(host: str, file: Path) -> None:
    """Correct the energies of a file, in place."""
    frames = ase.io.read(file, ":")
    if any("plane_wave_excess" in frame.info for frame in frames):
        raise typer.BadParameter(f"{file}: corrected already")
    places = hosts_and_levels(host, frames, _SECTION)
    for frame, (one, level) in zip(frames, places, strict=True):
        kpoints = job_input(frame, one, _SECTION, relax=False)["kpoints"]
        excess = plane_wave_excess(frame.cell.array, kpoints, _SECTION.gpaw.cutoff_eV)
        results = dict(frame.calc.results)
        results["energy"] -= SLOPE * frame.symbols.count("P") * excess
        frame.info["level"] = level
        frame.info["plane_wave_excess"] = round(excess, 9)
        frame.calc = SinglePointCalculator(frame, **results)
    ase.io.write(file, frames, format="extxyz")


if __name__ == "__main__":
    typer.run(main)
