"""The correction of a potential's hull: against brute force, refits, and laws that are planted."""

import numpy as np
import pytest

from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.errors import GasearchError
from gasearch.learning.expected import process
from gasearch.learning.expected.correction import UnevenInputError, fit_correction
from gasearch.learning.expected.process import (
    NOISE,
    Covariances,
    Draws,
    Mixture,
    Orders,
    Process,
    Strengths,
)
from gasearch.search.seeds.tilings import tiled_sites

HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
UNITS = HOST.n_formula_units
ORDERS = np.concatenate([d for c in HOST.compositions for d, _ in HOST.enumerate_distinct(c)])
X = np.array([HOST.composition_of(row).x for row in ORDERS])
ENDS = np.flatnonzero((X == 0) | (X == 1))


def height(seed=0):
    """Energies per formula unit above the lowest at each x, as any potential may have them."""
    above = np.random.default_rng(seed).uniform(0.02, 0.3, len(X))
    for x in np.unique(X):
        above[np.flatnonzero(x == X)[0]] = 0
    return above


def potential(seed=0):
    """Energies of the whole cell with a deep bow."""
    return UNITS * (-20 - 3 * X - 0.6 * X * (1 - X) + height(seed))


def planted(scale=0.7, bow=0.5, seed=0):
    """What DFT would say of `potential`: another line, another bow, orders scaled."""
    return UNITS * (-35 - 4 * X - 0.6 * X * (1 - X) + bow * X * (1 - X) + scale * height(seed))


def only(energies, rows):
    """Return energies with NaN in all other rows."""
    result = np.full(len(energies), np.nan)
    result[rows] = np.asarray(energies)[rows]
    return result


def fitted(dft, seed=0):
    return fit_correction(HOST, ORDERS, potential(seed), dft)


def errors(correction, truth, seed=0):
    """Return (n,) in eV/f.u."""
    return (correction.predict(ORDERS, potential(seed)).mean_eV - truth) / UNITS


def made(n, seed=0):
    """Orders with features at random, for the algebra alone."""
    rng = np.random.default_rng(seed)
    places = rng.choice(np.linspace(0, 1, 5), n)
    places[:2] = 0, 1
    return Orders(places, rng.random(n), rng.normal(size=(n, 3)), np.arange(n)[:, None])


STRENGTHS = Strengths(bow=0.2, length=0.4, scale=0.3, features=0.05, own=0.02)


def test_the_algebra_is_that_of_kriging_with_a_free_line():
    known, asked = made(9), made(4, seed=1)
    difference = np.random.default_rng(2).normal(size=9)
    covariances = Covariances(asked, known)
    mean, variance = Process(known, difference, Covariances(known, known), STRENGTHS).predict(
        asked, covariances
    )
    for k in range(len(asked)):
        one = asked[k : k + 1]
        system = np.zeros((11, 11))
        system[:9, :9] = Covariances(known, known)(STRENGTHS) + NOISE**2 * np.eye(9)
        system[:9, 9:] = np.column_stack([np.ones(9), known.place])
        system[9:, :9] = system[:9, 9:].T
        right = np.append(Covariances(one, known)(STRENGTHS)[0], [1, one.place[0]])
        solved = np.linalg.solve(system, right)
        assert mean[k] == pytest.approx(solved[:9] @ difference)
        own = Covariances(one, one)(STRENGTHS)[0, 0]
        assert variance[k] == pytest.approx(own - solved @ right)


def test_the_evidence_is_that_of_contrasts_without_a_line():
    """Differences of evidence, for the constant depends on which contrasts are taken."""
    known, difference = made(7), np.random.default_rng(3).normal(size=7)
    line = np.column_stack([np.ones(7), known.place])
    contrasts = np.linalg.svd(line)[0][:, 2:]
    found = []
    for strengths in (STRENGTHS, STRENGTHS._replace(bow=0.02, own=0.3)):
        kernel = Covariances(known, known)(strengths) + NOISE**2 * np.eye(7)
        seen, covariance = contrasts.T @ difference, contrasts.T @ kernel @ contrasts
        direct = -0.5 * (
            seen @ np.linalg.solve(covariance, seen) + np.linalg.slogdet(2 * np.pi * covariance)[1]
        )
        one = Process(known, difference, Covariances(known, known), strengths)
        found.append(one.log_evidence() - direct)
    assert found[0] == pytest.approx(found[1], abs=1e-8)


