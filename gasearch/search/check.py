"""`gasearch check`: a population database is complete, unharmed and agrees with itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from ase import Atoms

from gasearch.analysis.findings import Findings, Ranked
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.moments import MOMENT_RANGES
from gasearch.crystal.species import MomentRanges
from gasearch.errors import GasearchError
from gasearch.relax.audit import RULE, Audit, audit
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.working_sites import WorkingSites
from gasearch.run.config import RunSettings
from gasearch.run.folder import RunFolder
from gasearch.search.dispatcher import rattled, start_structure
from gasearch.search.replay import differences
from gasearch.search.resume import CALIBRATION_FOUND, WINDOWS_FOUND, changed_versions
from gasearch.search.session import Session
from gasearch.store.checks.check import Problem, check_store
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import RunRecord

if TYPE_CHECKING:
    from gasearch.potentials.held.valence import BondReader

Judge: TypeAlias = Callable[[PopulationStore], Iterator[Problem]]


def check_run(folder: RunFolder, replay: bool = False, rejudge: bool = False) -> list[Problem]:
    """Return what is wrong with a run's database; nothing in an undamaged one.

    Parameters
    ----------
    replay
        Derive every proposal again from the record; needs the run's operators.
    rejudge
        Judge every stored structure again by the audit rule, from its positions and stored moments.
    """
    with folder.open_store(read_only=False) as store:
        place = store.place  # what is no database was refused by now; an older one is upgraded
    problems = list(check_store(place))
    if any(problem.check == "integrity" for problem in problems):
        return problems
    with folder.open_store() as store:
        parts = {"decoration": _decorations, "hull": _hull}
        if rejudge:
            parts["audit"] = functools.partial(_audit, folder)
        if replay:
            parts["replay"] = functools.partial(_replay, folder)
        for name, judge in parts.items():
            problems += _judged(name, judge, store, is_damaged=bool(problems))
    return problems


def _judged(name: str, judge: Judge, store: PopulationStore, *, is_damaged: bool) -> list[Problem]:
    """Return what is wrong; damage that is known by now may keep the rest from being judged."""
    try:
        return list(judge(store))
    except Exception as error:
        if not is_damaged:
            raise
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        return [Problem(name, f"cannot be judged with what stands above ({cause})")]


def _decorations(store: PopulationStore) -> Iterator[Problem]:
    """Yield decorations that are charged, or recorded under wrong fingerprints or compositions."""
    findings = Findings(store)
    proposals = store.proposals()
    outside = [proposal for _, proposal in store.outside()]
    for proposal in [*proposals, *outside]:
        try:
            decoration = Decoration.from_bytes(findings.host, proposal.occupation)
        except GasearchError as error:
            yield Problem("neutrality", f"candidate {proposal.number}: {error}")
            continue
        found = (decoration.fingerprint, decoration.orbit_size, decoration.formula, decoration.x)
        stored = (proposal.fingerprint, proposal.orbit_size, proposal.composition, proposal.x)
        if found != stored:
            yield Problem("decoration", f"candidate {proposal.number}: {stored}, but is {found}")


def _hull(store: PopulationStore) -> Iterator[Problem]:
    """Yield points whose recorded height above the hull is wrong, by trying all pairs of points."""
    rows = [row for row in Findings(store).ranked() if row.formation_energy_eV_per_fu is not None]
    lowest: dict[float, float] = {}
    for row in rows:
        energy = row.formation_energy_eV_per_fu or 0.0
        lowest[row.x] = min(lowest.get(row.x, np.inf), energy)
    for row in rows:
        below = (row.formation_energy_eV_per_fu or 0.0) - _envelope(lowest, row)
        if abs(below - (row.above_hull_eV_per_fu or 0.0)) > 1e-8:
            yield Problem("hull", f"candidate {row.id} is {below} eV/f.u. above the hull")


def _envelope(lowest: dict[float, float], row: Ranked) -> float:
    """Return the hull's height at a point, by trying every pair of points around it."""
    best = lowest[row.x]
    for x1, y1 in lowest.items():
        for x2, y2 in lowest.items():
            if x1 < row.x < x2:
                best = min(best, y1 + (y2 - y1) * (row.x - x1) / (x2 - x1))
    return best


