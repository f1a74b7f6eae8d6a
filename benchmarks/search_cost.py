"""Processor time of the engine itself per proposed candidate, screening included.

Results of random decorations are put in as if they had been relaxed; then proposals are timed, each
result known before the next. Processor time hardly depends on what else the machine does, yet not
wholly: a matrix product of the same run stands beside the figures.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from energies import Digits

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition, Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.operators.contract import default_operators
from gasearch.run.sections import ScreeningSection
from gasearch.search.proposer import ProposalSettings, Proposer
from gasearch.search.surrogate.fitting import is_refit
from gasearch.store.records import Outcome, Proposal

CELLS = ((1, 3, 1), (1, 3, 2))
N_RESULTS = (100, 1_000, 5_000)
N_PROPOSALS = 50
"""At 5,000 results the model is fitted anew for every 50th candidate: one such is among them."""
N_FEATURES = 20_000
LAW, NOISE = 0.02, 0.02
"""Standard deviations of the energies' linear law over features and of their noise, in eV/f.u."""
YARDSTICK = 1_000


class Energies:
    """A random linear law over the surrogate's own features, a line over x, and noise."""

    def __init__(self, proposer: Proposer) -> None:
        self._features = proposer.schedule.features
        self._rng = np.random.default_rng(1)
        n = len(self._features)
        self._weights = self._rng.normal(size=n) * LAW / np.sqrt(n)

    def __call__(self, occupations: Digits, composition: Composition) -> np.ndarray:
        """Return (n,) energies of occupations (n, n_sites), in eV/f.u."""
        law = self._features(occupations, composition) @ self._weights
        return law - 30.0 + composition.x + NOISE * self._rng.normal(size=len(law))


def filled_proposer(host: Host, n_results: int) -> tuple[Proposer, Energies]:
    """Return a search over all compositions that knows so many results of random decorations."""
    settings = ProposalSettings(screening=ScreeningSection(), coulomb=True)
    proposer = Proposer(host, default_operators(), host.compositions, settings)
    energies = Energies(proposer)
    rng = np.random.default_rng(0)
    drawn: dict[str, Decoration] = {}
    ends = [Decoration.random(host, host.compositions[n], rng) for n in (0, -1)]
    drawn |= {end.fingerprint: end for end in ends}
    while len(drawn) < n_results:
        composition = host.compositions[int(rng.integers(len(host.compositions)))]
        decoration = Decoration.random(host, composition, rng)
        drawn[decoration.fingerprint] = decoration
    for number, decoration in enumerate(drawn.values(), start=1):
        proposer.register(Proposal.of(number, decoration, "random"))
        add_result(proposer, energies, number, decoration)
    return proposer, energies


def add_result(proposer: Proposer, energies: Energies, number: int, decoration: Decoration) -> None:
    """Make the energy of a candidate known."""
    per_fu = float(energies(decoration.occupation[None], decoration.composition)[0])
    energy = per_fu * decoration.host.n_formula_units
    proposer.add_outcome(Outcome(number, number, decoration.formula, energy, "ok", 1))


def yardstick_s() -> float:
    """Return the processor time of a product of two square matrices of side `YARDSTICK`."""
    matrix = np.random.default_rng(0).random((YARDSTICK, YARDSTICK))
    times = []
    for _ in range(5):
        started = time.process_time()
        matrix @ matrix
        times.append(time.process_time() - started)
    return float(np.median(times))


def cost_at(host: Host, n_results: int) -> dict[str, Any]:
    """Return the times of proposals that follow so many results, and of one refit."""
    proposer, energies = filled_proposer(host, n_results)
    number = n_results + 1
    first = time.process_time()
    _propose(proposer, energies, number)  # pays for lists of compositions, once per search
    first = time.process_time() - first
    times = []
    for number in range(n_results + 2, n_results + 2 + N_PROPOSALS):
        started = time.process_time()
        _propose(proposer, energies, number)
        times.append(time.process_time() - started)
    refit = next(n for n in range(number + 1, 3 * number) if is_refit(n))
    proposer.schedule.begin(refit)
    started = time.process_time()
    is_used = proposer.schedule.fitted is not None
    return {
        "cell": "x".join(map(str, np.diag(host.matrix).tolist())),
        "n_formula_units": host.n_formula_units,
        "n_results": n_results,
        "n_features": len(proposer.schedule.features),
        "is_used": is_used,
        "refit_s": time.process_time() - started,
        "first_s": first,
        "mean_s": float(np.mean(times)),
        "longest_s": max(times),
        "features_per_s": features_per_s(proposer, host),
        "yardstick_s": yardstick_s(),
    }


def _propose(proposer: Proposer, energies: Energies, number: int) -> None:
    proposal = proposer.propose(number)
    if proposal is None:
        raise RuntimeError("nothing is left to propose.")
    decoration = Decoration.from_bytes(proposer.history.host, proposal.occupation)
    add_result(proposer, energies, number, decoration)


def features_per_s(proposer: Proposer, host: Host) -> float:
    """Return decorations per second of processor time whose features are computed."""
    composition = host.compositions[2 * len(host.compositions) // 3]
    rng = np.random.default_rng(0)
    some = np.array([host.random_occupation(composition, rng) for _ in range(1_000)])
    occupations = np.tile(some, (N_FEATURES // len(some), 1))
    started = time.process_time()
    proposer.schedule.features(occupations, composition)
    return len(occupations) / (time.process_time() - started)


def measure_cost() -> list[dict[str, Any]]:
    """Return the engine's times for each cell and number of results."""
    found = []
    for cell in CELLS:
        host = Host.build(builtin_host("nafepo4-olivine"), cell)
        for n_results in N_RESULTS:
            found.append(cost_at(host, n_results))
            print(found[-1], file=sys.stderr)
    return found
