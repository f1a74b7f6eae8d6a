import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gasearch.seeding import candidate_rng, named_rng

DRAW = "from gasearch.seeding import candidate_rng; print(candidate_rng(7, 12).random(3).tolist())"


def test_a_restart_draws_the_same_numbers():
    fresh = subprocess.run([sys.executable, "-c", DRAW], capture_output=True, text=True, check=True)
    assert fresh.stdout.strip() == str(candidate_rng(7, 12).random(3).tolist())


@given(st.integers(0, 2**64), st.integers(0, 2**31), st.integers(0, 2**31))
def test_each_candidate_has_numbers_of_its_own(seed, one, other):
    same = np.array_equal(candidate_rng(seed, one).random(4), candidate_rng(seed, other).random(4))
    assert same == (one == other)


def test_the_numbers_of_a_candidate_depend_on_no_other_candidate():
    alone = candidate_rng(1, 5).random(8)
    for k in range(5):
        candidate_rng(1, k).random(100)
    assert np.array_equal(candidate_rng(1, 5).random(8), alone)


def test_another_seed_gives_other_numbers():
    assert not np.array_equal(candidate_rng(1, 5).random(8), candidate_rng(2, 5).random(8))


def test_a_name_has_numbers_of_its_own_under_each_seed():
    first = named_rng(3, "00ff").random(4)
    assert np.array_equal(first, named_rng(3, "00ff").random(4))
    assert not np.array_equal(first, named_rng(3, "00fe").random(4))
    assert not np.array_equal(first, named_rng(4, "00ff").random(4))


def test_candidates_draw_evenly_and_independently():
    draws = np.array([candidate_rng(0, k).random(2) for k in range(4000)])
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.05
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.05
