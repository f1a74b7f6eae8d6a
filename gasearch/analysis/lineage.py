"""Where a candidate comes from: its ancestors, what made each, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gasearch.analysis.findings import Findings, Ranked, formula_of
from gasearch.errors import UsageError
from gasearch.relax.audit import Verdict
from gasearch.store.errors import UnknownCandidateError
from gasearch.store.records import JsonValue, Proposal


@dataclass(frozen=True)
class Ancestor:
    """One candidate of a lineage.

    Parameters
    ----------
    operator
        What made it.
    origin
        "search", or where it comes from.
    budget
        Of the search when it was drawn; 0 where that is not known.
    energy_eV
        Of the whole cell, the evaluation that counts; None where there is none.
    above_hull_eV_per_fu
        None without a valid energy, and until both ends of the range have one.
    verdict
        Of the evaluation that counts; None before its relaxation ended.
    rate
        Share of the draws that its operator had, where that is recorded.
    predicted_eV_per_fu, deviation_eV_per_fu
        What the surrogate expected when it was chosen; None where it was not asked.
    found_eV_per_fu
        What the search relaxation gave, which is what was predicted.
    error_eV_per_fu
        By how much that is above the prediction.
    details
        All that was noted when it was chosen.
    """

    id: int
    operator: str
    origin: str
    parents: tuple[int, ...]
    generation: int
    x: float
    formula: str
    fingerprint: str
    budget: int
    verdict: Verdict | None
    energy_eV: float | None
    formation_energy_eV_per_fu: float | None
    above_hull_eV_per_fu: float | None
    rate: float | None
    predicted_eV_per_fu: float | None
    deviation_eV_per_fu: float | None
    found_eV_per_fu: float | None
    error_eV_per_fu: float | None
    details: Mapping[str, JsonValue]

    @property
    def made_by(self) -> str:
        """Its operator, and where it comes from if that is not the search."""
        is_own = self.origin in ("search", self.operator)
        return self.operator if is_own else f"{self.operator} ({self.origin})"


def lineage(findings: Findings, number: int) -> list[Ancestor]:
    """Return a candidate and its ancestors, back to those without parents.

    The youngest generation comes first; each ancestor stands there once, after its children.
    """
    try:
        line = findings.store.lineage(number)
    except UnknownCandidateError as error:
        last = findings.store.n_candidates
        raise UsageError(f"no candidate {number} in this run: its last one is {last}.") from error
    ranked = {row.id: row for row in findings.ranked(verdict=None)}
    searched = findings.store.evaluations(verdict=None, tight=False)
    n_formula_units = findings.run.n_formula_units
    found = {row.candidate: _number(row.energy / n_formula_units) for row in searched}
    ancestors = [
        replace(
            _ancestor(key, one, ranked.get(key), found.get(key)),
            formula=formula_of(findings.host, key, one.composition),
        )
        for key, one in line
    ]
    return sorted(ancestors, key=lambda one: (one.id != number, -one.generation, -one.id))


def _ancestor(
    key: int, proposal: Proposal, ranked: Ranked | None, found_eV_per_fu: float | None
) -> Ancestor:
    details = proposal.details
    rates = details.get("rates")
    predicted_eV_per_fu = _number(details.get("predicted_eV_per_fu"))
    error_eV_per_fu = None
    if found_eV_per_fu is not None and predicted_eV_per_fu is not None:
        error_eV_per_fu = found_eV_per_fu - predicted_eV_per_fu
    return Ancestor(
        id=key,
        operator=proposal.operator,
        origin=proposal.origin,
        parents=proposal.parents,
        generation=proposal.generation,
        x=proposal.x,
        formula=proposal.composition,
        fingerprint=proposal.fingerprint,
        budget=proposal.budget,
        verdict=ranked.verdict if ranked else None,
        energy_eV=_number(ranked.energy_eV) if ranked else None,
        formation_energy_eV_per_fu=ranked.formation_energy_eV_per_fu if ranked else None,
        above_hull_eV_per_fu=ranked.above_hull_eV_per_fu if ranked else None,
        rate=_number(rates.get(proposal.operator)) if isinstance(rates, dict) else None,
        predicted_eV_per_fu=predicted_eV_per_fu,
        deviation_eV_per_fu=_number(details.get("deviation_eV_per_fu")),
        found_eV_per_fu=found_eV_per_fu,
        error_eV_per_fu=error_eV_per_fu,
        details=details,
    )


def _number(value: JsonValue) -> float | None:
    """Return a finite number as it is, and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
