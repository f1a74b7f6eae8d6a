"""What is expected of DFT for all candidates: the potential, corrected by the results so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gasearch.analysis.findings import Findings
from gasearch.analysis.hull import places
from gasearch.analysis.joint_hull import cell_name
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.learning.correction import fit_correction
from gasearch.run.folder import RunFolder
from gasearch.store import dft_jobs
from gasearch.store.population_store import PopulationStore

_KEPT = "kept"
Key = tuple[str, str]
"""A decoration in any round: its supercell and its fingerprint."""


@dataclass(frozen=True)
class Expected:
    """A valid candidate of a round's searches with what DFT is expected to say.

    Parameters
    ----------
    run
        Its run folder, relative to the learning folder.
    energy_eV
        Of the cell, as the search has it.
    expected_eV
        Of the cell at the level of DFT, as far as that is known; the same without a correction.
    sigma_eV
        Standard deviation of that; NaN where nothing is known of it.
    dft_eV
        Of the same geometry, where DFT has kept its order; None elsewhere.
    has_job
        Whether its DFT job exists.
    above_hull_per_fu
        Of the expected energies of all, in eV; NaN without both ends.
    """

    run: str
    id: int
    cell: str
    fingerprint: str
    formula: str
    x: float
    n_units: int
    energy_eV: float
    expected_eV: float
    sigma_eV: float
    dft_eV: float | None
    has_job: bool
    above_hull_per_fu: float = math.nan
    formation_per_fu: float = math.nan

    @property
    def key(self) -> Key:
        """What tells its decoration from all others."""
        return self.cell, self.fingerprint

    @property
    def expected_per_fu(self) -> float:
        """In eV."""
        return self.expected_eV / self.n_units

    @property
    def sigma_per_fu(self) -> float:
        """In eV."""
        return self.sigma_eV / self.n_units


@dataclass(frozen=True)
class Expectations:
    """All candidates of a round, by x and expected energy.

    Parameters
    ----------
    corrections
        What the correction is of each run that has one in use, in words.
    hosts
        By run.
    """

    candidates: tuple[Expected, ...]
    corrections: Mapping[str, str]
    hosts: Mapping[str, Host]


def expectations(
    folders: Sequence[RunFolder], base: Path, level: str, *, correct: bool
) -> Expectations:
    """Return what is expected of all valid candidates of some runs of one potential.

    Parameters
    ----------
    base
        The learning folder.
    level
        Of DFT; it need not be known to the runs.
    correct
        Whether results at that level may correct the energies of the others.
    """
    found: list[Expected] = []
    corrections, hosts = {}, {}
    for folder in folders:
        name = folder.path.relative_to(base).as_posix()
        with folder.open_store() as store:
            findings = Findings(store)
            rows = _rows(findings, name, level)
            hosts[name] = findings.host
        if correct:
            rows, told = corrected(findings.host, rows)
            if told:
                corrections[name] = told
        found += rows
    return Expectations(placed(found, hosts), corrections, hosts)


def _rows(findings: Findings, run: str, level: str) -> list[Expected]:
    kept, jobs = _dft(findings.store, level)
    cell, units = cell_name(findings.host), findings.run.n_formula_units
    sigmas = {row.candidate: row.energy_sigma for row in findings.store.evaluations(verdict="ok")}
    return [
        Expected(
            run,
            row.id,
            cell,
            row.fingerprint,
            row.formula,
            row.x,
            units,
            row.energy_eV,
            row.energy_eV,
            sigmas.get(row.id, math.nan),
            kept.get(row.id),
            row.id in jobs,
        )
        for row in findings.ranked()
    ]


def _dft(store: PopulationStore, level: str) -> tuple[dict[int, float], set[int]]:
    """Return the energies of jobs at a level that kept their order, and all that have a job."""
    rows = [row for row in dft_jobs.jobs(store) if row.level == level]
    kept = [row for row in rows if row.charge_order == _KEPT and row.found == row.candidate]
    energies = (
        {row.candidate: row.energy for row in dft_jobs.dft_rows(store, level)} if rows else {}
    )
    own = {row.candidate: energies[row.candidate] for row in kept if row.candidate in energies}
    return own, {row.candidate for row in rows}


def corrected(host: Host, rows: list[Expected]) -> tuple[list[Expected], str]:
    """Return the candidates of one run with corrected energies, and what the correction is."""
    dft = np.array([math.nan if row.dft_eV is None else row.dft_eV for row in rows])
    if not np.isfinite(dft).any():
        return rows, ""
    occupations = [Decoration.from_fingerprint(host, row.fingerprint).occupation for row in rows]
    energies = np.array([row.energy_eV for row in rows])
    correction = fit_correction(host, occupations, energies, dft)
    if not correction.is_used:
        return rows, ""
    predicted = correction.predict(occupations, energies)
    found = [
        replace(row, expected_eV=float(mean), sigma_eV=float(sigma))
        for row, mean, sigma in zip(rows, predicted.mean_eV, predicted.sigma_eV, strict=True)
    ]
    return found, correction.describe()


def placed(rows: Sequence[Expected], hosts: Mapping[str, Host]) -> tuple[Expected, ...]:
    """Return candidates by x and expected energy, with their heights above the expected hull."""
    ordered = sorted(rows, key=lambda row: (row.x, row.expected_per_fu, row.run, row.id))
    low = min(host.x_range[0] for host in hosts.values())
    high = max(host.x_range[1] for host in hosts.values())
    found = places(
        [row.x for row in ordered], [row.expected_per_fu for row in ordered], 1, (low, high)
    )
    return tuple(
        row
        if above is None or formation is None
        else replace(row, above_hull_per_fu=above, formation_per_fu=formation)
        for row, (formation, above) in zip(ordered, found, strict=True)
    )