def _audit(folder: RunFolder, store: PopulationStore) -> Iterator[Problem]:
    """Judge every stored structure again, from the start structure and the stored moments."""
    settings, findings = folder.settings(), Findings(store)
    sites, judge = WorkingSites.of(findings.host), _judge(folder, settings, store.run)
    for row in store.evaluations(verdict=None, tight=False):
        if row.verdict == "failed":
            continue
        decoration = Decoration.from_bytes(findings.host, store.proposal(row.candidate).occupation)
        relaxed = store.relaxed(row.candidate, "search")
        start = _start_of(relaxed.atoms, decoration, settings)
        found = judge(start, relaxed, sites)
        if found.verdict != ("ok" if row.verdict == "unconverged" else row.verdict):
            detail = f"candidate {row.candidate} was judged {row.verdict} by {row.audit}"
            why = f": {found.reason}" if found.reason else ""
            yield Problem("audit", f"{detail}, is {found.verdict} by {RULE}{why}")


def _start_of(relaxed: Atoms, decoration: Decoration, settings: RunSettings) -> Atoms:
    """Return what a structure was relaxed from: in early runs the decoration as it was proposed."""
    rattle, seed = settings.relax.rattle, settings.search.seed
    start = start_structure(decoration, rattle, seed)
    same_sites = len(start) == len(relaxed) and np.array_equal(
        start.get_initial_charges(), relaxed.get_initial_charges()
    )
    return start if same_sites else rattled(decoration, rattle, seed)


def _judge(
    folder: RunFolder, settings: RunSettings, run: RunRecord
) -> Callable[[Atoms, Relaxed, WorkingSites], Audit]:
    """Return what judges the stored results of a run as its own relaxer did."""
    ranges, reader = _ranges_and_reader(folder, settings, run)

    def judge(start: Atoms, relaxed: Relaxed, sites: WorkingSites) -> Audit:
        if reader is None:
            return audit(start, relaxed.atoms, relaxed.moments, ranges, sites)
        read = reader.read(relaxed.atoms)
        return audit(start, relaxed.atoms, read, reader.ranges, sites, reader.quantity)

    return judge


def _ranges_and_reader(
    folder: RunFolder, settings: RunSettings, run: RunRecord
) -> tuple[MomentRanges | None, BondReader | None]:
    """Return by which moments results are judged, or what reads them off their bonds."""
    windows: Any = run.settings.get(WINDOWS_FOUND)
    if windows is not None:
        from gasearch.relax.calibration import Windows

        return Windows.from_json(windows).ranges, None
    if settings.relax.reader == "chgnet":
        return MOMENT_RANGES["chgnet"], None
    recorded: Any = run.settings.get(CALIBRATION_FOUND)
    if recorded is not None:
        from gasearch.relax.calibration import Calibration

        known = Calibration.from_json(recorded)
        return known.moment_ranges(), known.bond_reader()
    from gasearch.potentials.registry import load_potential

    named = settings.potential
    potential = load_potential(named.name, folder.path, species=named.species or None)
    return getattr(potential, "moment_ranges", None), None


def _replay(folder: RunFolder, store: PopulationStore) -> Iterator[Problem]:
    session = Session(folder)
    session.refuse_changes(store.run, store.level)
    changed = changed_versions(store.run.versions, ("gasearch", "numpy"))
    began = ", ".join(f"{name} {recorded}" for name, recorded in changed.items())
    note = f" (the run began with {began})" if began else ""
    proposer = session.proposer(ranks_only=store.level.ranks_only)
    lines = differences(proposer, session.visibility(), store.proposals(), store.outcomes())
    for line in lines:
        yield Problem("replay", line + note)
