"""Searches without relaxations: outcomes that end at once, and results of zero cost."""

import numpy as np

from gasearch.crystal.decoration import Decoration
from gasearch.relax.relaxed import Relaxed
from gasearch.search.visibility import Immediate
from gasearch.store.records import Outcome


def decoration_of(host, proposal):
    return Decoration.from_bytes(host, proposal.occupation)


def search(
    proposer,
    energy,
    number,
    budget=0,
    visibility=None,
    *,
    verdict=lambda k: "ok",
    n_calls=lambda k: 9,
    lag=0,
):
    """Return proposals and outcomes of a search whose relaxations end at once, or `lag` later.

    `energy` is a function of decorations, in eV of the whole cell.
    """
    visibility = visibility or Immediate()
    proposals, outcomes, waiting = [], [], []
    for k in range(1, number + 1):
        for outcome in visibility.release(k):
            proposer.add_outcome(outcome)
        proposal = proposer.propose(k, budget)
        if proposal is None:
            break
        found = energy(decoration_of(proposer.history.host, proposal))
        waiting.append(Outcome(k, k, proposal.composition, found, verdict(k), n_calls(k)))
        while len(waiting) > lag:
            outcomes.append(waiting.pop(0))
            visibility.add(outcomes[-1])
        proposals.append(proposal)
    return proposals, outcomes


def relaxed(atoms, **changes):
    """Return a structure as if it were relaxed."""
    n = len(atoms)
    values = {
        "energy": -1.0,
        "forces": np.zeros((n, 3)),
        "stress": np.zeros((3, 3)),
        "fmax": 0.0,
        "smax": 0.0,
        "n_calls": 3,
        "converged": True,
        "moments": None,
        "bond_lengths": np.zeros(8),
        "verdict": "ok",
        "reason": "",
        "audit": "none",
        "wall_s": 0.0,
    }
    return Relaxed(atoms=atoms, **values | changes)
