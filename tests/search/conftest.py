"""Cells of olivine NaFePO4 that tests of the search share."""

import pytest

from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host


def olivine(*supercell):
    return Host.build(builtin_host("nafepo4-olivine"), supercell)


@pytest.fixture(scope="session")
def small():
    """16 decorations in all."""
    return olivine(1, 1, 1)


@pytest.fixture(scope="session")
def medium():
    """Nine compositions, 344 decorations at x = 1/2."""
    return olivine(1, 2, 1)


@pytest.fixture(scope="session")
def large():
    """24 f.u.: compositions in the middle cannot be enumerated."""
    return olivine(1, 3, 2)
