"""How several searches share the places of an engine."""

import pytest

from gasearch.execution.shares import FairShares, divided


@pytest.mark.parametrize(
    ("n_places", "wanted", "expected"),
    [
        (8, [20], [8]),
        (8, [20, 20], [4, 4]),
        (8, [2, 20], [2, 6]),
        (7, [20, 20, 20], [3, 2, 2]),
        (9, [1, 0, 20, 20], [1, 0, 4, 4]),
        (4, [1, 1], [1, 1]),
    ],
)
def test_all_get_as_much_and_what_one_leaves_goes_to_the_others(n_places, wanted, expected):
    assert sorted(divided(n_places, wanted)) == sorted(expected)
    assert sum(divided(n_places, wanted)) == min(n_places, sum(wanted))


def test_a_second_search_takes_half_and_gives_it_back():
    shares = FairShares(8)
    first, second = shares.join(), shares.join()
    assert first.limit(20) == 8
    assert second.limit(20) == 4
    assert first.limit(20) == 4
    second.leave()
    assert first.limit(20) == 8


def test_none_is_left_without():
    shares = FairShares(1)
    members = [shares.join() for _ in range(3)]
    assert [member.limit(5) for member in members] == [1, 1, 1]
