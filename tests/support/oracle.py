"""Potentials that stand for DFT, for `[dft.potential] name = "./oracle.py:..."` of a run folder.

Energies are those of PMMCS. What the electrons do is told by the volume of the cell, by which a
sample can say what shall become of it.
"""

import time
from pathlib import Path
from typing import ClassVar

import torch

from gasearch.crystal.species import Species
from gasearch.potentials.pmmcs import Pmmcs

HERE = Path(__file__).parent
MOMENTS = {2: 3.7, 3: 4.25}


class Oracle(Pmmcs):
    """PMMCS with moments of DFT.

    Larger than 330 Å^3: the hole moves, from the first Fe3+ to the first Fe2+. Smaller than 270:
    no finite energy. Each call is noted in calls.txt.
    """

    name = "oracle"
    moment_ranges: ClassVar = {Species("Fe", 2): (3.2, 3.9), Species("Fe", 3): (4.1, 4.7)}

    def evaluate(self, batch):
        volume = float(torch.linalg.det(batch.cells).abs()[0])
        with (HERE / "calls.txt").open("a") as file:
            file.write(f"{volume:.1f}\n")
        found = super().evaluate(batch)
        moments = torch.zeros_like(found.energies).repeat(len(batch.positions))
        for charge, moment in MOMENTS.items():
            moments[(batch.numbers == 26) & (batch.charges == charge)] = moment
        if volume > 330:
            first = [int((moments == moment).nonzero()[0]) for moment in MOMENTS.values()]
            moments[first] = moments[first[::-1]]
        energies = found.energies * (float("nan") if volume < 270 else 1.0)
        return type(found)(energies, found.forces, found.stresses, moments)


class Slow(Oracle):
    """Waits on cells larger than 330 Å^3 until there is a file `go_on`."""

    name = "slow"

    def evaluate(self, batch):
        found = super().evaluate(batch)
        is_large = float(torch.linalg.det(batch.cells).abs()[0]) > 330
        latest_s = time.monotonic() + 120
        while is_large and not (HERE / "go_on").exists() and time.monotonic() < latest_s:
            time.sleep(0.02)
        return found
