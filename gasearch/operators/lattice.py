"""Stock `ase_ga` operators that work on symbols, applied to the lattice of a host.

They see sublattice sites alone; what they make of them is repaired to neutrality. The other
direction, our operators in a stock loop, is `gasearch.operators.ase_ga`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gasearch.crystal.counting import Digits
from gasearch.crystal.declaration import Sublattice
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.repair import nearest_composition, repair
from gasearch.crystal.species import Species
from gasearch.errors import UsageError
from gasearch.operators.lattice_view import LatticeView, surrogates

_TRIES = 4  # calls of the stock operator that give back a parent are made again this often

_MOVES = "it moves atoms, but ions sit on the sites of the host until they are relaxed"
_TABLE = "it replaces a whole element along the periodic table, but here the elements are given"
_PARTICLE = "it looks at shells or neighbours of a free particle, without periodic boundaries"
_NESTED = "it is made of other operators; name those one by one, each with its weight"
_BASE = "it is a base class that makes no offspring"
_REASONS = {
    "standardmutations.RattleMutation": _MOVES,
    "standardmutations.MirrorMutation": _MOVES,
    "standardmutations.StrainMutation": _MOVES,
    "standardmutations.RotationalMutation": _MOVES,
    "soft_mutation.SoftMutation": _MOVES,
    "cutandsplicepairing.CutAndSplicePairing": _MOVES,
    "particle_crossovers.CutSpliceCrossover": _MOVES,
    "particle_mutations.RandomMutation": _MOVES,
    "slab_operators.RandomElementMutation": _TABLE,
    "slab_operators.NeighborhoodElementMutation": _TABLE,
    "element_mutations.MoveDownMutation": _TABLE,
    "element_mutations.MoveUpMutation": _TABLE,
    "element_mutations.MoveRightMutation": _TABLE,
    "element_mutations.MoveLeftMutation": _TABLE,
    "element_mutations.FullElementMutation": _TABLE,
    "particle_mutations.COM2surfPermutation": _PARTICLE,
    "particle_mutations._NeighborhoodPermutation": _PARTICLE,
    "particle_mutations.SymmetricSubstitute": _PARTICLE,
    "offspring_creator.CombinationMutation": _NESTED,
}
_BASES = (
    "offspring_creator.OffspringCreator",
    "slab_operators.SlabOperator",
    "element_mutations.ElementMutation",
    "element_crossovers.ElementCrossover",
    "particle_mutations.Mutation",
    "particle_crossovers.Crossover",
)
_OFFERED = ("element_pools", "element_pool", "elements", "n_top", "allowed_compositions", "rng")
# Its own defaults, 100 and 50, make thousands of symmetry searches: seconds per call
_SYMMETRY_DEFAULTS = {"sym_goal": 16, "max_tries": 4}


class StockOperatorError(UsageError):
    """A stock `ase_ga` operator that cannot act on a lattice."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"{self.name} cannot act on a lattice: {self.reason}. RandomSlabPermutation, "
            "CutSpliceSlabCrossover, RandomCompositionMutation and SymmetrySlabPermutation "
            "of ase_ga.slab_operators can."
        )


