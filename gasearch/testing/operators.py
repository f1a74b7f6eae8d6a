"""What every operator must do, as a check that its author can run.

from gasearch.testing import check_operator
check_operator(MyOperator())
"""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from gasearch.crystal.decoration import Decoration, ExclusionError
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.errors import GasearchError
from gasearch.operators.contract import Operator
from gasearch.seeding import candidate_rng
from gasearch.testing.toy import exclusive_host, toy_host


class OperatorCheckError(GasearchError, AssertionError):
    """A property that an operator lacks.

    Parameters
    ----------
    check
        Name of the property: "neutrality", "parents" and so on.
    problem
        What was found, and what to do.
    """

    def __init__(self, operator: str, check: str, problem: str) -> None:
        super().__init__(operator, check, problem)
        self.operator = operator
        self.check = check
        self.problem = problem

    def __str__(self) -> str:
        return f"operator {self.operator!r} fails the check {self.check!r}: {self.problem}."


def check_operator(
    operator: Operator,
    host: Host | None = None,
    *,
    n: int = 60,
    seed: int = 0,
    may_be_idle: bool = False,
) -> None:
    """Raise `OperatorCheckError` for the first property that the operator lacks.

    It is called with random parents of all compositions, both ends of x included.

    Parameters
    ----------
    host
        By default small ones of five kinds: perovskite NaxFeF3, the same with Fe and Mn sharing
        sites, olivine NaxFePO4, one whose Na sites exclude each other, and NaxFeF3 with two spin
        states of Fe2+.
    n
        Calls per host; each is repeated three times.
    may_be_idle
        Whether the operator may have nothing to do on the host, as an exchange of elements has
        where every site has its own.
    """
    hosts = [host] if host is not None else _default_hosts()
    trials = [_Trial(operator, own) for own in hosts]
    trials[0].check_interface()
    untouched = copy.deepcopy(operator)
    n_children = 0
    for trial in trials:
        calls = [trial.draw(seed, number) for number in range(n)]
        children = [trial.check_call(call) for call in calls]
        trial.check_repeats(untouched, calls, children)
        trial.check_novelty(calls, children)
        n_children += sum(child is not None for child in children)
    if not n_children and not may_be_idle:
        trials[0].fail("use", f"returned None in all of {n * len(hosts)} calls")


def _default_hosts() -> list[Host]:
    olivine = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
    hosts = [toy_host(), toy_host(mixed=True), toy_host(spins=True), exclusive_host()]
    return [*hosts, olivine]


@dataclass(frozen=True, eq=False)
class _Call:
    """What an operator is called with."""

    parents: tuple[Decoration, ...]
    seed: int
    number: int

    def rng(self) -> np.random.Generator:
        return candidate_rng(self.seed, self.number)

    def __str__(self) -> str:
        return f"parents {', '.join(p.formula for p in self.parents)}, call {self.number}"


