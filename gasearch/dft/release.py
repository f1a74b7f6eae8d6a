"""Held structures relaxed on without their hold: which charge orders the bare potential keeps.

An order that stays is a minimum of the potential itself; one that slides away exists only while it
is held. Results stand at a level of theory of their own, that of the bare potential, under the
candidate that was released: with verdict "ok" where its order stayed, else "order_lost". They never
enter the hull of the search; `gasearch hull --level` shows theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.analysis.findings import Findings, Ranked
from gasearch.analysis.hull import ON_HULL
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.species import Species
from gasearch.dft.classify import ChargeOrder, Classified, classify
from gasearch.errors import GasearchError, UsageError
from gasearch.relax.audit import Verdict
from gasearch.relax.geometry import charge_labels
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings
from gasearch.relax.working_sites import WorkingSites
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import LevelRecord
from gasearch.store.sql import blobs
from gasearch.store.sql.events import RELEASE_LEVEL, RELEASED
from gasearch.store.sql.other_levels import (
    RELEASED_FROM,
    other_levels,
    put_evaluation,
    put_level,
)
from gasearch.store.sql.transaction import Transaction

if TYPE_CHECKING:
    from gasearch.potentials.contract import Potential
    from gasearch.relax.calibration import Calibration

_SAME_ENERGY = 1e-9  # eV: a candidate that was relaxed again since then is released again


class NotHeldError(UsageError):
    """A run whose potential is not held: there is nothing to release."""

    def __init__(self, folder: str, level: str) -> None:
        super().__init__(folder, level)
        self.folder = folder
        self.level = level

    def __str__(self) -> str:
        return (
            f"the search in {self.folder} relaxes with {self.level!r}, without a hold: there is "
            "nothing to release; a hold is set by hold = under [potential] when a run is made."
        )


class NoHullToReleaseError(GasearchError, LookupError):
    """A search without a hull, where no candidates were named."""

    def __init__(self, why: str, folder: str) -> None:
        super().__init__(why, folder)
        self.why = why
        self.folder = folder

    def __str__(self) -> str:
        return f"{self.why}: name candidates, as in: gasearch release {self.folder} 12 57"


@dataclass(frozen=True)
class Release:
    """What became of a candidate when its hold was taken away.

    Parameters
    ----------
    order
        "kept", "moved" to another charge order, or "delocalised": no neutral order can be read;
        None where it broke, failed or lost an ion.
    became
        Fingerprint of the order that came out; None where there is none.
    became_id
        The candidate of this order, where the search has it.
    held_energy_eV, energy_eV
        Of the whole cell before and after; before, with what was left of the hold. None for a
        relaxation that failed.
    penalty_eV
        What was left of the hold, per cell.
    """

    id: int
    x: float
    order: ChargeOrder | None
    became: str | None
    became_id: int | None
    verdict: Verdict
    reason: str
    held_energy_eV: float
    energy_eV: float | None
    energy_change_eV_per_fu: float | None
    penalty_eV: float
    n_calls: int


@dataclass(frozen=True)
class Releases:
    """What was released in a run.

    Parameters
    ----------
    level
        Of the bare potential.
    released_from
        The held level, of the search.
    """

    level: str
    released_from: str
    rows: tuple[Release, ...]

    @property
    def n_kept(self) -> int:
        """How many have their order without the hold."""
        return sum(row.verdict == "ok" for row in self.rows)


def release(
    folder: RunFolder,
    ids: Sequence[int] = (),
    above_hull_per_fu: float = 0.0,
    observe: Callable[[Release], None] = lambda row: None,  # noqa: ARG005
) -> Releases:
    """Relax held candidates on without the hold, in this process; what was released before stays.

    Each result is stored as it comes, so that the same call goes on after an interruption.

    Parameters
    ----------
    ids
        Candidates; where none is named, those on the hull.
    above_hull_per_fu
        And those as near to it, in eV per formula unit.
    observe
        Called with each new result.

    Raises
    ------
    NotHeldError
        Where the search holds nothing.
    NoHullToReleaseError
        Where no candidate is named and there is no hull.
    """
    with _opened(folder) as (session, store, calibration):
        findings = Findings(store)
        rows = _chosen(findings, folder, ids, above_hull_per_fu)
        bare = session.base_on(session.device)
        level = session.level_of(bare)
        key = store.write(lambda transaction: _level(transaction, findings.level.name, level))
        known = {row.id: row for row in _stored(findings, key)}
        waiting = [row for row in rows if not _is_released(known.get(row.id), row)]
        for new in _relaxed_on(findings, session, bare, calibration, key, waiting):
            known[new.id] = new
            observe(new)
        chosen = tuple(known[row.id] for row in rows)
        return Releases(level.name, findings.level.name, chosen)


def released(findings: Findings) -> Releases | None:
    """Return all that was released in a run, by x and energy; None where nothing was."""
    for row in other_levels(findings.store):
        if row.released_from == findings.level.name:
            rows = sorted(_stored(findings, row.id), key=lambda one: (one.x, one.held_energy_eV))
            return Releases(row.name, findings.level.name, tuple(rows)) if rows else None
    return None


@contextmanager
def _opened(folder: RunFolder) -> Iterator[tuple[Session, PopulationStore, Calibration]]:
    """Open a run whose potential is held, and is the one that it was searched with."""
    from gasearch.relax.calibration import Calibration

    with folder.open_store(read_only=False) as store:
        session = Session(folder)
        session.refuse_changes(store.run, store.level)
        if session.calibration is None:
            raise NotHeldError(str(folder.path), store.level.name)
        session.refuse_other_level(store.level)
        yield session, store, Calibration.from_json(session.calibration)


def _level(transaction: Transaction, held: str, level: LevelRecord) -> int:
    text = blobs.to_json({RELEASED_FROM: held}, f"the settings of level {level.name}")
    source, digest = level.potential, level.weights_hash
    return put_level(transaction, RELEASE_LEVEL, level.name, source, text, digest)


def _chosen(
    findings: Findings, folder: RunFolder, ids: Sequence[int], above_hull_per_fu: float
) -> list[Ranked]:
    if ids:
        return findings.chosen(ids)
    if findings.level.ranks_only or findings.missing_ends():
        why = "this potential only ranks" if findings.level.ranks_only else "there is no hull yet"
        raise NoHullToReleaseError(why, folder.quoted)
    window = max(above_hull_per_fu, ON_HULL)
    return [
        row
        for row in findings.ranked()
        if row.above_hull_eV_per_fu is not None and row.above_hull_eV_per_fu <= window
    ]


def _is_released(known: Release | None, row: Ranked) -> bool:
    return known is not None and abs(known.held_energy_eV - row.energy_eV) < _SAME_ENERGY


def _relaxed_on(
    findings: Findings,
    session: Session,
    bare: Potential,
    calibration: Calibration,
    key: int,
    rows: Sequence[Ranked],
) -> Iterator[Release]:
    """Relax candidates without the hold, and store each result as it comes."""
    from gasearch.relax.batched.relaxer import BatchRelaxer

    relax = RelaxSettings.of(session.settings.relax, WorkingSites.of(session.host)).tight
    relaxer = BatchRelaxer(bare, relax, memory=session.folder.batch_limits)
    starts = ((row.id, findings.store.relaxed(row.id).atoms) for row in rows)
    by_id = {row.id: row for row in rows}
    for number, relaxed in relaxer.relax(starts):
        yield _record(findings, calibration, key, by_id[number], relaxed)


def _record(
    findings: Findings, calibration: Calibration, key: int, row: Ranked, relaxed: Relaxed
) -> Release:
    """Store what became of a candidate, and return it; what failed is tried again next time."""
    found = _read(findings, calibration, row, relaxed)
    judged = _judged(relaxed, found)
    change = (judged.energy - row.energy_eV) / findings.run.n_formula_units
    has_energy = judged.verdict != "failed"
    own = Release(
        id=row.id,
        x=row.x,
        order=None if found is None else found.order,
        became=None if found is None or found.decoration is None else found.decoration.fingerprint,
        became_id=None,
        verdict=judged.verdict,
        reason=judged.reason,
        held_energy_eV=row.energy_eV,
        energy_eV=judged.energy if has_energy else None,
        energy_change_eV_per_fu=change if has_energy else None,
        penalty_eV=row.penalty_eV,
        n_calls=judged.n_calls,
    )
    if has_energy:
        columns = blobs.result_columns(judged, f"the released candidate {row.id}")
        told = {name: value for name, value in asdict(own).items() if name in _TOLD}
        findings.store.write(
            lambda transaction: put_evaluation(
                transaction, RELEASED, (row.id, key), *columns, {"released": told}, always=True
            )
        )
    return _named(findings, own)


_TOLD = ("order", "became", "held_energy_eV", "penalty_eV", "energy_change_eV_per_fu", "reason")
"""What the event of a release says beside its evaluation."""


def _judged(relaxed: Relaxed, found: Classified | None) -> Relaxed:
    """Return a result whose verdict tells whether its charge order stayed."""
    if found is None or found.order == "kept":
        return relaxed
    reason = found.reason if found.order == "moved" else _looks(relaxed.atoms, found)
    return replace(relaxed, verdict="order_lost", reason=reason)


def _looks(atoms: Atoms, found: Classified) -> str:
    """Return what the redox sites look like, beside their labels."""
    sites = [site.index for site in found.sites]
    charges = charge_labels(atoms)[sites]
    labels = Counter(
        str(Species(site.element, int(charge)))
        for site, charge in zip(found.sites, charges, strict=True)
    )
    seen = Counter(str(site.species or f"{site.element}?") for site in found.sites)
    told = [", ".join(f"{n} {name}" for name, n in sorted(own.items())) for own in (seen, labels)]
    return f"its sites look like {told[0]}, not like {told[1]}"


def _read(
    findings: Findings, calibration: Calibration, row: Ranked, relaxed: Relaxed
) -> Classified | None:
    """Return the charge order of a result; None of what broke, failed or lost an ion."""
    if relaxed.verdict not in ("ok", "unconverged", "order_lost"):
        return None
    by, ranges = next(iter(calibration.judged_by.items()))
    values = _moments(relaxed) if by == "moments" else _valences(calibration, relaxed.atoms)
    asked = Decoration.from_fingerprint(findings.host, row.fingerprint)
    return classify(asked, relaxed.atoms, values, ranges, findings.host)


def _moments(relaxed: Relaxed) -> NDArray[np.float64]:
    if relaxed.moments is None:
        raise TypeError("a hold that is judged by moments, of a potential without any")
    return relaxed.moments


def _valences(calibration: Calibration, atoms: Atoms) -> NDArray[np.float64]:
    from gasearch.potentials.held.valence import BondReader

    return BondReader(calibration.hold.bond_lengths, {}).read(atoms)


def _stored(findings: Findings, key: int) -> list[Release]:
    """Return what was released at a level: the newest of each candidate."""
    rows = {row.candidate: row for row in findings.store.evaluations(verdict=None)}
    found: dict[int, Release] = {}
    for event in findings.store.events(kind=RELEASED):
        data: Mapping[str, Any] = event.data
        number = data["candidate"]
        if data["level"] == key and number in rows:
            plain = {name: data[name] for name in ("verdict", "n_calls")}
            own = Release(
                id=number,
                x=rows[number].x,
                energy_eV=data["energy"],
                became_id=None,
                **plain,
                **data["released"],
            )
            found[number] = _named(findings, own)
    return list(found.values())


def _named(findings: Findings, row: Release) -> Release:
    """Return a result with the number of the candidate that it became, where there is one."""
    if row.order == "kept":
        return replace(row, became_id=row.id)
    return replace(row, became_id=findings.store.number_of(row.became)) if row.became else row
