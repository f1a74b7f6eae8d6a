"""The chapter on moments: labels before a relaxation, moments after it, of search and DFT."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gasearch.crystal.moments import MOMENT_RANGES
from gasearch.crystal.species import Species, species_of
from gasearch.dft.classify import ranges_of_level
from gasearch.dft.spins import with_usual_spins
from gasearch.display.plotting import GREY
from gasearch.errors import GasearchError
from gasearch.potentials.shipped import DEFAULT, MODELS, shipped_names
from gasearch.relax.geometry import mean_bond_lengths, redox_sites
from gasearch.report.material import Material, OneRun
from gasearch.report.sections import (
    Band,
    Block,
    Chart,
    Section,
    Series,
    Table,
    Text,
    file_name,
    species_colour,
)
from gasearch.run.dft_section import DftSection
from gasearch.store.dft_jobs import dft_levels, jobs
from gasearch.store.sql.events import DFT_JOB
from gasearch.store.sql.other_levels import LevelRow

_MOST = 200  # structures that are read, evenly spread
_UNCLEAR = "ambiguous"
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class SiteMoments:
    """What redox sites of one label have after a relaxation.

    Parameters
    ----------
    moments
        Absolute, in Bohr magnetons; () where nothing reads them.
    bonds
        Mean lengths of their bonds to anions, in Å.
    before
        The same in the undistorted host.
    """

    label: str
    moments: list[float] = field(default_factory=list)
    bonds: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)


def site_moments(run: OneRun) -> tuple[list[SiteMoments], int]:
    """Return moments and bond lengths by label, and of how many relaxed candidates."""
    rows = [row for row in run.store.evaluations(verdict=None) if row.verdict != "failed"]
    if len(rows) > _MOST:
        rows = [rows[round(n)] for n in np.linspace(0, len(rows) - 1, _MOST)]
    found: dict[str, SiteMoments] = {}
    for row in rows:
        relaxed = run.store.relaxed(row.candidate)
        atoms = relaxed.atoms
        sites = redox_sites(atoms)
        labels = species_of(atoms)
        start = run.decoration(row.candidate).to_atoms()
        bonds = zip(mean_bond_lengths(atoms, sites), mean_bond_lengths(start, sites), strict=True)
        for site, (after, before) in zip(sites, bonds, strict=True):
            label = str(labels[site])
            own = found.setdefault(label, SiteMoments(label))
            own.bonds.append(float(after))
            own.before.append(float(before))
            if relaxed.moments is not None:
                own.moments.append(abs(float(relaxed.moments[site])))
    return [found[label] for label in sorted(found)], len(rows)


def moments_section(material: Material) -> Section:
    """Return how labels, moments and bond lengths agree after relaxing."""
    blocks: list[Block] = []
    for run in material.runs:
        found, n_rows = site_moments(run)
        if not found:
            blocks.append(Text(f"{run.name}: no candidate was relaxed yet."))
            continue
        blocks += _of_search(run, found, n_rows)
        blocks += _of_dft(run)
    if not material.dft_hulls and not any(dft_levels(run.store) for run in material.runs):
        blocks.append(Text("No moments of DFT: no DFT result was collected yet."))
    return Section("moments", "Moments and bond lengths", blocks)


def _of_search(run: OneRun, found: Sequence[SiteMoments], n_rows: int) -> list[Block]:
    level = run.findings.level
    text = f"{run.name}: redox sites of {n_rows} relaxed candidates, by the label they started with"
    blocks: list[Block] = [Text(f"{text}; labels do not change in a relaxation.")]
    ranges = search_ranges(run)
    if any(one.moments for one in found):
        reader = "CHGNet" if _reader(run) == "chgnet" else level.potential
        blocks.append(
            _histogram(
                file_name("moments", run.name),
                f"Moments after relaxing with {level.name}, read by {reader}, {run.name}",
                "moment (μB)",
                {one.label: one.moments for one in found},
                _bands(ranges),
            )
        )
    else:
        why = f"{level.name} gives no moments, and no reader was set"
        blocks.append(Text(f"{run.name}: {why}: bond lengths are shown instead."))
    blocks.append(
        _histogram(
            file_name("bond-lengths", run.name),
            f"Mean bond length of redox sites after relaxing, {run.name}",
            "mean distance to the nearest anions (Å)",
            {one.label: one.bonds for one in found},
            [],
        )
    )
    return [*blocks, _table(found, ranges)]


def _reader(run: OneRun) -> str:
    return str(run.findings.run.settings.get("relax.reader", "own"))


def search_ranges(run: OneRun) -> Ranges:
    """Return which moments the reader of a search takes for which species; {} if unknown."""
    windows: Any = run.findings.run.settings.get("relax.windows")
    if windows is not None:
        return {str(s): (float(low), float(high)) for s, (low, high) in windows["ranges"].items()}
    if _reader(run) == "chgnet":
        return {str(species): own for species, own in MOMENT_RANGES["chgnet"].items()}
    name = run.findings.level.potential
    shipped = DEFAULT if name == "default" else name
    folder = MODELS / shipped if shipped in shipped_names() else run.folder.path / name
    try:
        document = json.loads((folder / "model.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    ranges = document.get("moment_ranges") or {}
    return {name: (float(low), float(high)) for name, (low, high) in ranges.items()}


def _bands(ranges: Ranges) -> list[Band]:
    """Return what lies between neighbouring ranges of one element."""
    ordered = sorted(ranges.items(), key=lambda pair: pair[1])
    bands = []
    for (one, (_, high)), (other, (low, _)) in itertools.pairwise(ordered):
        if Species.parse(one).element == Species.parse(other).element and high <= low:
            bands.append(Band("x", high, low, "ambiguous" if low > high else "threshold"))
    return bands


def _histogram(
    name: str, title: str, label: str, values: Mapping[str, Sequence[float]], bands: Sequence[Band]
) -> Chart:
    every = [value for own in values.values() for value in own]
    low, high = min(every), max(every)
    if high - low < 0.05:
        low, high = low - 0.025, high + 0.025
    edges = np.linspace(low, high, 41)
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    series = []
    for n, (species, own) in enumerate(values.items()):
        counts, _ = np.histogram(own, bins=edges)
        colour = GREY if species == _UNCLEAR else species_colour(species, n)
        heights = counts.astype(float).tolist()
        series.append(Series(middles, heights, "bars", f"{species} ({len(own)})", colour))
    width = float(edges[1] - edges[0])
    return Chart(
        name, title, label, "sites", series, tuple(bands), stacked=True, bar_width=0.95 * width
    )


def _table(found: Sequence[SiteMoments], ranges: Ranges) -> Table:
    rows = []
    for one in found:
        window = ranges.get(one.label)
        outside = "-"
        if window and one.moments:
            outside = str(sum(not window[0] <= m <= window[1] for m in one.moments))
        nominal = Species.parse(one.label).moment
        after = _mean_and_range(one.moments, 2)
        bonds = _mean_and_range(one.before, 3), _mean_and_range(one.bonds, 3)
        rows.append((one.label, str(len(one.bonds)), f"{nominal:g}", after, outside, *bonds))
    names = ("label", "sites", "nominal moment (μB)", "moment after", "outside its range")
    return Table((*names, "mean bond before (Å)", "after (Å)"), rows, "mean (lowest to highest)")


def _mean_and_range(values: Sequence[float], digits: int) -> str:
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "-"
    low, mean, high = min(known), float(np.mean(known)), max(known)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def dft_moments(run: OneRun, level: str) -> dict[str, list[float]]:
    """Return absolute moments by the species that they mean, from all collected jobs of a level."""
    found: dict[str, list[float]] = {}
    folders = {job.folder: job.level for job in jobs(run.store)}
    events = run.store.events(kind=DFT_JOB)
    newest = {e.data["folder"]: e.data["data"] for e in events if "data" in e.data}
    for folder, result in newest.items():
        if folders.get(str(folder)) != level or not isinstance(result, dict):
            continue
        sites = result.get("sites")
        for site in sites if isinstance(sites, list) else []:
            if isinstance(site, dict) and isinstance(site["moment"], float):
                found.setdefault(str(site["species"] or _UNCLEAR), []).append(site["moment"])
    return {label: found[label] for label in sorted(found)}


def _of_dft(run: OneRun) -> list[Block]:
    blocks: list[Block] = []
    for level in dft_levels(run.store):
        values = dft_moments(run, level.name)
        if not values:
            blocks.append(Text(f"{run.name}: no result of {level.name} was collected yet."))
            continue
        blocks.append(
            _histogram(
                file_name("moments-dft", run.name, level.name),
                f"Moments after DFT, {level.name}, {run.name}: by the species that they mean",
                "moment (μB)",
                values,
                _bands(dft_ranges(run, level)),
            )
        )
    return blocks


def dft_ranges(run: OneRun, level: LevelRow) -> Ranges:
    """Return which moments a DFT code gives which species, with what run.toml says of it."""
    try:
        section = run.folder.settings().dft
    except GasearchError:
        section = DftSection()
    section = with_usual_spins(section, run.host)
    ranges = ranges_of_level(run.host, level.code, section, level.settings)
    return {str(species): own for species, own in ranges.items()}
