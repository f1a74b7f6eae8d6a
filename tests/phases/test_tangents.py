"""Common tangents of free energies that are known."""

import numpy as np
import pytest
from ase.units import kB
from scipy.optimize import brentq

from gasearch.phases.tangents import FreeEnergy, Ideal

KT = kB * 300


def ideal(n_redox=0):
    return Ideal(KT, 4, n_redox, 0, 4, 4)


def regular(x, omega, n_redox=0):
    """A regular solution."""
    return omega * x * (1 - x) + ideal(n_redox)(x)


def test_a_regular_solution_separates_where_its_tangent_touches():
    x, omega = np.linspace(0, 1, 25), 3 * KT
    rng = np.random.default_rng(0)
    (gap,) = FreeEnergy(x, regular(x, omega), np.full(25, 1e-5), ideal()).gaps(rng)
    edge = brentq(lambda a: omega * (1 - 2 * a) + KT * np.log(a / (1 - a)), 1e-6, 0.4)
    assert gap.x_from == pytest.approx(edge, abs=0.003)
    assert gap.x_to == pytest.approx(1 - edge, abs=0.003)
    assert gap.mu == pytest.approx(0, abs=1e-4)
    assert 0 <= gap.error_from < 0.01
    middle = regular(np.array([0.5]), omega)[0] - regular(np.array([edge]), omega)[0]
    assert gap.depth == pytest.approx(middle, abs=1e-4)


def test_the_entropy_of_charges_closes_the_gap_at_half_the_temperature():
    """With ions and charges both free, a regular solution is critical at omega = 4 kT, not 2."""
    x, rng = np.linspace(0, 1, 25), np.random.default_rng(0)
    none = np.full(25, 1e-6)
    assert FreeEnergy(x, regular(x, 3.9 * KT, 4), none, ideal(4)).gaps(rng) == []
    assert len(FreeEnergy(x, regular(x, 4.4 * KT, 4), none, ideal(4)).gaps(rng)) == 1
    assert len(FreeEnergy(x, regular(x, 3.9 * KT), none, ideal()).gaps(rng)) == 1


def test_an_order_divides_two_gaps_and_noise_makes_none():
    x, rng = np.linspace(0, 1, 13), np.random.default_rng(1)
    values = regular(x, 0.0)
    noisy = values + 1e-4 * rng.normal(size=13)
    assert FreeEnergy(x, noisy, np.full(13, 1e-4), ideal()).gaps(rng) == []
    ordered = regular(x, 2.5 * KT)
    ordered[8] -= 0.03
    found = FreeEnergy(x, ordered, np.full(13, 1e-5), ideal()).gaps(rng)
    assert [gap.x_to for gap in found[:1]] == pytest.approx([2 / 3], abs=0.03)
    assert found[1].x_from == pytest.approx(2 / 3, abs=0.03)
