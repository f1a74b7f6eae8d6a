"""Free energies of a cell against closed forms."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from ase.units import kB

from gasearch.analysis.hull import NoEndMemberError
from gasearch.analysis.joint_hull import read_member
from gasearch.analysis.thermodynamics import (
    TemperatureError,
    ensemble,
    thermal_curve,
    thermal_steps,
)
from gasearch.analysis.voltage import Cathode, Metal
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.testing import toy_host

SODIUM = Metal("Na", -1.3, "given")


def log_binomial(n, k):
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def ideal_entropy(x):
    """Of independent sites, in k per site."""
    return -sum(share * math.log(share) for share in (x, 1 - x) if share)


class TestEnsemble:
    def test_one_decoration_has_its_own_energy_and_the_entropy_of_its_orbit(self):
        found = ensemble([-3.0], [math.log(8)], 300.0)
        assert found.free_energy == pytest.approx(-3.0 - kB * 300 * math.log(8))
        assert found.energy == -3.0
        assert found.entropy_per_K == pytest.approx(kB * math.log(8))

    def test_towards_zero_it_is_the_ground_state(self):
        energies, sizes = [-30.2, -30.0, -29.0], np.log([4, 24, 1])
        found = ensemble(energies, sizes, 1e-3)
        assert found.free_energy == pytest.approx(-30.2, abs=1e-6)
        assert found.energy == pytest.approx(-30.2, abs=1e-12)
        assert found.entropy_per_K == pytest.approx(kB * math.log(4))

    def test_at_high_temperature_all_decorations_count_alike(self):
        found = ensemble([0.0, 0.5, 1.0], np.log([1, 2, 5]), 1e9)
        assert found.entropy_per_K == pytest.approx(kB * math.log(8))
        assert found.energy == pytest.approx((2 * 0.5 + 5) / 8, rel=1e-4)

    def test_what_was_not_evaluated_could_only_lower_it(self):
        rng = np.random.default_rng(1)
        energies, sizes = rng.normal(size=12), np.log(rng.integers(1, 9, size=12))
        free = [ensemble(energies[:n], sizes[:n], 900.0).free_energy for n in range(1, 13)]
        assert all(after < before for before, after in itertools.pairwise(free))

    def test_energies_far_from_zero_lose_nothing(self):
        near = ensemble([0.0, 0.01], [0.0, 1.0], 300.0)
        far = ensemble([-1e5, -1e5 + 0.01], [0.0, 1.0], 300.0)
        assert far.entropy_per_K == pytest.approx(near.entropy_per_K, rel=1e-6)

    @pytest.mark.parametrize("temperature_K", [0.0, -300.0, math.nan, math.inf])
    def test_another_temperature_is_refused(self, temperature_K):
        with pytest.raises(TemperatureError, match="expected kelvins above 0"):
            ensemble([0.0], [0.0], temperature_K)


class TestIndependentSites:
    @pytest.mark.parametrize("x", [1 / 4, 1 / 2, 2 / 3])
    def test_the_entropy_is_ideal_in_the_limit_and_too_small_before(self, x):
        """Ions and charges, each on its own sublattice, all at one energy."""
        errors = []
        for n in (12, 120, 1200, 120_000):
            k = round(n * x)
            found = ensemble([-5.0 * n], [2 * log_binomial(n, k)], 600.0)
            errors.append(2 * ideal_entropy(x) - found.entropy_per_K / kB / n)
        assert all(error > 0 for error in errors)
        assert errors[0] > 0.2
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 2e-4

    def test_two_kinds_of_sites_fill_as_the_grand_canonical_ensemble_says(self):
        """Half of the sites cost 0.1 eV more: x and its slope follow from Fermi's function."""
        cost, temperature_K = 0.1, 500.0
        kT = kB * temperature_K
        n = 4000

        def free_per_site(k):
            dear = np.arange(max(0, k - n // 2), min(n // 2, k) + 1)
            sizes = [log_binomial(n // 2, d) + log_binomial(n // 2, k - d) for d in dear]
            return ensemble(cost * dear, sizes, temperature_K).free_energy / n

        for mu in (-0.05, 0.0, 0.03, 0.15):
            fermi = [1 / (1 + math.exp((e - mu) / kT)) for e in (0.0, cost)]
            k = round(n * sum(fermi) / 2)
            slope = (free_per_site(k + 20) - free_per_site(k - 20)) / (40 / n)
            assert slope == pytest.approx(mu, abs=2e-4)

    def test_the_orbits_of_a_host_make_all_of_its_raw_decorations(self):
        host = toy_host()
        for composition in host.compositions:
            sizes = np.concatenate([s for _, s in host.enumerate_distinct(composition)])
            found = ensemble(np.zeros(len(sizes)), np.log(sizes), 300.0)
            expected = math.log(host.n_raw(composition))
            assert found.entropy_per_K / kB == pytest.approx(expected)


class TestSteps:
    CATHODE = Cathode("Na", 1, 1.0, "NaFePO4", 173.8)

    def test_the_voltage_is_the_slope_and_where_that_rises_the_one_of_the_hull(self):
        free = [(0.0, 0.0), (0.5, -2.0), (0.75, -2.4), (1.0, -3.2)]
        steps = thermal_steps(self.CATHODE, SODIUM, free)
        assert [s.slope_voltage_V for s in steps] == pytest.approx([2.7, 0.3, 1.9])
        assert [s.voltage_V for s in steps] == pytest.approx([2.7, 1.1, 1.1])

    def test_entropy_smooths_the_steps(self):
        """Non-interacting ions: the Nernst voltage, which falls as x grows."""
        n, temperature_K = 24, 300.0
        free = []
        for k in range(n + 1):
            one = ensemble([-3.0 * k], [log_binomial(n, k)], temperature_K)
            free.append((k / n, one.free_energy / n))
        voltages_V = [s.voltage_V for s in thermal_steps(self.CATHODE, SODIUM, free)]
        assert voltages_V == sorted(voltages_V, reverse=True)
        expected = [1.7 - kB * temperature_K * math.log((k + 1) / (n - k)) for k in range(n)]
        assert voltages_V == pytest.approx(expected, abs=1e-9)


class TestRuns:
    def test_a_cell_that_was_exhausted(self, finished):
        member = read_member(finished)
        curve = thermal_curve(member, SODIUM, 300.0)
        assert curve.is_exhausted
        assert [p.n_distinct for p in curve.points] == [1, 2, 10, 2, 1]
        assert [p.formation_free_energy_eV_per_fu for p in curve.points][::4] == [0, 0]
        rows = [row for row in member.rows if row.x == 0.5]
        weights = sum(
            r.orbit_size * math.exp(-(r.energy - rows[0].energy) / kB / 300) for r in rows
        )
        expected = (rows[0].energy - kB * 300 * math.log(weights)) / 4
        assert curve.points[2].free_energy_eV_per_fu == pytest.approx(expected)
        assert Counter(r.composition for r in rows) == {curve.points[2].formula: 10}

    def test_in_the_cold_the_voltages_are_those_of_the_lowest_energies(self, finished):
        member = read_member(finished)
        curve = thermal_curve(member, SODIUM, 1e-3)
        lowest = [(p.x, p.lowest_energy_eV_per_fu) for p in curve.points]
        expected = thermal_steps(Cathode.of(member.host), SODIUM, lowest)
        found = [s.slope_voltage_V for s in curve.steps]
        assert found == pytest.approx([s.slope_voltage_V for s in expected], abs=1e-5)

    def test_a_cell_that_was_not(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", budget=8)
        Session(RunFolder(folder)).run()
        curve = thermal_curve(read_member(folder), SODIUM, 300.0)
        assert not curve.is_exhausted
        assert sum(p.n_evaluated for p in curve.points) == 8
        assert curve.points[0].is_exhausted

    def test_without_an_end_there_is_none(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", budget=1)
        Session(RunFolder(folder)).run()
        with pytest.raises(NoEndMemberError, match="no candidate with verdict ok at x ="):
            thermal_curve(read_member(folder), SODIUM, 300.0)
