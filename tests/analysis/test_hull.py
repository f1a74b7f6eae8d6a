"""Formation energies and the lower hull against brute force and known numbers."""

import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasearch.analysis.hull import (
    NoEndMemberError,
    NotFiniteError,
    formation_hull,
    lower_hull,
)


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


@given(
    st.lists(
        st.tuples(st.integers(0, 24), st.floats(-1, 1, allow_nan=False)), min_size=1, max_size=60
    )
)
def test_the_lowest_of_each_x_make_the_same_hull_as_all_points(drawn):
    lowest = {}
    for n, energy in drawn:
        lowest[n / 24] = min(energy, lowest.get(n / 24, np.inf))
    x, y = np.array([(n / 24, energy) for n, energy in drawn]).T
    hull = lower_hull(x, y)
    assert vertices(lowest.items()) == list(zip(*(v.tolist() for v in hull), strict=True))
    for at in set(x.tolist()):
        assert np.interp(at, *hull) == pytest.approx(brute_force_height(x, y, at))


def test_a_point_that_is_no_vertex_changes_nothing():
    ends = [(0, 0), (1, 0)]
    for point in ((0.5, 0.0), (0.5, 0.1), (0, 0)):
        assert vertices([*ends, point]) == ends
    assert vertices([*ends, (0.5, -0.1)]) == [(0, 0), (0.5, -0.1), (1, 0)]


def test_one_low_point_removes_many_vertices():
    points = [(n / 100, (n / 100 - 0.5) ** 2) for n in range(101)]
    assert vertices(points) == points
    assert vertices([*points, (0.5, -10)]) == [(0, 0.25), (0.5, -10), (1, 0.25)]


@pytest.mark.parametrize("point", [(0.5, math.nan), (math.inf, 0.0)])
def test_what_is_no_number_is_refused(point):
    with pytest.raises(NotFiniteError, match="finite numbers only"):
        vertices([(0, 0), point, (1, 0)])


def vertices(points):
    x, y = lower_hull(*map(np.array, zip(*points, strict=True)))
    return list(zip(x.tolist(), y.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_it_equals_the_phase_diagram_of_pymatgen(seed):
    """The host counts as one element, M: NaxM, at random energies per formula unit."""
    try:
        from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
        from pymatgen.core import Composition, Element
    except ModuleNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip("no pymatgen here; pip install 'gasearch[report]'")
    rng = np.random.default_rng(seed)
    n_sites = int(rng.integers(2, 13))
    numbers = [0, n_sites, *rng.integers(0, n_sites + 1, size=25).tolist()]
    x = np.array(numbers) / n_sites
    energy = -30 + 2 * x + rng.normal(size=len(x))
    entries = [
        PDEntry(Composition({"Na": n, "Fe": n_sites}), n_sites * e)
        for n, e in zip(numbers, energy, strict=True)
    ]
    diagram = PhaseDiagram([*entries, PDEntry(Composition("Na"), 1e3)])
    found = formation_hull(x.tolist(), (n_sites * energy).tolist(), n_sites, (0.0, 1.0))
    for point, entry in enumerate(entries):
        own = energy[point] - np.interp(x[point], *lower_hull(x, energy))
        expected = diagram.get_e_above_hull(entry) * entry.composition.num_atoms / n_sites
        assert found.above_hull_per_fu[point] == pytest.approx(expected, abs=1e-8)
        assert own == pytest.approx(expected, abs=1e-8)
    stable = [e for e in diagram.stable_entries if e.composition != Composition("Na")]
    fractions = sorted(e.composition[Element("Na")] / e.composition[Element("Fe")] for e in stable)
    assert lower_hull(x, energy)[0].tolist() == pytest.approx(fractions)
