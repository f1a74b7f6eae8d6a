"""Which runs may share a hull: those of one host, and of hosts of one chemistry (polymorphs)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gasearch.crystal.chemistry import Chemistry
from gasearch.crystal.io.hosts import host_from_json
from gasearch.errors import UsageError
from gasearch.store.records import RunRecord

_CRYSTAL = ("numbers", "cell", "positions")
"""Keys of a stored host that tell its crystal from another one."""


class DifferentRunsError(UsageError):
    """Runs whose energies cannot be compared."""

    def __init__(self, what: str, first: tuple[str, str], second: tuple[str, str]) -> None:
        super().__init__(what, first, second)
        self.what = what
        self.first = first
        self.second = second

    def __str__(self) -> str:
        (a, one), (b, other) = self.first, self.second
        return (
            f"{a} and {b} cannot be in one hull, their {self.what} differ: {one} and {other}. "
            f"Show them one by one."
        )


def refuse_other_chemistry(first: tuple[str, RunRecord], other: tuple[str, RunRecord]) -> None:
    """Refuse a run of another composition, or of the same crystal in other settings.

    Parameters
    ----------
    first, other
        Each run with the name of its folder.
    """
    documents = [_declared(run) for _, run in (first, other)]
    if documents[0] == documents[1]:
        return
    one, two = (document["name"] for document in documents)
    keys = sorted(key for key in documents[0] if documents[0][key] != documents[1].get(key))
    if not set(_CRYSTAL).intersection(keys):
        settings = ", ".join(key for key in keys if key != "name")
        two += f" with another {settings}" if settings else ""
        raise DifferentRunsError("hosts", (first[0], one), (other[0], two))
    charges = [document.get("charges", "integer") for document in documents]
    if charges[0] != charges[1]:
        raise DifferentRunsError(
            "charges", (first[0], f"{charges[0]} ({one})"), (other[0], f"{charges[1]} ({two})")
        )
    chemistries = [Chemistry.of(host_from_json(run.host)) for _, run in (first, other)]
    if chemistries[0] != chemistries[1]:
        what, texts = _differing(chemistries)
        raise DifferentRunsError(
            what, (first[0], f"{texts[0]} ({one})"), (other[0], f"{texts[1]} ({two})")
        )


def _differing(chemistries: Sequence[Chemistry]) -> tuple[str, list[str]]:
    """Return what differs between two hosts, and how it reads in each."""
    units = [dict(chemistry.kept) for chemistry in chemistries]
    what = "compositions"
    if units[0].keys() == units[1].keys():
        scales = {units[1][element] / n for element, n in units[0].items()}
        what = "formula units" if len(scales) == 1 and scales != {1} else what
    formulas = {x: [chemistry.formula(x) for chemistry in chemistries] for x in (1, 0)}
    x = next((x for x, (one, two) in formulas.items() if one != two), 1)
    return what, [f"{formula} at x = {x}" for formula in formulas[x]]


def host_names(runs: Sequence[tuple[str, RunRecord]]) -> list[str]:
    """Return a name of the host of each run; the run's is added where two crystals share one.

    Parameters
    ----------
    runs
        Each with the name of its folder.
    """
    crystals: dict[str, list[dict[str, Any]]] = {}
    firsts: list[tuple[dict[str, Any], str]] = []
    for folder, run in runs:
        document = _declared(run)
        if all(document != known for known, _ in firsts):
            firsts.append((document, folder))
            crystals.setdefault(document["name"], []).append(document)
    names = []
    for _, run in runs:
        document = _declared(run)
        name = str(document["name"])
        if len(crystals[name]) > 1:
            name += f" ({next(folder for known, folder in firsts if known == document)})"
        names.append(name)
    return names


def _declared(run: RunRecord) -> dict[str, Any]:
    """Return what declares the host, but for the supercell."""
    document: dict[str, Any] = json.loads(run.host)
    document.pop("supercell", None)
    return document
