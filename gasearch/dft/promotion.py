"""Which few candidates of a search deserve DFT, and why.

The rules look at valid candidates only, one composition at a time. Those that were promoted before
count towards each rule's number, so that the same record never promotes anybody twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gasearch.analysis.findings import Findings, Ranked
from gasearch.crystal.declaration import HostError
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.errors import UsageError
from gasearch.run.folder import RunFolder
from gasearch.run.sections import PromoteSection
from gasearch.store.promotions import NewPromotion, PromotionRow, add_promotions, promotions

NO_HULL = (
    "note: this potential only ranks orders at one x, there is no hull: candidates are promoted "
    "composition by composition, by energy"
)


@dataclass(frozen=True)
class Promoted:
    """A candidate with the rule that promotes it.

    Parameters
    ----------
    rule
        "reference", "lowest", "highest", "of_interest", "above_hull" or "nearest".
    reason
        What the rule saw, in one line.
    """

    row: Ranked
    rule: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What the rules say now.

    Parameters
    ----------
    new
        In the order of the rules.
    known
        Promoted before.
    notes
        What the user should know.
    """

    level: str
    new: tuple[Promoted, ...]
    known: tuple[PromotionRow, ...]
    notes: tuple[str, ...]


def promote(folder: RunFolder, *, dry_run: bool = False) -> Plan:
    """Promote what the rules of run.toml say, and return it; a second call finds nothing new.

    Parameters
    ----------
    dry_run
        Whether nothing is written.
    """
    settings = folder.settings().promote
    with folder.open_store(read_only=dry_run) as store:
        plan = planned(Findings(store), settings, promotions(store), folder.path)
        if not dry_run:
            new = [NewPromotion(one.row.id, one.rule, one.reason) for one in plan.new]
            add_promotions(store, new)
    return plan


def planned(
    findings: Findings, settings: PromoteSection, known: Sequence[PromotionRow], folder: Path
) -> Plan:
    """Return what the rules say about a search.

    Parameters
    ----------
    known
        Promotions that are stored already.
    folder
        Where reference structures are looked up.
    """
    rules = _Rules(findings, settings, {row.candidate for row in known})
    rules.reference(folder)
    rules.lowest()
    rules.near_hull()
    rules.of_interest()
    rules.highest()
    return Plan(findings.level.name, tuple(rules.new), tuple(known), tuple(rules.notes))


class _Rules:
    """The rules at work: each adds to `new` what those before it did not take."""

    def __init__(self, findings: Findings, settings: PromoteSection, known: set[int]) -> None:
        self._findings = findings
        self._settings = settings
        self._rows = findings.ranked()
        self._by_formula: dict[str, list[Ranked]] = {}
        for row in self._rows:  # by x, then energy
            self._by_formula.setdefault(row.formula, []).append(row)
        self._is_promoted = set(known)
        self._lowest_ids = {rows[0].id for rows in self._by_formula.values()}
        self._diversity = _Diversity(findings.host, self._by_formula, settings.diversity)
        for row in self._rows:
            if row.id in known:
                self._diversity.add(row)
        self.new: list[Promoted] = []
        self.notes: list[str] = [NO_HULL] if findings.level.ranks_only else []

    def reference(self, folder: Path) -> None:
        """Promote the reference structures that the user gives."""
        for name in self._settings.reference:
            found = _reference_rows(self._findings.host, self._rows, name, folder)
            if not found:
                self.notes.append(
                    f"note: the reference {name} is no valid candidate of this run: name it under "
                    "[seeds] of a new run, or search on"
                )
            for row in found[:1]:
                self._take(row, "reference", f"the reference structure {name}", is_exempt=True)

    def lowest(self) -> None:
        """Promote the lowest of each composition, the first of each before the second of any."""
        rankings = [enumerate(rows, 1) for rows in self._by_formula.values()]
        for _ in range(self._settings.lowest):
            for ranking in rankings:
                self._next(ranking, "lowest", "from below")

    def of_interest(self) -> None:
        """Promote more of the lowest at compositions of interest."""
        for x in self._settings.of_interest:
            try:
                formula = self._findings.host.composition_at(x).formula
            except HostError:
                continue  # this cell cannot hold it
            ranking = enumerate(self._by_formula.get(formula, []), 1)
            for _ in range(self._settings.lowest + self._settings.more_of_interest):
                self._next(ranking, "of_interest", "from below, of interest,")

    def highest(self) -> None:
        """Promote the highest of each composition."""
        rankings = [enumerate(rows[::-1], 1) for rows in self._by_formula.values()]
        for _ in range(self._settings.highest):
            for ranking in rankings:
                self._next(ranking, "highest", "from above")

    def near_hull(self) -> None:
        """Promote what lies near the hull: within a distance, and the nearest."""
        settings = self._settings
        if not (settings.above_hull_per_fu or settings.nearest):
            return
        above = [(row.above_hull_eV_per_fu, row) for row in self._rows]
        ranked = sorted(
            ((height, row) for height, row in above if height is not None),
            key=lambda pair: (pair[0], pair[1].x, pair[1].id),
        )
        if self._findings.level.ranks_only or not ranked:
            self.notes.append("note: without a hull, above_hull_per_fu and nearest do nothing")
            return
        for height, row in ranked:
            if height <= settings.above_hull_per_fu and settings.above_hull_per_fu:
                self._take(row, "above_hull", f"{1000 * height:.1f} meV/f.u. above the hull")
        number = 0
        for height, row in ranked:
            if number == settings.nearest:
                break
            reason = f"no. {number + 1} from the hull, {1000 * height:.1f} meV/f.u. above it"
            number += self._take(row, "nearest", reason)

    def _next(self, ranking: Iterator[tuple[int, Ranked]], rule: str, way: str) -> None:
        """Take the next of a composition that may be promoted, or was."""
        for place, row in ranking:
            rows = self._by_formula[row.formula]
            above = (row.energy_eV - rows[0].energy_eV) / self._findings.run.n_formula_units
            reason = (
                f"no. {place} of {len(rows)} {way} at x = {row.x:.4g}, "
                f"{1000 * above:.1f} meV/f.u. above the lowest there"
            )
            if self._take(row, rule, reason):
                return

    def _take(self, row: Ranked, rule: str, reason: str, *, is_exempt: bool = False) -> bool:
        """Promote a candidate; return whether it is promoted, now or before.

        The lowest of a composition is never too similar to another.
        """
        if row.id in self._is_promoted:
            return True
        is_exempt = is_exempt or row.id in self._lowest_ids
        if self._is_full() or not (is_exempt or self._diversity.is_new(row)):
            return False
        self._is_promoted.add(row.id)
        self._diversity.add(row)
        self.new.append(Promoted(row, rule, reason))
        return True

    def _is_full(self) -> bool:
        return 0 < self._settings.most <= len(self._is_promoted)


