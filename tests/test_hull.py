"""Formation energies and the lower hull against brute force and known numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasearch.hull import NoEndMemberError, formation_hull, lower_hull


def brute_force_height(x, y, at):
    """Lowest value at `at` over all segments between two points, by trying them all."""
    best = y[x == at].min(initial=np.inf)
    for x1, y1 in zip(x, y, strict=True):
        for x2, y2 in zip(x, y, strict=True):
            if x1 < at < x2:
                best = min(best, y1 + (y2 - y1) * (at - x1) / (x2 - x1))
    return best


points = st.lists(
    st.tuples(st.integers(1, 7), st.floats(-1, 1, allow_nan=False)), min_size=0, max_size=20
)


@given(points, st.floats(-5, 5), st.floats(-5, 5))
def test_the_height_above_the_hull_is_that_of_brute_force(inner, low, high):
    x = np.array([0.0, 1.0, *[n / 8 for n, _ in inner]])
    energy = np.array([low, high, *[e for _, e in inner]])
    hull = formation_hull(x, energy * 4, 4, (0.0, 1.0))
    expected = [y - brute_force_height(x, hull.formation_energy_per_fu, at)
                for at, y in zip(x, hull.formation_energy_per_fu, strict=True)]  # fmt: skip
    np.testing.assert_allclose(hull.above_hull_per_fu, expected, atol=1e-9)


def test_formation_energies_are_zero_at_the_lowest_end_members_and_per_formula_unit():
    hull = formation_hull([0, 1, 1, 0.5], [-8.0, -4.0, -3.0, -6.4], 4, (0, 1))
    np.testing.assert_allclose(hull.formation_energy_per_fu, [0, 0, 0.25, -0.1])
    np.testing.assert_allclose(hull.above_hull_per_fu, [0, 0, 0.25, 0])
    assert hull.on_hull.tolist() == [True, True, False, True]


def test_the_range_of_a_host_need_not_be_zero_to_one():
    hull = formation_hull([0.5, 1.0, 0.75], [-2.0, -4.0, -3.5], 1, (0.5, 1.0))
    np.testing.assert_allclose(hull.formation_energy_per_fu, [0, 0, -0.5])


def test_a_point_above_the_straight_line_is_not_on_the_hull():
    hull = formation_hull([0, 0.5, 1], [0.0, 0.1, 0.0], 1, (0, 1))
    assert hull.on_hull.tolist() == [True, False, True]


def test_no_formation_energy_without_both_end_members():
    with pytest.raises(NoEndMemberError, match=r"verdict ok at x = 1\."):
        formation_hull([0, 0.5], [0.0, 1.0], 1, (0, 1))


def test_the_hull_keeps_vertices_only():
    x, y = lower_hull(np.array([0, 0.25, 0.5, 1, 0.5]), np.array([0, -0.5, -1.0, 0, 3.0]))
    assert x.tolist() == [0, 0.5, 1]
    assert y.tolist() == [0, -1.0, 0]