@dataclass(frozen=True, eq=False)
class _Trial:
    """One operator on one host before its judge."""

    operator: Operator
    host: Host

    def fail(self, check: str, problem: str) -> NoReturn:
        """Raise the error of this check."""
        raise OperatorCheckError(_name(self.operator), check, problem)

    def check_interface(self) -> None:
        """Check what `gasearch.operators.contract.Operator` asks for."""
        if isinstance(self.operator, type):
            self.fail("interface", "is a class; pass an instance")
        n_parents = getattr(self.operator, "n_parents", None)
        if not isinstance(n_parents, int) or n_parents < 1:
            self.fail("interface", f"n_parents is {n_parents!r}, expected a number from 1 on")
        if not callable(self.operator):
            self.fail("interface", "cannot be called; it needs __call__(parents, rng)")

    def draw(self, seed: int, number: int) -> _Call:
        """Return random parents: of one composition in every other call, else of any."""
        rng = candidate_rng(seed + 1, number)
        compositions = self.host.compositions
        first = compositions[number // 2 % len(compositions)]
        others = rng.integers(len(compositions), size=self.operator.n_parents - 1)
        chosen = [first] + [first if number % 2 else compositions[n] for n in others]
        parents = tuple(Decoration.random(self.host, c, rng) for c in chosen)
        return _Call(parents, seed, number)

    def check_call(self, call: _Call) -> Decoration | None:
        """Return the child of one call; check it, and what the call left behind."""
        before = self._surroundings(call)
        given = list(call.parents)
        child = self._run(self.operator, call, given)
        after = self._surroundings(call)
        if list(call.parents) != given or before["parents"] != after["parents"]:
            self.fail("parents", f"a call changed its parents ({call}); work on copies")
        if before["host"] != after["host"]:
            self.fail("framework", f"a call changed the host ({call})")
        if before["global"] != after["global"]:
            self.fail("randomness", "numbers were drawn from numpy.random or random; use rng alone")
        if child is not None:
            self._check_child(child, call)
        return child

    def _run(
        self, operator: Operator, call: _Call, parents: Sequence[Decoration]
    ) -> Decoration | None:
        try:
            return operator(parents, call.rng())
        except ExclusionError:  # no move: the search takes it so too
            return None
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            problem = f"raised {text} ({call}); return None where no move is possible"
            raise OperatorCheckError(_name(operator), "no errors", problem) from error

    def _surroundings(self, call: _Call) -> dict[str, Any]:
        """Return what no call may change."""
        atoms = self.host.atoms
        arrays = (atoms.positions, atoms.numbers, atoms.cell.array, self.host.permutations)
        return {
            "parents": [(p.occupation.tobytes(), p.composition, p.host) for p in call.parents],
            "host": [array.tobytes() for array in arrays],
            "global": (pickle.dumps(np.random.get_state()), random.getstate()),  # noqa: NPY002
        }

    def _check_child(self, child: Decoration, call: _Call) -> None:
        """Check that a child is a valid decoration of an allowed composition."""
        host = self.host
        if not isinstance(child, Decoration):
            self.fail("result", f"returned {child!r} ({call}), expected a Decoration or None")
        if child.host is not host:
            self.fail("framework", f"the child has another host than its parents ({call})")
        if child.occupation.shape != (host.n_sites,) or np.any(child.occupation >= host.n_species):
            self.fail("result", f"the child's occupation does not fit the host ({call})")
        charge = host.charge_of(child.occupation)
        if charge and host.is_neutral:
            self.fail("neutrality", f"the child has charge {charge:+d} ({call})")
        composition = host.composition_of(child.occupation)
        if composition is None:
            formula = host.formula_of(child.occupation)
            self.fail("element counts", f"the child {formula} breaks those of the host ({call})")
        if composition != child.composition:
            self.fail("result", f"the child's occupation was changed after it was made ({call})")
        changes_x = bool(getattr(self.operator, "changes_x", False))
        if not changes_x and composition not in [parent.composition for parent in call.parents]:
            problem = f"the child is {child.formula} ({call}); say so by changes_x = True"
            self.fail("composition", problem)

    def check_repeats(
        self, untouched: Operator, calls: Sequence[_Call], children: Sequence[Decoration | None]
    ) -> None:
        """Check that the same rng gives the same child: at once, later, and from a copy."""
        pairs = list(zip(calls, children, strict=True))[::-1]
        again = [[self._repeat(self.operator, call) for _ in range(2)] for call, _ in pairs]
        for (call, _), (one, other) in zip(pairs, again, strict=True):
            if one != other:
                self.fail("same rng, same child", f"two calls in a row differ ({call})")
        for (call, child), (later, _) in zip(pairs, again, strict=True):
            if child != later or child != self._repeat(copy.deepcopy(untouched), call):
                problem = f"the child depends on earlier calls ({call}); keep nothing between calls"
                self.fail("no state", problem)

    def _repeat(self, operator: Operator, call: _Call) -> Decoration | None:
        return self._run(operator, call, list(call.parents))

    def check_novelty(self, calls: Sequence[_Call], children: Sequence[Decoration | None]) -> None:
        """Check that children differ from their parents, as a rule."""
        made = [(call, child) for call, child in zip(calls, children, strict=True) if child]
        copies = sum(child in call.parents for call, child in made)
        if 2 * copies > len(made):
            problem = f"{copies} of {len(made)} children equal a parent; return None instead"
            self.fail("novelty", problem)


def _name(operator: Operator) -> str:
    """Return what an author would recognise the operator by."""
    own = operator if isinstance(operator, type) else type(operator)
    return str(getattr(operator, "name", getattr(operator, "__name__", own.__name__)))