@dataclass(frozen=True, eq=False)
class LatticeOperator:
    """A stock `ase_ga` operator as one of ours.

    A mutation sees the sites of one kind, drawn at random: the working-ion sites, or redox sites of
    the same species. A crossover, which keeps every site in its place, sees all of them. Where the
    user names `element_pools`, only sites whose species are all named are shown.

    Parameters
    ----------
    factory
        A subclass of `ase_ga.offspring_creator.OffspringCreator`.
    arguments
        For its constructor; element pools, allowed compositions and the number of atoms are filled
        in where they are needed and left out, and `rng` always.
    """

    factory: type[Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _refuse(self.factory, self.arguments)

    @property
    def name(self) -> str:
        """Name of the stock class."""
        return self.factory.__name__

    @property
    def n_parents(self) -> int:
        """What the class says of itself, else 2 for crossovers and 1 for all others."""
        is_crossover = any("Crossover" in c.__name__ for c in self.factory.__mro__)
        return int(getattr(self.factory, "n_parents", 2 if is_crossover else 1))

    @property
    def changes_x(self) -> bool:
        """What the class says of itself, else whether it mutates the composition."""
        mutates = _is(self.factory, "slab_operators.RandomCompositionMutation")
        return bool(getattr(self.factory, "changes_x", mutates))

    def __call__(
        self, parents: Sequence[Decoration], rng: np.random.Generator
    ) -> Decoration | None:
        """Return the child, or None where the stock operator has nothing to change."""
        views = [view for view in self._views(parents[0].host) if _has_choice(view, parents)]
        for _ in range(_TRIES if views else 0):
            view = views[int(rng.integers(len(views)))]
            occupation = self._apply(view, parents, rng)
            child = None if occupation is None else self._repaired(occupation, parents, rng)
            if child is not None and child not in parents:
                return child
        return None

    def _views(self, host: Host) -> list[LatticeView]:
        """Return what a call may show to the stock operator."""
        groups: dict[tuple[Species, ...], list[Sublattice]] = {}
        for sublattice in host.sublattices:
            if sublattice.moving or not self.changes_x:
                groups.setdefault(sublattice.species, []).append(sublattice)
        views = [LatticeView(host, tuple(group)) for group in groups.values()]
        named = _named_elements(self.arguments)
        if named:
            views = [view for view in views if named.issuperset(view.symbols)]
        if not views:
            known = ", ".join(f"{symbol} for {own}" for own, symbol in surrogates(host).items())
            raise StockOperatorError(self.name, f"its pools hold no whole sublattice of {known}")
        if self.n_parents > 1:
            return [LatticeView(host, tuple(s for view in views for s in view.sublattices))]
        return views

    def _apply(
        self, view: LatticeView, parents: Sequence[Decoration], rng: np.random.Generator
    ) -> Digits | None:
        """Return the occupation (n_sites,) that the stock operator makes, of any charge."""
        # ase_ga calls `randint`, which numpy's Generator does not have
        state = np.random.RandomState(int(rng.integers(2**32)))
        stock = self.factory(**self._completed(view), rng=state)
        shown = [view.atoms(parent.occupation, n + 1) for n, parent in enumerate(parents)]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "dict interface is deprecated", DeprecationWarning)
            made, _ = stock.get_new_individual(shown)
        return None if made is None else view.write(parents[0].occupation, made)

    def _completed(self, view: LatticeView) -> dict[str, Any]:
        """Return the constructor's arguments, with those filled in that it needs."""
        offered: dict[str, Any] = {
            "element_pools": view.pools,
            "element_pool": view.pools,
            "elements": view.symbols,
            "n_top": len(view.places),
        }
        wanted = set(_needed(self.factory))
        if self.changes_x:
            offered["allowed_compositions"] = view.allowed_compositions
            wanted |= {"element_pools", "allowed_compositions"} & _parameters(self.factory).keys()
        filled = {name: offered[name] for name in offered if name in wanted}
        if _is(self.factory, "slab_operators.SymmetrySlabPermutation"):
            filled |= _SYMMETRY_DEFAULTS
        return filled | dict(self.arguments)

    def _repaired(
        self, occupation: Digits, parents: Sequence[Decoration], rng: np.random.Generator
    ) -> Decoration:
        """Return the nearest decoration, at a composition of the parents unless x may change."""
        host = parents[0].host
        allowed = {parent.composition for parent in parents}
        choices = [c for c in host.compositions if self.changes_x or c in allowed]
        reluctance = rng.random(host.n_sites)
        if len(parents) == 1:  # what the stock operator changed stays, as far as it can
            reluctance += occupation != parents[0].occupation
        composition = nearest_composition(host, occupation, choices, rng)
        return repair(host, occupation, composition, rng, reluctance)


def _has_choice(view: LatticeView, parents: Sequence[Decoration]) -> bool:
    """Return whether there is anything to permute: with one element, stock mutations fail."""
    return len(parents) > 1 or len(set(view.read(parents[0].occupation))) > 1


def _parameters(factory: type[Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(factory).parameters


def _needed(factory: type[Any]) -> list[str]:
    """Return the arguments without a default."""
    parameters = _parameters(factory).values()
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return [p.name for p in named if p.default is inspect.Parameter.empty]


def _named_elements(arguments: Mapping[str, Any]) -> set[str]:
    """Return the elements of the pools that the user named; none if they are left out."""
    return set(_flat([arguments.get("element_pools", ()), arguments.get("element_pool", ())]))


def _flat(nested: Any) -> Iterable[str]:
    if isinstance(nested, str):
        return [nested]
    return [text for part in nested for text in _flat(part)]


def _is(factory: type[Any], stock: str) -> bool:
    """Return whether a class is, or descends from, a class of ase_ga."""
    return any(f"{c.__module__}.{c.__name__}" == f"ase_ga.{stock}" for c in factory.__mro__)


def _refuse(factory: type[Any], arguments: Mapping[str, Any]) -> None:
    """Refuse a class that cannot act on a lattice, in one line that says why."""
    name = factory.__name__
    for stock, reason in _REASONS.items():
        if _is(factory, stock):
            raise StockOperatorError(name, reason)
    if not _is(factory, "offspring_creator.OffspringCreator"):
        raise StockOperatorError(name, "it is no subclass of OffspringCreator")
    if f"{factory.__module__}.{name}" in [f"ase_ga.{base}" for base in _BASES]:
        raise StockOperatorError(name, _BASE)
    if "rng" not in _parameters(factory):
        raise StockOperatorError(name, "it takes no rng, so that no run could be repeated")
    if "rng" in arguments:
        raise StockOperatorError(name, "rng is not for the user to set; the seed of the run is")
    missing = [n for n in _needed(factory) if n not in arguments and n not in _OFFERED]
    if missing:
        raise StockOperatorError(name, f"it needs the argument {', '.join(missing)}")