def test_what_is_left_out_is_predicted_as_a_refit_would(monkeypatch):
    """To the weights of the strengths, where both average over the same ones."""
    monkeypatch.setattr(process, "_WEIGHS", 0.0)
    known, difference = made(7), np.random.default_rng(4).normal(0, 0.1, 7)
    whole = Mixture(known, difference)
    means, variances = whole.left_out()
    for k in range(7):
        rest = np.arange(7) != k
        refit = Mixture(known[rest], difference[rest], whole.draws)
        mean, variance = refit.predict(known[k : k + 1])
        assert means[k] == pytest.approx(mean[0], abs=1e-9)
        assert variances[k] == pytest.approx(variance[0] + NOISE**2)


def test_the_error_is_that_of_correcting_without_the_order():
    """With strengths chosen anew: within a tenth."""
    rows = [0, 1, 4, 7, 9, 13, 15]
    truth = planted() + np.random.default_rng(4).normal(0, 0.1, len(X))
    missed = []
    for row in [row for row in rows if 0 < X[row] < 1]:
        refit = fitted(only(truth, [r for r in rows if r != row]))
        predicted = refit.predict(ORDERS[[row]], potential()[[row]])
        missed.append((truth[row] - predicted.mean_eV[0]) / UNITS)
    correction = fitted(only(truth, rows))
    assert len(correction.left_out_error_eV_per_fu) == len(missed) == 5
    assert correction.error_eV_per_fu == pytest.approx(np.sqrt(np.mean(np.square(missed))), rel=0.1)


def test_a_planted_correction_is_found():
    """From nine of sixteen, with no part of the orders' own: to a few meV per formula unit."""
    rows = [0, 1, 2, 4, 6, 9, 11, 13, 15]
    correction = fitted(only(planted(), rows))
    assert np.abs(errors(correction, planted())).max() < 0.006
    assert correction.scale[0] == pytest.approx(0.7, abs=0.03)
    assert correction.bow_per_fu == pytest.approx(0.125, abs=0.01)
    assert correction.is_used
    assert correction.error_eV_per_fu < 0.2 * correction.error_without_eV_per_fu


def test_both_ends_alone_give_a_straight_line():
    correction = fitted(only(planted(), ENDS))
    predicted = correction.predict(ORDERS, potential())
    shift = (predicted.mean_eV - potential()) / UNITS
    np.testing.assert_allclose(shift, -15 - X, atol=1e-6)
    np.testing.assert_allclose(predicted.sigma_eV[ENDS] / UNITS, NOISE, rtol=1e-3)
    inside = (X > 0) & (X < 1)
    assert predicted.sigma_eV[inside].min() / UNITS > 0.03
    assert not correction.is_used
    assert np.isnan(correction.error_eV_per_fu)
    assert "too few" in correction.describe()


def test_a_few_points_pin_the_hull():
    rows = [*ENDS, *(np.flatnonzero(x == X)[0] for x in (0.25, 0.5, 0.75))]
    correction = fitted(only(planted(), rows))
    lowest = [np.flatnonzero(x == X)[0] for x in np.unique(X)]
    assert np.abs(errors(correction, planted())[lowest]).max() < 1e-3
    assert correction.is_used
    one = fitted(only(planted(), [*ENDS, rows[3]]))
    assert one.error_eV_per_fu == pytest.approx(one.error_without_eV_per_fu)
    assert one.is_used
    quarter = np.flatnonzero(X == 0.25)[0]
    assert abs(errors(one, planted())[quarter]) < 0.5 * 0.094  # the planted bow there


def test_a_potential_that_is_right_is_left_alone():
    noise = np.random.default_rng(5).normal(0, 0.004, len(X)) * UNITS
    correction = fitted(potential() - 15 * UNITS + noise)
    assert correction.error_eV_per_fu < 0.008
    assert correction.scale[0] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("line", [0.0, 7.0])
