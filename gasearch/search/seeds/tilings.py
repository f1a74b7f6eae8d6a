"""Ground states that another run found in a smaller cell, repeated over this one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gasearch.analysis.findings import Findings
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition, Host
from gasearch.crystal.io.hosts import host_to_json
from gasearch.errors import GasearchError
from gasearch.run.folder import RunFolder
from gasearch.search.seeds.seed import TILED, Seed, SeedError


def tiled_seeds(
    host: Host,
    name: str,
    folder: Path,
    compositions: Collection[Composition],
    per_composition: int = 1,
) -> list[Seed]:
    """Return the lowest valid candidates of another run's compositions that are searched here too.

    Its database is only read; the run may be going on.

    Parameters
    ----------
    name
        The other run's folder, as seen from `folder`.
    per_composition
        How many of the lowest.
    """
    try:
        with RunFolder(folder / name).open_store() as store:
            findings = Findings(store)
            sites = tiled_sites(findings.host, host)
            ranked = findings.ranked()
    except SeedError as error:
        raise SeedError(f"seeds.runs, {name}: {error}") from error
    except GasearchError as error:
        raise SeedError(f"seeds.runs names {name}, but {error}") from error
    taken, seeds = Counter[str](), []
    for row in ranked:  # by x and energy
        occupation = Decoration.from_fingerprint(findings.host, row.fingerprint).occupation[sites]
        taken[row.formula] += 1
        if (
            taken[row.formula] <= per_composition
            and host.composition_of(occupation) in compositions
        ):
            seeds.append(Seed(occupation.tobytes(), f"{name}, candidate {row.id}", note=TILED))
    if not seeds:
        raise SeedError(
            f"seeds.runs: {name} has no valid result yet at a composition that is searched here: "
            "search it further, or take it out of seeds.runs."
        )
    return seeds


def tiled_sites(small: Host, large: Host) -> NDArray[np.int64]:
    """Return, for each sublattice site of `large`, the one of `small` that it repeats.

    Both must be supercells of one host, the larger one a superlattice of the smaller one.
    """
    differing = _differences(small, large)
    if differing:
        raise SeedError(
            f"its host {small.declaration.name!r} is not the one searched here (its "
            f"{', '.join(differing)} differ): name a run of the same structure and sublattices."
        )
    repeats = large.matrix @ np.linalg.inv(small.matrix)
    if np.abs(repeats - np.round(repeats)).max() > 1e-6:
        raise SeedError(
            f"its supercell {small.matrix.tolist()} does not fit a whole number of times into "
            f"{large.matrix.tolist()}: name a run of a cell that this one repeats."
        )
    n_unit = len(small.declaration.unit_cell)
    places = small.atoms.get_scaled_positions()[small.sites]
    wanted = large.atoms.positions[large.sites] @ np.linalg.inv(small.atoms.cell.array)
    difference = wanted[:, None, :] - places[None, :, :]
    distance = np.abs(difference - np.round(difference)).max(axis=2)
    distance[large.sites[:, None] % n_unit != small.sites[None, :] % n_unit] = np.inf
    return np.asarray(distance.argmin(axis=1))


def _differences(one: Host, other: Host) -> list[str]:
    """Return in what two declarations differ, names and supercells apart."""
    first, second = json.loads(host_to_json(one)), json.loads(host_to_json(other))
    return [k for k in first if k not in ("name", "supercell") and first[k] != second[k]]
