"""A learning loop in numbers: a row for each round, and DFT jobs against the error of the hull."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gasearch.dft.jobs.folders import JobFolder
from gasearch.learning.folder import LearnFolder

COLUMNS = (
    "round",
    "searched with",
    "DFT jobs",
    "kept order",
    "E_f error\n(meV/f.u.)",
    "tau",
    "forces\n(meV/Å)",
    "cells\n(%)",
    "error /\nsigma",
    "hull\nexpected",
    "hull\nso far",
    "hull at x",
    "new model",
)
"""Of the table of rounds. The two hull errors are largest deviations from the last hull of DFT, in
meV/f.u.: of the hull that was expected before the round's DFT, and of all DFT results after it."""
TEXTS = ("searched with", "hull at x", "new model")
Document = Mapping[str, Any]


def learn_document(folder: LearnFolder) -> dict[str, Any]:
    """Return what is known of a loop: rounds that are over, and what the next one waits for."""
    rounds = [one.result() or {} for one in folder.rounds()]
    last = rounds[-1]["hull"] if rounds else []
    curve = [
        {
            "round": one["number"],
            "jobs": one["jobs"]["jobs"],
            "expected_hull_error_per_fu": hull_error(one["expected_hull"], last),
            "hull_error_per_fu": hull_error(one["hull"], last),
        }
        for one in rounds
    ]
    return {"rounds": rounds, "learning_curve": curve, "under_way": _under_way(folder)}


def _under_way(folder: LearnFolder) -> dict[str, Any] | None:
    """Return what is there of the round that is not over; None where it was not begun."""
    own = folder.round(len(folder.rounds()) + 1)
    if not own.path.exists() and own.number > 1:
        return None
    plan = own.plan()
    if plan is None:
        phase = "searching"
    elif own.frames.exists():
        phase = "training"
    else:
        phase = "DFT"
    states = Counter(_states(folder, plan or {}))
    return {"round": own.number, "phase": phase, "jobs": dict(states)}


def _states(folder: LearnFolder, plan: Document) -> Iterator[str]:
    """Yield where the DFT job of each chosen candidate stands."""
    for one in plan.get("chosen", ()):
        job = JobFolder.of(folder.path / one["run"], one["id"], plan["level"])
        yield job.status().state if job.exists else "not begun"


def hull_error(hull: Sequence[Document], reference: Sequence[Document]) -> float | None:
    """Return the largest deviation of a hull from another one, in eV/f.u.

    Both are lines through the formation energies of their members; None where one has no two.
    """
    if len(hull) < 2 or len(reference) < 2:
        return None
    lines = [_line(hull), _line(reference)]
    x = np.union1d(lines[0][0], lines[1][0])
    return float(np.abs(np.interp(x, *lines[0]) - np.interp(x, *lines[1])).max())


def _line(hull: Sequence[Document]) -> tuple[list[float], list[float]]:
    ordered = sorted(hull, key=lambda one: one["x"])
    return [one["x"] for one in ordered], [one["formation_per_fu"] for one in ordered]


def rows(document: Document) -> list[tuple[str, ...]]:
    """Return the cells of the table of rounds."""
    return [
        _row(one, point)
        for one, point in zip(document["rounds"], document["learning_curve"], strict=True)
    ]


def _row(one: Document, point: Document) -> tuple[str, ...]:
    found, jobs, training = one["agreement"], one["jobs"], one["training"]
    return (
        str(one["number"]),
        one["searched_with"] or "as in run.toml",
        str(jobs["jobs"]),
        str(jobs["kept"]),
        _milli(found["formation_error_per_fu"]),
        "-" if found["order_tau"] is None else f"{found['order_tau']:.2f}",
        _milli(found["force_error"], 0),
        "-" if found.get("cell_error") is None else f"{100 * found['cell_error']:.1f}",
        "-" if found["spread"] is None else f"{found['spread']:.1f}",
        _milli(point["expected_hull_error_per_fu"]),
        _milli(point["hull_error_per_fu"]),
        ", ".join(f"{member['x']:.3g}" for member in one["hull"]) or "-",
        "-" if training is None else "kept" if training["is_kept"] else "kept out",
    )


def _milli(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{1000 * value:.{digits}f}"