def test_a_constant_and_a_line_of_the_potential_change_nothing(line):
    dft = only(planted(), [0, 2, 5, 9, 14, 15])
    moved = potential() + UNITS * (11.0 + line * X)
    first = fitted(dft).predict(ORDERS, potential())
    second = fit_correction(HOST, ORDERS, moved, dft).predict(ORDERS, moved)
    np.testing.assert_allclose(second.mean_eV, first.mean_eV, atol=1e-6)
    np.testing.assert_allclose(second.sigma_eV, first.sigma_eV, atol=1e-6)


def test_equivalent_orders_are_one():
    rng = np.random.default_rng(6)
    images = np.array([row[np.argsort(p)] for row, p in zip(ORDERS, _operations(rng), strict=True)])
    dft = only(planted(), [0, 2, 5, 9, 14, 15])
    first = fitted(dft).predict(ORDERS, potential())
    second = fit_correction(HOST, images, potential(), dft).predict(ORDERS, potential())
    np.testing.assert_allclose(second.mean_eV, first.mean_eV, atol=1e-7)
    np.testing.assert_allclose(second.sigma_eV, first.sigma_eV, atol=1e-7)
    third = fitted(dft).predict(images, potential())
    np.testing.assert_allclose(third.mean_eV, first.mean_eV, atol=1e-7)


def _operations(rng):
    return HOST.permutations[rng.integers(0, len(HOST.permutations), len(ORDERS))]


def test_of_equivalent_orders_the_lowest_energy_counts():
    dft = only(planted(), [0, 5, 15])
    twice = fit_correction(
        HOST,
        np.concatenate([ORDERS, ORDERS[[5]]]),
        np.append(potential(), potential()[5]),
        np.append(dft, dft[5] - 0.4),
    )
    assert twice.n_orders == 3
    assert twice.predict(ORDERS[[5]], potential()[[5]]).mean_eV == pytest.approx(dft[5] - 0.4)


def test_each_order_is_predicted_alike_alone_and_among_others():
    correction = fitted(only(planted(), [0, 2, 5, 9, 14, 15]))
    together = correction.predict(ORDERS, potential())
    alone = [correction.predict(ORDERS[[k]], potential()[[k]]).mean_eV[0] for k in range(len(X))]
    np.testing.assert_allclose(alone, together.mean_eV, atol=1e-9)


def test_sigma_says_how_wrong_predictions_are():
    """Laws drawn as the prior has them; of all untried orders, and of those left out."""
    rng = np.random.default_rng(7)
    untried, left_out = [], []
    view = fitted(planted())._view
    orders = view.orders(ORDERS, potential() / UNITS)
    for strengths in rng.permutation(Draws.of_prior().strengths)[:20]:
        covariance = Covariances(orders, orders)(Strengths(*strengths)) + 1e-12 * np.eye(len(X))
        difference = np.linalg.cholesky(covariance) @ rng.normal(size=len(X)) + 3 - 2 * X
        truth = potential() + UNITS * difference
        rows = [*ENDS, *rng.choice(np.arange(1, len(X) - 1), 6, replace=False)]
        correction = fitted(only(truth, rows))
        rest = np.setdiff1d(np.arange(len(X)), rows)
        predicted = correction.predict(ORDERS[rest], potential()[rest])
        untried.extend((truth[rest] - predicted.mean_eV) / predicted.sigma_eV)
        left_out.extend(correction.left_out_error_eV_per_fu / correction.left_out_sigma_eV_per_fu)
    for normalised in (np.array(untried), np.array(left_out)):
        assert 0.65 < np.sqrt(np.mean(normalised**2)) < 1.3
        assert 0.6 < np.mean(np.abs(normalised) < 1) < 0.88
        assert np.mean(np.abs(normalised) < 2) > 0.9


