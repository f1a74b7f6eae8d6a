"""How far cells are from the lowest energy of DFT, from energies of strained geometries."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from gasearch.learning.results import strains_to_lowest


def frame(axes, energy, tag="relax0", decoration="111-53"):
    atoms = Atoms("Fe", cell=np.array([5.0, 6.0, 7.0]) * (1 + np.asarray(axes)), pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=energy)
    atoms.info.update(tag=tag, decoration=decoration)
    return atoms


def pair(lowest, number=0, **changes):
    """Return the two frames at ±0.015 of a parabola that is lowest at a strain."""
    signs = np.array([1, -1, 1])
    return {
        f"strain{number}{sign}": frame(
            side * 0.015 * signs, 80 * (side * 0.015 - lowest) ** 2, f"strain{number}{sign}",
            **changes,
        )
        for sign, side in (("+", 1), ("-", -1))
    }  # fmt: skip


def middle(lowest):
    return frame([0, 0, 0], 80 * lowest**2)


@pytest.mark.parametrize("lowest", [0.0, 0.013, -0.012])
def test_the_lowest_of_a_parabola_is_found(lowest):
    assert list(strains_to_lowest(middle(lowest), pair(lowest))) == pytest.approx([lowest])


def test_each_pair_counts_and_an_opposite_that_is_missing_does_not():
    both = pair(0.01) | pair(0.01, number=1)
    del both["strain1-"]
    assert len(list(strains_to_lowest(middle(0.01), both))) == 1


@pytest.mark.parametrize(("lowest", "expected"), [(0.1, 0.015), (-0.1, -0.015)])
def test_what_lies_beyond_a_pair_counts_as_its_end(lowest, expected):
    assert list(strains_to_lowest(middle(lowest), pair(lowest))) == pytest.approx([expected])
    straight = frame([0, 0, 0], 80 * (0.015**2 + lowest**2) + 1e-9)  # no lowest energy at all
    assert list(strains_to_lowest(straight, pair(lowest))) == pytest.approx([expected])


def test_another_charge_order_says_nothing():
    assert not list(strains_to_lowest(middle(0.01), pair(0.01, decoration="111-33")))
