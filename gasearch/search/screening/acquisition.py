"""Acquisition functions: how much the relaxation of a candidate promises, by its prediction.

Another one is named in run.toml, as `[screening] acquisition = "./my_file.py:name"`, or registered
in the entry-point group `gasearch.acquisitions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from gasearch.errors import GasearchError, UsageError
from gasearch.plugins import load_plugin

Floats = NDArray[np.float64]


class Acquisition(Protocol):
    """A function that scores candidates of one composition; the highest of all is relaxed.

    Pure: the same numbers give the same scores. They compete with those of other compositions, so
    they are in one unit, eV/f.u.
    """

    def __call__(
        self, mean: Floats, deviation: Floats, lowest: float | None, hull: float | None, /
    ) -> Floats:
        """Return (n,) scores.

        Parameters
        ----------
        mean, deviation
            (n,) predicted energies and their standard deviations, in eV/f.u.
        lowest
            The lowest energy known at the composition, in eV/f.u.; None before there is one.
        hull
            The hull's energy there, in eV/f.u.; None where energies make no hull, or before both
            ends of the range are known.
        """
        ...


def expected_improvement(
    mean: Floats, deviation: Floats, lowest: float | None, hull: float | None
) -> Floats:
    """Return half the expected lowering of the niche's minimum and half that of the hull.

    The niche alone counts without a hull; before the first result of a niche, what is predicted
    lowest and known least comes first.
    """
    if lowest is None:
        return np.asarray(deviation + mean.min() - mean)
    niche = expected_lowering(mean, deviation, lowest)
    return niche if hull is None else (niche + expected_lowering(mean, deviation, hull)) / 2


def expected_lowering(mean: Floats, deviation: Floats, threshold: float) -> Floats:
    """Return (n,) how far below a threshold a normal variable lies on average, 0 where above.

    Jones, Schonlau and Welch, J. Global Optim. 13, 455 (1998), eq. 15. All in one unit.
    """
    safe = np.maximum(deviation, 1e-12)
    below = (threshold - mean) / safe
    density = np.exp(-0.5 * below**2) / np.sqrt(2 * np.pi)
    return np.asarray(safe * (below * ndtr(below) + density))


class AcquisitionError(GasearchError, RuntimeError):
    """An acquisition function that broke its contract while the search ran."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"acquisition function {self.name!r} {self.problem}"


@dataclass(frozen=True)
class _Checked:
    """A function of the user; what it raises or returns wrongly becomes an `AcquisitionError`."""

    name: str
    function: Acquisition

    def __call__(
        self, mean: Floats, deviation: Floats, lowest: float | None, hull: float | None, /
    ) -> Floats:
        try:
            scores = np.asarray(self.function(mean, deviation, lowest, hull), dtype=float)
        except Exception as error:
            raise AcquisitionError(self.name, f"raised {type(error).__name__}: {error}") from error
        if scores.shape != mean.shape or np.isnan(scores).any():
            problem = f"returned {scores!r}, not a number for each of {len(mean)} candidates."
            raise AcquisitionError(self.name, problem)
        return scores


BUILT_IN = {"expected_improvement": expected_improvement}


def load_acquisition(text: str, folder: Path) -> Acquisition:
    """Return the acquisition function that a run.toml names.

    Parameters
    ----------
    text
        "expected_improvement", another registered name, `module:name` or `./file.py:name`.
    folder
        Where relative files are looked up.
    """
    if text in BUILT_IN:
        return BUILT_IN[text]
    function = load_plugin("acquisition", text, folder, BUILT_IN)
    if not callable(function) or isinstance(function, type):
        raise UsageError(
            f"acquisition {text!r} is no function: it needs `(mean, deviation, lowest, hull)`; see "
            "gasearch.search.screening.acquisition.Acquisition."
        )
    return _Checked(text, function)
