"""The surrogate against scikit-learn, and against data whose law is known."""

import numpy as np
import pytest

from gasearch.search.surrogate import regression
from gasearch.search.surrogate.regression import Results, fit_surrogate, posterior

SHARES = [0.0, 0.25, 0.5, 0.75, 1.0]
GROUPS = ["pairs"] * 12 + ["triplets"] * 18


def made(n, noise=0.0, seed=0, offset=0.0):
    """Results with energies linear in six of thirty features, and a bow over x."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, len(GROUPS)))
    composition = rng.integers(0, len(SHARES), n)
    weights = np.zeros(len(GROUPS))
    weights[:6] = [0.05, -0.03, 0.08, 0.02, -0.06, 0.04]
    x = np.array(SHARES)[composition]
    energy = offset - 30 * x + 0.3 * x * (1 - x) + features @ weights
    return Results(features, composition, energy + noise * rng.normal(size=n)), weights


def predicted(surrogate, results):
    mean, deviation = np.empty(len(results)), np.empty(len(results))
    for c in range(len(SHARES)):
        here = results.composition == c
        mean[here], deviation[here] = surrogate.predict(results.features[here], c)
    return mean, deviation


def test_a_linear_law_is_found_from_few_results():
    results, _ = made(80, noise=1e-4)
    unseen, _ = made(500, seed=1)
    mean, _ = predicted(fit_surrogate(results, GROUPS, SHARES), unseen)
    assert np.abs(mean - unseen.energy).max() < 5e-3


def test_deviations_say_how_wrong_predictions_are():
    results, _ = made(60, noise=0.02)
    unseen, _ = made(2000, noise=0.02, seed=1)
    mean, deviation = predicted(fit_surrogate(results, GROUPS, SHARES), unseen)
    total = np.sqrt(deviation**2 + 0.02**2)
    z = (mean - unseen.energy) / total
    assert 0.7 < z.std() < 1.4
    assert np.all(deviation > 0)


def test_results_may_be_taken_block_by_block(monkeypatch):
    results, _ = made(300, noise=0.02)
    unseen, _ = made(50, seed=1)
    whole = fit_surrogate(results, GROUPS, SHARES)
    monkeypatch.setattr(regression, "_BLOCK", 64)
    parts = fit_surrogate(results, GROUPS, SHARES)
    np.testing.assert_allclose(predicted(parts, unseen), predicted(whole, unseen), rtol=1e-9)
    assert parts.validation.error_per_fu == pytest.approx(whole.validation.error_per_fu, rel=1e-9)
    assert parts.validation.n_results == 300


def test_it_is_the_gaussian_process_of_scikit_learn_with_the_same_kernel():
    """Of one composition, where only a broad constant stands beside the features."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct

    results, _ = made(40, noise=0.02)
    results = Results(results.features, np.zeros(40, dtype=np.int64), results.features[:, 0] * 0.05)
    groups = ["pairs"] * len(GROUPS)
    surrogate = fit_surrogate(results, groups, [0.5])
    variance = surrogate.prior.variances["pairs"] / len(groups)
    broad = surrogate.prior.variances["constant"] + 1.001 * surrogate.prior.variances["composition"]
    kernel = ConstantKernel(variance) * DotProduct(1e-9, "fixed") + ConstantKernel(broad)
    process = GaussianProcessRegressor(kernel, alpha=surrogate.prior.noise, optimizer=None)
    target = (results.energy - results.energy.mean()) / surrogate.prior.unit
    process.fit(results.features, target)
    unseen = np.random.default_rng(5).normal(size=(20, len(groups)))
    expected, expected_deviation = process.predict(unseen, return_std=True)
    mean, deviation = surrogate.predict(unseen, 0)
    assert (mean - results.energy.mean()) / surrogate.prior.unit == pytest.approx(
        expected, abs=1e-6
    )
    assert deviation / surrogate.prior.unit == pytest.approx(expected_deviation, rel=1e-5)


def test_errors_left_out_are_those_of_fitting_without_each_result():
    """The closed form against doing it, with prior variances and noise kept."""
    results, _ = made(40, noise=0.02, seed=2)
    surrogate = fit_surrogate(results, GROUPS, SHARES)
    errors = []
    for n in range(len(results)):
        rest = np.arange(len(results)) != n
        part = Results(results.features[rest], results.composition[rest], results.energy[rest])
        left = posterior(surrogate.design, surrogate.prior, part)
        mean, _ = left.predict(results.features[[n]], int(results.composition[n]))
        errors.append(float(mean[0] - results.energy[n]))
    counts = np.bincount(results.composition)
    counted = counts[results.composition] > 1
    expected = np.sqrt(np.mean(np.array(errors)[counted] ** 2))
    assert surrogate.validation.error_per_fu == pytest.approx(expected, rel=1e-6)


def test_a_law_that_is_not_there_is_not_used():
    rng = np.random.default_rng(3)
    results = Results(
        rng.normal(size=(60, len(GROUPS))), rng.integers(0, 5, 60), rng.normal(size=60) * 0.05
    )
    validation = fit_surrogate(results, GROUPS, SHARES).validation
    assert validation.error_per_fu > 0.95 * validation.mean_error_per_fu
    found, _ = made(60, noise=0.01)
    assert fit_surrogate(found, GROUPS, SHARES).validation.is_useful


def test_what_is_pending_is_less_uncertain_and_no_better_known():
    results, _ = made(30, noise=0.02)
    surrogate = fit_surrogate(results, GROUPS, SHARES)
    row = np.random.default_rng(9).normal(size=(1, len(GROUPS)))
    before = surrogate.predict(row, 2)
    after = surrogate.with_pending(row, np.array([2])).predict(row, 2)
    assert after[0] == pytest.approx(before[0])
    noise = surrogate.prior.noise * surrogate.prior.unit**2
    expected = before[1] ** 2 * noise / (before[1] ** 2 + noise)
    assert after[1] ** 2 == pytest.approx(expected)


def test_the_model_does_not_depend_on_where_energies_begin():
    near, _ = made(50, noise=0.02)
    far, _ = made(50, noise=0.02, offset=-900.0)
    unseen, _ = made(40, seed=1)
    one, _ = predicted(fit_surrogate(near, GROUPS, SHARES), unseen)
    other, _ = predicted(fit_surrogate(far, GROUPS, SHARES), unseen)
    assert other + 900 == pytest.approx(one, abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_handful_of_results_makes_a_model_that_is_not_used(n):
    results, _ = made(n)
    assert not fit_surrogate(results, GROUPS, SHARES).validation.is_useful


def test_equal_energies_make_no_trouble():
    results, _ = made(20)
    flat = Results(results.features, results.composition, np.full(20, -5.0))
    mean, deviation = fit_surrogate(flat, GROUPS, SHARES).predict(results.features, 1)
    assert mean == pytest.approx(-5.0, abs=1e-6)
    assert np.all(np.isfinite(deviation))
