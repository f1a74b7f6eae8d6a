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
from gasearch.dft.jobs.folders import JobFolder
from gasearch.files import inside
from gasearch.learning.expected.correction import fit_correction
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
    force_sigma
        Of the largest error of a force by the model's committee, in eV/Å; NaN without one.
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
    force_sigma: float = math.nan
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
    found: dict[str, list[Expected]] = {}
    corrections: dict[str, str] = {}
    hosts = {}
    for folder in folders:
        name = folder.path.relative_to(base).as_posix()
        with folder.open_store() as store:
            findings = Findings(store)
            found[name] = _rows(findings, name, level, folder.path)
            hosts[name] = findings.host
    if correct:
        found, corrections = on_one_scale(hosts, found)
    rows = [row for own in found.values() for row in own]
    return Expectations(placed(rows, hosts), corrections, hosts)


def _rows(findings: Findings, run: str, level: str, path: Path) -> list[Expected]:
    kept, jobs = _dft(findings.store, level, path)
    cell, units = cell_name(findings.host), findings.run.n_formula_units
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
            math.nan if row.sigma_eV_per_fu is None else units * row.sigma_eV_per_fu,
            kept.get(row.id),
            row.id in jobs,
            math.nan if row.force_sigma_eV_per_A is None else row.force_sigma_eV_per_A,
        )
        for row in findings.ranked()
    ]


def _dft(store: PopulationStore, level: str, path: Path) -> tuple[dict[int, float], set[int]]:
    """Return the energies of jobs at a level that kept their order, and all that have a job.

    Of a candidate that a job of another one has moved to, the lowest result is known alone: it
    counts only where it is that of the candidate's own job, by its status file.
    """
    rows = [row for row in dft_jobs.jobs(store) if row.level == level]
    kept = [row for row in rows if row.charge_order == _KEPT and row.found == row.candidate]
    energies = (
        {row.candidate: row.energy for row in dft_jobs.dft_rows(store, level)} if rows else {}
    )
    moved_to = {row.found for row in rows if row.found != row.candidate}
    own = {
        row.candidate: energies[row.candidate]
        for row in kept
        if row.candidate in energies
        and (row.candidate not in moved_to or _job_energy(path, row) == energies[row.candidate])
    }
    return own, {row.candidate for row in rows}


def _job_energy(run: Path, row: dft_jobs.DftJobRow) -> float | None:
    job = JobFolder(inside(run, row.folder))
    return job.status().energy_eV if job.exists else None


def on_one_scale(
    hosts: Mapping[str, Host], found: Mapping[str, list[Expected]]
) -> tuple[dict[str, list[Expected]], dict[str, str]]:
    """Return the candidates of all runs with corrected energies, and the corrections in words.

    Runs share a hull: one whose own results do not tie it to the scale of DFT is shifted as those
    that are tied are at the same x. Where there is none, several runs stay as they are.
    """
    own = {run: corrected(hosts[run], rows) for run, rows in found.items()}
    if len(own) > 1:
        own = {run: one for run, one in own.items() if one[1] and _has_both_ends(found[run])}
    told = {run: words for run, (_, words) in own.items() if words}
    if not told:
        return dict(found), {}
    shifts = _shifts([row for run in told for row in own[run][0]])
    return {
        run: own[run][0] if run in told else [_shifted(row, *shifts) for row in rows]
        for run, rows in found.items()
    }, told


def _has_both_ends(rows: Sequence[Expected]) -> bool:
    known = {row.x for row in rows if row.dft_eV is not None}
    ends = {min(row.x for row in rows), max(row.x for row in rows)} if rows else set()
    return bool(rows) and ends <= known


def _shifts(rows: Sequence[Expected]) -> tuple[list[float], list[float]]:
    """Return by how much the lowest order at each x is corrected, in eV per formula unit."""
    lowest: dict[float, Expected] = {}
    for row in sorted(rows, key=lambda row: (row.x, row.energy_eV / row.n_units)):
        lowest.setdefault(row.x, row)
    shifts = [(row.expected_eV - row.energy_eV) / row.n_units for row in lowest.values()]
    return list(lowest), shifts


def _shifted(row: Expected, x: Sequence[float], shifts: Sequence[float]) -> Expected:
    """Return a candidate with its own DFT energy, or shifted as others at its x."""
    shifted = row.energy_eV + row.n_units * float(np.interp(row.x, x, shifts))
    return replace(row, expected_eV=shifted if row.dft_eV is None else row.dft_eV)


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
