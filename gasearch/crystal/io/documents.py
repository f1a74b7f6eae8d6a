"""Structures in JSON as pymatgen and the Materials Project write them; no pymatgen is needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from gasearch.crystal.io.cif import text_of


def documents(path: Path) -> list[Mapping[str, Any]]:
    """Return the structures in a JSON file: single, in a list, or as entries that hold one.

    Empty if it has none of this kind; ASE writes its own JSON otherwise.
    """
    try:
        return list(_within(json.loads(text_of(path))))
    except ValueError:
        return []


def _within(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        for one in value:
            yield from _within(one)
    elif isinstance(value, dict) and {"lattice", "sites"} <= value.keys():
        yield value
    elif isinstance(value, dict):
        for key in ("structure", "data", "response", "entries"):
            yield from _within(value.get(key))


def states_of(document: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return the mean oxidation state of each element, per site, where a structure has them."""
    found = []
    for site in document["sites"]:
        weights: dict[str, float] = {}
        sums: dict[str, float] = {}
        for kind in site["species"]:
            element, state = _element(str(kind["element"])), kind.get("oxidation_state")
            share = float(kind.get("occu", 1.0))
            weights[element] = weights.get(element, 0.0) + share
            sums[element] = sums.get(element, 0.0) + share * (nan if state is None else state)
        means = {e: sums[e] / weight for e, weight in weights.items() if weight and e != "X"}
        found.append({e: round(mean, 4) for e, mean in means.items() if not np.isnan(mean)})
    return found


def parts(
    document: Mapping[str, Any],
) -> tuple[Atoms, list[dict[str, float]], list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Return the atoms, shares, labels, oxidation states (n,) in e and moments (n,) of a structure.

    NaN where it has none; a vacancy is X. Oxidation states of sites that are shared: `states_of`.
    """
    sites = document["sites"]
    shares: list[dict[str, float]] = []
    charges = np.full(len(sites), np.nan)
    moments = np.full(len(sites), np.nan)
    for n, site in enumerate(sites):
        own: dict[str, float] = {}
        for kind in site["species"]:
            element = _element(str(kind["element"]))
            own[element] = own.get(element, 0.0) + float(kind.get("occu", 1.0))
        shares.append(own if len(own) == 1 else {e: s for e, s in own.items() if e != "X"})
        states = {kind.get("oxidation_state") for kind in site["species"]}
        if "X" not in own and len(states) == 1 and (state := states.pop()) is not None:
            charges[n] = float(state)
        moments[n] = _moment(site)
    main = [max(own, key=lambda e: own[e]) for own in shares]
    named = zip(main, sites, strict=True)
    cell = np.array(document["lattice"]["matrix"], dtype=float)
    atoms = Atoms(main, scaled_positions=[site["abc"] for site in sites], cell=cell, pbc=True)
    labels = [str(site.get("label") or f"{e}{n}") for n, (e, site) in enumerate(named)]
    return atoms, shares, labels, charges, moments


def _element(text: str) -> str:
    return text if text in atomic_numbers else "X"


def _moment(site: Mapping[str, Any]) -> float:
    """Return the size of a moment, however it is kept; NaN if there is none."""
    value = (site.get("properties") or {}).get("magmom")
    if value is None:
        kind = site["species"][0]
        value = kind.get("spin", (kind.get("properties") or {}).get("spin"))
    if isinstance(value, dict):
        value = value.get("moment")
    return float("nan") if value is None else float(np.linalg.norm(value))
