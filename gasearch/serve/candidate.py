"""One candidate: what is known of it, its structure for the viewer, its ancestors, its commands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gasearch.crystal.decoration import Decoration
from gasearch.display.tables import milli
from gasearch.errors import UsageError
from gasearch.relax.relaxed import Relaxed
from gasearch.report.chapters.structures import drawn, vacancies_of
from gasearch.report.sections import Block, Cell, Section, Table, Text
from gasearch.serve.watching import LiveRun
from gasearch.store.dft_jobs import dft_levels, dft_relaxed
from gasearch.store.errors import CorruptedBlobError, UnknownCandidateError
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import EvaluationRow, Proposal

_MOST_ANCESTORS = 40


def candidate_document(run: LiveRun, number: int, level: str | None) -> dict[str, Any]:
    """Return a candidate as the page shows it.

    Parameters
    ----------
    level
        A level of DFT, whose structure is shown; that of the search if None.

    Raises
    ------
    UsageError
        Where the run has no such candidate, or no such level.
    """
    with run.store() as store:
        try:
            proposal = store.proposal(number)
        except UnknownCandidateError as error:
            raise UsageError(f"no candidate {number} in {run.name}.") from error
        row = _row(store, number)
        try:
            relaxed, trouble = _relaxed(store, number, level, row), "there is no relaxed structure"
        except CorruptedBlobError as error:
            relaxed, trouble = None, str(error)
        family = _family(store, number)
    structure = _structure(run, number, proposal, relaxed or trouble, level)
    facts = _facts(run, proposal, row)
    return {
        "number": number,
        "title": f"candidate {number} of {run.name}",
        "structure": structure,
        "sections": [
            Section("facts", "", facts),
            Section("lineage", "Lineage", [_lineage_table(run, number, family)]),
            Section("commands", "In a terminal", [Text(line) for line in _commands(run, number)]),
        ],
    }


def _row(store: PopulationStore, number: int) -> EvaluationRow | None:
    try:
        return store.evaluation(number)
    except UnknownCandidateError:
        return None


def _relaxed(
    store: PopulationStore, number: int, level: str | None, row: EvaluationRow | None
) -> Relaxed | None:
    if level is not None:
        if level not in [one.name for one in dft_levels(store)]:
            raise UsageError(f"no level {level!r} in this run.")
        return dft_relaxed(store, number, level)
    return None if row is None or row.verdict == "failed" else store.relaxed(number)


def _structure(
    run: LiveRun, number: int, proposal: Proposal, relaxed: Relaxed | str, level: str | None
) -> dict[str, Any]:
    if run.findings is None:
        raise UsageError(f"{run.name} was not read yet.")
    host = run.findings.host
    key = f"{run.name} {number} {level or ''}"
    where = f"{run.name}, x = {proposal.x:.4g}, candidate {number}"
    if isinstance(relaxed, str):
        start = Decoration.from_fingerprint(host, proposal.fingerprint).to_atoms()
        caption = f"{proposal.composition}, as it was proposed: {relaxed}"
        return drawn(start, key, where, caption, None, vacancies_of(start, host))
    moments = None if relaxed.moments is None else np.abs(relaxed.moments).tolist()
    caption = f"{proposal.composition}, {relaxed.verdict}"
    name = where if level is None else f"{where}, {level}"
    return drawn(relaxed.atoms, key, name, caption, moments, vacancies_of(relaxed.atoms, host))


def _facts(run: LiveRun, proposal: Proposal, row: EvaluationRow | None) -> list[Block]:
    pairs: list[tuple[str, str]] = [
        ("formula", proposal.composition),
        ("x", f"{proposal.x:.4g}"),
        ("fingerprint", proposal.fingerprint),
        ("equivalent decorations", f"{proposal.orbit_size:,}"),
        ("made by", proposal.operator),
        ("generation", str(proposal.generation)),
    ]
    if row is None:
        return [Table(("", ""), [*pairs, ("verdict", "its relaxation has not ended")])]
    pairs += [
        ("verdict", f"{row.verdict}: {row.reason}" if row.reason else row.verdict),
        ("energy", f"{row.energy:.4f} eV per cell" if math.isfinite(row.energy) else "-"),
        ("above hull", _above(run, row.candidate)),
        ("relaxation", f"{row.purpose}, {row.n_calls} calls, {row.wall_s:.1f} s"),
    ]
    if row.penalty:
        pairs.append(("left of the hold", f"{milli(row.penalty)} meV per cell"))
    if math.isfinite(row.energy_sigma):
        sigma, force = milli(row.energy_sigma), milli(row.force_sigma)
        told = f"energy +- {sigma} meV per cell, largest force +- {force} meV/Å"
        pairs.append(("how certain the potential is", told))
    return [Table(("", ""), pairs)]


def _above(run: LiveRun, number: int) -> str:
    view = run.moment.view
    if view is None:
        return "-"
    place = np.flatnonzero(view.number == number)
    if not len(place):
        return "-"
    above = f"{1000 * view.above_hull[place[0]]:.1f} meV/f.u."
    return above if view.has_hull else f"{above} above the lowest at the same x; no hull yet"


def _family(store: PopulationStore, number: int) -> list[tuple[Proposal, EvaluationRow | None]]:
    """Return a candidate and its nearest ancestors, generation by generation."""
    found: dict[int, Proposal] = {}
    line = [number]
    while line and len(found) < _MOST_ANCESTORS:
        following: list[int] = []
        for one in line:
            if one not in found and len(found) < _MOST_ANCESTORS:
                found[one] = store.proposal(one)
                following += found[one].parents
        line = list(dict.fromkeys(one for one in following if one not in found))
    return [(proposal, _row(store, key)) for key, proposal in found.items()]


def _lineage_table(
    run: LiveRun, number: int, family: list[tuple[Proposal, EvaluationRow | None]]
) -> Table:
    names = ("id", "made by", "parents", "x", "above hull", "verdict")
    rows = []
    for proposal, row in family:
        key = number if proposal.number is None else proposal.number
        parents = ", ".join(map(str, proposal.parents)) or "-"
        made_by = f"{proposal.operator}"
        rows.append(
            (
                Cell(str(key), str(key)),
                made_by,
                parents,
                f"{proposal.x:.4g}",
                _above(run, key),
                "-" if row is None else row.verdict,
            )
        )
    few = f"; the nearest {_MOST_ANCESTORS} are shown" if len(family) >= _MOST_ANCESTORS else ""
    return Table(names, rows, f"{len(family) - 1} ancestors{few}")


def _commands(run: LiveRun, number: int) -> list[str]:
    folder = run.folder.quoted
    return [
        f"gasearch lineage {folder} {number}",
        f"gasearch show {folder} {number}",
        f"gasearch show {folder} {number} --output candidate-{number}.cif",
    ]