def test_a_small_cell_corrects_a_larger_one():
    """Given as repeats: line and bow carry over, whatever the features make of the orders."""
    large = Host.build(builtin_host("nafepo4-olivine"), (1, 2, 1))
    repeats = ORDERS[:, tiled_sites(HOST, large)]
    correction = fit_correction(large, repeats, 2 * potential(), 2 * planted())
    quarter = large.composition_at(0.375)
    others = np.array([large.random_occupation(quarter, np.random.default_rng(8))])
    lowest = 2 * UNITS * (-20 - 3 * 0.375 - 0.6 * 0.375 * 0.625)
    predicted = correction.predict(others, [lowest])
    expected = 2 * UNITS * (-35 - 4 * 0.375 - 0.1 * 0.375 * 0.625)
    assert abs(predicted.mean_eV[0] - expected) < min(2 * predicted.sigma_eV[0], 0.02 * 2 * UNITS)


def test_no_energy_at_all_corrects_nothing():
    correction = fitted(only(planted(), []))
    predicted = correction.predict(ORDERS, potential())
    np.testing.assert_array_equal(predicted.mean_eV, potential())
    assert np.all(np.isinf(predicted.sigma_eV))
    assert not correction.is_used
    assert correction.describe() == "no correction: no DFT energy yet"
    empty = fit_correction(HOST, [], [], [])
    assert np.all(np.isinf(empty.predict(ORDERS, potential()).sigma_eV))
    assert len(correction.predict([], []).mean_eV) == 0


@pytest.mark.parametrize("rows", [[5], [3, 4, 5, 6, 7]], ids=["one", "one x"])
def test_one_x_says_nothing_of_any_other(rows):
    assert len(set(X[rows])) == 1
    correction = fitted(only(planted(), rows))
    predicted = correction.predict(ORDERS, potential())
    here = X[rows[0]] == X
    assert np.all(np.isinf(predicted.sigma_eV[~here]))
    assert np.all(np.isfinite(predicted.sigma_eV[here]))
    np.testing.assert_allclose(predicted.mean_eV[rows], planted()[rows], atol=1e-2)
    assert np.isnan(correction.bow_per_fu)
    assert "nan" not in correction.describe()


def test_a_missing_end_is_extrapolated_with_a_sigma_that_says_so():
    rows = [0, 2, 5, 9]
    assert X[rows].max() < 1
    correction = fitted(only(planted(), rows))
    predicted = correction.predict(ORDERS, potential())
    assert np.all(np.isfinite(predicted.sigma_eV))
    assert predicted.sigma_eV[-1] > 3 * predicted.sigma_eV[5]
    assert abs(predicted.mean_eV[-1] - planted()[-1]) < 3 * predicted.sigma_eV[-1]


def test_orders_of_equal_energy_leave_the_scale_open():
    flat = UNITS * (-20 - 3 * X)
    correction = fit_correction(HOST, ORDERS, flat, flat + UNITS * 0.4 * X * (1 - X))
    assert correction.scale[0] == pytest.approx(1)
    assert correction.scale[1] > 0.1
    assert correction.is_used


def test_what_is_no_number_does_not_count():
    dft = only(planted(), [0, 2, 5, 9, 14, 15])
    energies = potential()
    energies[9] = np.nan
    dft[14] = np.inf
    correction = fit_correction(HOST, ORDERS, energies, dft)
    assert correction.n_orders == 4
    predicted = correction.predict(ORDERS, energies)
    assert np.isnan(predicted.mean_eV[9])
    assert np.isnan(predicted.sigma_eV[9])
    assert np.isfinite(np.delete(predicted.mean_eV, 9)).all()


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(UnevenInputError, match=r"occupations has shape \(16, 8\), not \(15, 8\)"):
        fit_correction(HOST, ORDERS, potential()[:15], planted()[:15])
    with pytest.raises(UnevenInputError, match="dft_eV"):
        fit_correction(HOST, ORDERS, potential(), planted()[:15])
    charged = ORDERS.copy()
    charged[3, 0] = 1 - charged[3, 0]
    with pytest.raises(GasearchError, match="charge"):
        fit_correction(HOST, charged, potential(), planted())


def test_the_line_tells_what_is_corrected_and_how_well():
    text = fitted(only(planted(), [0, 1, 2, 4, 6, 9, 11, 13, 15])).describe()
    assert text.startswith("correction from 9 DFT energies, used: +12")
    assert "orders scaled by 0.7" in text
    assert "\n" not in text
