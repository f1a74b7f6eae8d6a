"""A broken operator is caught, whatever it breaks, and the text says what it was."""

from __future__ import annotations

import pickle
import random
from dataclasses import dataclass

import numpy as np
import pytest

from gasearch.crystal.decoration import Decoration
from gasearch.operators.contract import default_operators
from gasearch.testing import OperatorCheckError, check_operator, toy_host


class Good:
    """Two unlike working-ion sites change places, or, at the ends of x, nothing."""

    n_parents = 1

    def __call__(self, parents, rng):
        (parent,) = parents
        sites = np.concatenate([np.arange(len(s)) + s.start for s in self.sublattices(parent)])
        occupation = self.swapped(parent.occupation.copy(), sites, rng)
        return None if occupation is None else self.finish(parent, occupation)

    def sublattices(self, parent):
        return [s for s in parent.host.sublattices if s.kind == "working_ion"]

    def swapped(self, occupation, sites, rng):
        filled, empty = sites[occupation[sites] == 0], sites[occupation[sites] == 1]
        if not len(filled) or not len(empty):
            return None
        pair = [rng.choice(filled), rng.choice(empty)]
        occupation[pair] = occupation[pair[::-1]]
        return occupation

    def finish(self, parent, occupation):
        return Decoration(parent.host, occupation)


def test_a_good_operator_passes():
    check_operator(Good())


@pytest.mark.parametrize("weighted", default_operators(), ids=lambda w: w.name)
def test_the_check_takes_weighted_operators_apart_or_whole(weighted):
    check_operator(weighted.operator, n=20)


def forged(parent: Decoration, occupation: np.ndarray) -> Decoration:
    """Return a decoration that the constructor would refuse."""
    child = Decoration(parent.host, parent.occupation)
    occupation.setflags(write=False)
    child.occupation = occupation
    return child


class Charged(Good):
    def finish(self, parent, occupation):
        occupation[-1] ^= 1
        return forged(parent, occupation)


class LosesManganese(Good):
    def finish(self, parent, occupation):
        if parent.host.free_counts:
            occupation[-4:] %= 2  # Fe2+ Fe3+ Mn2+ Mn3+ are 0 1 2 3
        return forged(parent, occupation)


class DigitTooLarge(Good):
    def finish(self, parent, occupation):
        occupation[0] = 9
        return forged(parent, occupation)


class MovesTheFramework(Good):
    def finish(self, parent, occupation):
        parent.host.atoms.positions[-1, 0] += 1e-9
        return super().finish(parent, occupation)


class AnotherHost(Good):
    def finish(self, parent, occupation):
        other = toy_host(supercell=(4, 1, 1))
        return Decoration.random(other, other.compositions[1], np.random.default_rng(0))


class ChangesItsParent(Good):
    def finish(self, parent, occupation):
        parent.occupation = occupation
        return Decoration(parent.host, parent.occupation)


class WritesIntoItsParent(Good):
    def finish(self, parent, occupation):
        child = super().finish(parent, occupation)
        parent.occupation.setflags(write=True)
        parent.occupation[:] = occupation
        return child


class EmptiesItsArgument(Good):
    def __call__(self, parents, rng):
        child = super().__call__(parents, rng)
        parents.clear()
        return child


class GlobalNumpy(Good):
    def swapped(self, occupation, sites, rng):
        return super().swapped(occupation, sites, np.random)


class GlobalRandom(Good):
    def swapped(self, occupation, sites, rng):
        random.random()
        return super().swapped(occupation, sites, rng)


class OwnRandomness(Good):
    def swapped(self, occupation, sites, rng):
        return super().swapped(occupation, sites, np.random.default_rng())


class OwnGenerator(Good):
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def swapped(self, occupation, sites, rng):
        return super().swapped(occupation, sites, self.rng)


class GetsTired(Good):
    def __init__(self):
        self.n_calls = 0

    def __call__(self, parents, rng):
        self.n_calls += 1
        return super().__call__(parents, rng) if self.n_calls < 100 else None


class Extracts(Good):
    def finish(self, parent, occupation):
        host = parent.host
        composition = host.compositions[host.compositions.index(parent.composition) - 1]
        return Decoration.random(host, composition, np.random.default_rng(1))


