"""An independent reader of moments: which charge order a relaxed geometry really has.

A charge-aware potential predicts moments from its labels, so its own moments cannot contradict
them. CHGNet as its authors trained it knows no labels: it reads the geometry. Of the 153 relaxed
and strained DFT frames of `data/nafepo4-pbeu` it misreads none, of 54 rattled ones five; the 18
that are half-way to another charge order or beyond it contradicts (`benchmarks/audit.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.moments import MOMENT_RANGES
from gasearch.crystal.species import MomentRanges
from gasearch.potentials.contract import Batch

if TYPE_CHECKING:
    from gasearch.potentials.contract import Potential


class MomentReader(Protocol):
    """An independent reader of charge orders, such as CHGNet on geometries of another potential.

    Its `quantity` is what it reads, as in a sentence; what is no moment is judged, and not stored.
    """

    @property
    def quantity(self) -> str:
        """Such as "moment" or "bond valence sum"."""
        ...

    @property
    def ranges(self) -> MomentRanges:
        """What it gives for each species."""
        ...

    def read(self, atoms: Atoms) -> NDArray[np.float64]:
        """Return what is read (n_atoms,); moments in Bohr magnetons."""
        ...


class PotentialReader:
    """Reads moments off a structure with a potential that does not look at labels.

    Parameters
    ----------
    potential
        One with moments.
    ranges
        What it gives for each species.
    """

    quantity = "moment"

    def __init__(self, potential: Potential, ranges: MomentRanges) -> None:
        self.potential = potential
        self.ranges = ranges

    def read(self, atoms: Atoms) -> NDArray[np.float64]:
        """Return moments (n_atoms,) in Bohr magnetons."""
        batch = Batch.from_atoms([atoms], self.potential.device)
        moments = self.potential.evaluate(batch).moments
        if moments is None:
            raise TypeError(f"{self.potential.name} gives no moments")
        return np.asarray(moments.cpu().numpy(), dtype=np.float64)


def load_reader(
    name: str, device: str = "cpu", ranges: MomentRanges | None = None
) -> PotentialReader | None:
    """Return the reader that run.toml names; None for "own", the potential's moments.

    Parameters
    ----------
    ranges
        What it gives each species on the host; by default what CHGNet gives iron in olivine.
    """
    return chgnet_reader(device, ranges) if name == "chgnet" else None


def chgnet_reader(device: str = "cpu", ranges: MomentRanges | None = None) -> PotentialReader:
    """Return plain CHGNet as a reader of moments; it needs the chgnet package."""
    from gasearch.potentials.registry import load_potential

    known = MOMENT_RANGES["chgnet"] if ranges is None else ranges
    return PotentialReader(load_potential("chgnet", device=device), known)
