"""The operator contract, and the loading of operators by name. The engine knows none by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gasearch.crystal.decoration import Decoration, ExclusionError
from gasearch.crystal.host import Host
from gasearch.errors import GasearchError, UsageError
from gasearch.plugins import load_plugin, nearest, registered


@runtime_checkable
class Operator(Protocol):
    """What can be done to decorations.

    Pure: no state, no database, no random numbers but those of `rng`, parents unchanged. Every
    operator conserves neutrality and the counts of free elements; a child on sites that exclude
    each other cannot be built, and counts as no move; one that may change x says so by
    an attribute `changes_x = True`. An attribute `default_weight` is its share in a search that
    names no operators (1 without it); a method `applies_to(host)` that returns False keeps an
    operator out of searches where it could do nothing, and a method `is_default(host)` that returns
    False out of the record of a search that names none: so that an operator for a new kind of host
    leaves the searches on all others as they were.
    """

    @property
    def n_parents(self) -> int:
        """How many parents a call takes."""
        ...

    def __call__(
        self, parents: Sequence[Decoration], rng: np.random.Generator
    ) -> Decoration | None:
        """Return the child, or None where these parents allow no such move."""
        ...


class OperatorError(GasearchError, RuntimeError):
    """An operator that broke its contract while the search ran."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"operator {self.name!r} {self.problem}"


@dataclass(frozen=True)
class WeightedOperator:
    """An operator with its name and its share of the proposals.

    Parameters
    ----------
    weight
        Relative to the other operators; above 0.
    """

    name: str
    operator: Operator
    weight: float

    @property
    def changes_x(self) -> bool:
        """Whether the child may have another composition than its parents."""
        return bool(getattr(self.operator, "changes_x", False))

    def applies_to(self, host: Host) -> bool:
        """Whether it can do anything on a host."""
        decide = getattr(self.operator, "applies_to", None)
        return decide is None or bool(decide(host))

    def __call__(
        self, parents: Sequence[Decoration], rng: np.random.Generator
    ) -> Decoration | None:
        """Apply the operator; what it raises or returns wrongly becomes an `OperatorError`."""
        try:
            child: Any = self.operator(parents, rng)  # a plug-in may return anything
        except ExclusionError:  # made without thought of sites that exclude each other: no move
            return None
        except Exception as error:
            raise OperatorError(self.name, f"raised {type(error).__name__}: {error}") from error
        if child is None:
            return None
        if not isinstance(child, Decoration) or child.host is not parents[0].host:
            raise OperatorError(self.name, f"returned {child!r}, not a Decoration of its host.")
        if not self.changes_x and child.composition not in {p.composition for p in parents}:
            raise OperatorError(
                self.name,
                f"made {child.formula} of {', '.join(p.formula for p in parents)}; "
                "set changes_x = True on an operator that may change x.",
            )
        return child


def default_operators(host: Host | None = None) -> tuple[WeightedOperator, ...]:
    """Return the registered operators with their default weights, in alphabetical order.

    Parameters
    ----------
    host
        Those that are no default for it are left out; by default all are returned.
    """
    found = load_operators({name: {} for name in registered("operator")}, Path())
    if host is None:
        return found
    return tuple(one for one in found if getattr(one.operator, "is_default", _always)(host))


def _always(host: Host) -> bool:  # noqa: ARG001
    return True


def load_operators(
    settings: Mapping[str, Mapping[str, Any]], folder: Path
) -> tuple[WeightedOperator, ...]:
    """Return the operators of a run file, in its order.

    Parameters
    ----------
    settings
        By name, `module:Name` or `./file.py:Name`: the weight (key "weight"), and what else the
        operator's constructor takes.
    folder
        Where relative files are looked up.
    """
    loaded = [_load(text, dict(arguments), folder) for text, arguments in settings.items()]
    used = tuple(operator for operator in loaded if operator.weight > 0)
    if not used:
        raise UsageError("[operators] names no operator with a weight above 0.")
    return used


def _load(text: str, arguments: dict[str, Any], folder: Path) -> WeightedOperator:
    factory = load_plugin("operator", text, folder)
    weight = arguments.pop("weight", None)
    _refuse_unknown_arguments(text, factory, arguments)
    try:
        operator = _build(factory, arguments)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"operator {text!r} cannot be made from {arguments or 'no arguments'}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not callable(operator) or not isinstance(getattr(operator, "n_parents", None), int):
        raise UsageError(
            f"operator {text!r} is no operator: it needs `n_parents: int` and "
            "`__call__(parents, rng)`; see gasearch.operators.contract.Operator."
        )
    share = float(getattr(operator, "default_weight", 1.0) if weight is None else weight)
    return WeightedOperator(text, operator, share)


def _build(factory: Any, arguments: dict[str, Any]) -> Any:
    """Call the factory; a stock `ase_ga` operator is wrapped so that it acts on the lattice."""
    if inspect.isclass(factory) and any(c.__module__.startswith("ase_ga.") for c in factory.mro()):
        from gasearch.operators.lattice import LatticeOperator

        return LatticeOperator(factory, arguments)
    return factory(**arguments)


def _refuse_unknown_arguments(text: str, factory: Any, arguments: dict[str, Any]) -> None:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for name in arguments:
        if name not in parameters:
            raise UsageError(
                f"operator {text!r} has no argument {name!r}{nearest(name, parameters)}; "
                f"it takes weight{''.join(f', {p}' for p in parameters)}."
            )