class _Diversity:
    """How far apart promoted candidates of one composition must be."""

    def __init__(self, host: Host, by_formula: Mapping[str, list[Ranked]], least: float) -> None:
        self._least = least
        self._points: dict[str, list[NDArray[np.float64]]] = {}
        if not least:
            return
        from gasearch.run.sections import ScreeningSection
        from gasearch.search.surrogate.features import Features

        self._host = host
        chosen = tuple(c for c in host.compositions if c.formula in by_formula)
        self._composition_of = {c.formula: c for c in chosen}
        clusters = ScreeningSection(features=("points", "pairs", "triplets"))
        self._features = Features(host, chosen, clusters)

    def is_new(self, row: Ranked) -> bool:
        """Return whether nothing similar is promoted."""
        if not self._least:
            return True
        point = self._point(row)
        others = self._points.get(row.formula, [])
        return all(np.sqrt(np.mean((point - other) ** 2)) >= self._least for other in others)

    def add(self, row: Ranked) -> None:
        """Remember a promoted candidate."""
        if self._least:
            self._points.setdefault(row.formula, []).append(self._point(row))

    def _point(self, row: Ranked) -> NDArray[np.float64]:
        occupation = Decoration.from_fingerprint(self._host, row.fingerprint).occupation
        (point,) = self._features(occupation[None], self._composition_of[row.formula])
        return np.asarray(point)


def _reference_rows(host: Host, rows: Sequence[Ranked], name: str, folder: Path) -> list[Ranked]:
    """Return the candidates that a structure file means, the lowest first.

    Where the file has no oxidation states, every charge order of its working-ion order.
    """
    from gasearch.search.seeds.seed import AS_IN_THE_FILE
    from gasearch.search.seeds.structures import structure_seeds

    if not (folder / name).is_file():
        raise UsageError(f"promote.reference: there is no structure file {folder / name}.")
    found: list[Ranked] = []
    for seed in structure_seeds(host, name, folder):
        decoration = Decoration.from_bytes(host, seed.occupation)
        alike = [row for row in rows if row.formula == decoration.formula]
        if seed.note == AS_IN_THE_FILE:
            found += [row for row in alike if row.fingerprint == decoration.fingerprint]
        else:
            orders = _working_orders(decoration)
            found += [row for row in alike if _working_order(host, row) in orders]
    return found


def _working_order(host: Host, row: Ranked) -> bytes:
    occupation = Decoration.from_fingerprint(host, row.fingerprint).occupation
    return occupation[host.may_be_vacant].tobytes()


def _working_orders(decoration: Decoration) -> set[bytes]:
    """Return the working-ion orders that are equivalent to that of a decoration."""
    host = decoration.host
    return {
        decoration.moved(operation).occupation[host.may_be_vacant].tobytes()
        for operation in range(len(host.permutations))
    }
