"""Random numbers that survive a restart: one generator per candidate, none shared."""

from __future__ import annotations

import hashlib

import numpy as np


def candidate_rng(seed: int, candidate: int) -> np.random.Generator:
    """Return the generator that belongs to one candidate alone."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(candidate,)))


def named_rng(seed: int, name: str) -> np.random.Generator:
    """Return the generator that belongs to a name, such as the fingerprint of a decoration."""
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype="<u4")
    return np.random.default_rng(np.random.SeedSequence([seed, *map(int, words)]))