class FailsAtTheEnds(Good):
    def swapped(self, occupation, sites, rng):
        pair = [
            rng.choice(sites[occupation[sites] == 0]),
            rng.choice(sites[occupation[sites] == 1]),
        ]
        occupation[pair] = occupation[pair[::-1]]
        return occupation


class ReturnsItsParent(Good):
    def __call__(self, parents, rng):
        return super().__call__(parents, rng) or parents[0]


class ReturnsOnlyItsParent(Good):
    def __call__(self, parents, rng):
        return Decoration(parents[0].host, parents[0].occupation)


class ReturnsAtoms(Good):
    def finish(self, parent, occupation):
        return super().finish(parent, occupation).to_atoms()


class EditsItsChild(Good):
    def finish(self, parent, occupation):
        child = Decoration(parent.host, parent.occupation)
        low = parent.host.compositions[0]
        child.occupation = Decoration.random(parent.host, low, np.random.default_rng(0)).occupation
        return child


class Idle(Good):
    def __call__(self, parents, rng):
        return None


class NoParents(Good):
    n_parents = 0


class TooManyParents(Good):
    n_parents = 2


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (Charged, "neutrality", r"the child has charge [+-]1"),
        (LosesManganese, "element counts", "breaks those of the host"),
        (DigitTooLarge, "result", "does not fit the host"),
        (MovesTheFramework, "framework", "changed the host"),
        (AnotherHost, "framework", "another host"),
        (ChangesItsParent, "parents", "work on copies"),
        (WritesIntoItsParent, "parents", "work on copies"),
        (EmptiesItsArgument, "parents", "work on copies"),
        (GlobalNumpy, "randomness", "use rng alone"),
        (GlobalRandom, "randomness", "use rng alone"),
        (OwnRandomness, "same rng, same child", "two calls in a row differ"),
        (OwnGenerator, "same rng, same child", "two calls in a row differ"),
        (GetsTired, "no state", "keep nothing between calls"),
        (Extracts, "composition", "changes_x = True"),
        (FailsAtTheEnds, "no errors", "return None where no move is possible"),
        (ReturnsOnlyItsParent, "novelty", "return None instead"),
        (ReturnsAtoms, "result", "expected a Decoration or None"),
        (EditsItsChild, "result", "changed after it was made"),
        (Idle, "use", "returned None in all"),
        (NoParents, "interface", "n_parents is 0"),
        (TooManyParents, "no errors", "ValueError: too many values to unpack"),
    ],
)
def test_a_broken_operator_is_caught(broken, check, words):
    with pytest.raises(OperatorCheckError, match=words) as caught:
        check_operator(broken())
    assert caught.value.check == check
    assert str(caught.value).startswith(f"operator {broken.__name__!r} fails the check {check!r}")


def test_a_class_in_place_of_an_instance_is_caught():
    with pytest.raises(OperatorCheckError, match="pass an instance"):
        check_operator(Good)


def test_a_parent_now_and_then_is_tolerated():
    check_operator(ReturnsItsParent())


def test_an_idle_operator_passes_where_it_may_be_idle():
    check_operator(Idle(), toy_host(), may_be_idle=True)


@dataclass(frozen=True)
class DeclaredExtraction:
    n_parents: int = 1
    changes_x: bool = True

    def __call__(self, parents, rng):
        return Extracts().finish(parents[0], parents[0].occupation)


def test_an_operator_that_says_so_may_change_x():
    check_operator(DeclaredExtraction())


def test_the_error_survives_pickling():
    error = OperatorCheckError("Charged", "neutrality", "the child has charge +1")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_the_toy_host_is_small_and_full_of_ties():
    host = toy_host()
    assert host.n_sites == 8
    assert [c.x for c in host.compositions] == [0, 0.25, 0.5, 0.75, 1]
    assert sum(host.n_distinct(c) for c in host.compositions) < 40
    assert toy_host(mixed=True).free_counts == {"Fe": 2, "Mn": 2}
    assert toy_host() is not host  # what one test breaks, another does not see
