"""DFT energies that stand out of their level."""

import numpy as np
import pytest

from gasearch.dft.outliers import are_far, deviations

X = np.array([0.0, 0.25, 0.5, 0.5, 0.5, 0.75, 1.0])
SOUND = 3.0 - 1.5 * X + np.array([0.0, 0.03, -0.02, 0.04, 0.01, -0.05, 0.0])


def test_references_and_the_error_of_a_potential_do_not_stand_out():
    assert not are_far(deviations(X, SOUND)).any()
    assert not are_far(deviations(X, SOUND + 0.2 * X * (1 - X))).any()


@pytest.mark.parametrize("where", range(len(X)))
def test_one_of_another_level_stands_out_wherever_it_is(where):
    wrong = SOUND.copy()
    wrong[where] -= 2.875
    away = deviations(X, wrong)
    assert np.flatnonzero(are_far(away)).tolist() == [where]
    assert away[where] == pytest.approx(-2.875, abs=0.3)


def test_three_results_are_enough_and_two_are_not():
    assert are_far(deviations([0, 0.5, 1], [0, -2.875, 0])).tolist() == [False, True, False]
    assert not are_far(deviations([0, 1], [0, -2.875])).any()
    assert len(deviations([], [])) == 0


def test_a_potential_that_is_poor_everywhere_has_a_wide_spread():
    poor = np.random.default_rng(1).normal(0, 0.5, 40)
    assert are_far(deviations(np.linspace(0, 1, 40), poor)).sum() <= 1
