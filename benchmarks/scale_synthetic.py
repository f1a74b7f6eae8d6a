"""A population database of any size, written directly: as a search leaves it, structures left out.

Candidates are distinct decorations with canonical fingerprints, each with its event lines and one
evaluation with verdict ok. Their structures have the columns of a real one and blobs of a few
bytes, which nothing reads that is measured here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy import insert, select

from gasearch.crystal.host import Host
from gasearch.store.population_store import PopulationStore
from gasearch.store.schema import candidate, evaluation, event, structure
from gasearch.store.sql.blobs import digest

_CHUNK = 20_000
_BLOBS = ("numbers", "positions", "cell", "initial_charges", "initial_magmoms", "forces", "stress")


class Filler:
    """Adds candidates to a database in which a few were searched."""

    def __init__(self, host: Host, store: PopulationStore, seed: int = 7) -> None:
        self._host = host
        self._store = store
        self._rng = np.random.default_rng(seed)
        self._known = {one.fingerprint for one in store.proposals()}
        query = select(structure).where(structure.c.id == 1)
        row = store.read(lambda connection: connection.execute(query).one())
        self._template = row._asdict() | dict.fromkeys(_BLOBS, b"0")

    def fill(self, n_candidates: int) -> None:
        """Add candidates until there are so many."""
        while (n := self._store.n_candidates) < n_candidates:
            self._add(n, min(_CHUNK, n_candidates - n))

    def _add(self, n_before: int, number: int) -> None:
        rows: dict[str, list[dict[str, Any]]] = {"candidate": [], "evaluation": [], "structure": []}
        for occupation, fingerprint, orbit_size in self._fresh(number):
            key = n_before + len(rows["candidate"]) + 1
            composition = self._host.composition_of(occupation)
            rows["candidate"].append(
                {
                    "id": key,
                    "run": 1,
                    "composition": composition.formula,
                    "x": composition.x,
                    "orbit_size": orbit_size,
                    "operator": "na_vacancy_swap",
                    "origin": "search",
                    "generation": 1,
                    "known": key - 1,
                    "n_rejected": 0,
                    "fingerprint": fingerprint,
                    "occupation_sha256": digest(occupation.tobytes()),
                    "occupation": occupation.tobytes(),
                    "budget": 0,
                    "details": None,
                }
            )
            energy = float(self._rng.normal()) - 100.0
            rows["evaluation"].append(
                {
                    "id": key,
                    "candidate": key,
                    "level": 1,
                    "purpose": "search",
                    "state": "relaxed",
                    "attempt": 1,
                    "n_crashes": 0,
                    "lease_ends": None,
                    "result": key,
                    "verdict": "ok",
                    "energy": energy,
                    "n_calls": 30,
                    "fmax": 0.01,
                    "smax": 0.001,
                    "converged": True,
                    "wall_s": 1.0,
                    "finished": float(key),
                    "elements": "",
                    "audit": "none",
                    "reason": "",
                }
            )
            rows["structure"].append(self._template | {"id": key, "counts_for": key})
        self._store.write(lambda transaction: self._insert(transaction.connection, rows))

    def _insert(self, connection: Any, rows: dict[str, list[dict[str, Any]]]) -> None:
        connection.execute(insert(candidate), rows["candidate"])
        connection.execute(insert(evaluation), rows["evaluation"])
        connection.execute(insert(structure), rows["structure"])
        last = connection.execute(select(event.c.id).order_by(event.c.id.desc()).limit(1)).scalar()
        lines = [
            {
                "id": last + 3 * n + part + 1,
                "time": 1.0,
                "kind": kind,
                "candidate": row["id"],
                "data": '{"purpose": "search", "attempt": 1}',
            }
            for n, row in enumerate(rows["candidate"])
            for part, kind in enumerate(("proposed", "leased", "recorded"))
        ]
        connection.execute(insert(event), lines)

    def _fresh(self, number: int) -> list[tuple[Any, str, int]]:
        """Return decorations that the database does not hold."""
        found: list[tuple[Any, str, int]] = []
        canonicalizer, middle = self._host.canonicalizer, self._host.compositions[3:-3]
        while len(found) < number:
            chosen = self._rng.integers(len(middle), size=number)
            draws = np.array([self._host.random_occupation(middle[n], self._rng) for n in chosen])
            words, sizes = canonicalizer.canonical_words(draws)
            for occupation, word, size in zip(draws, words, sizes.tolist(), strict=True):
                fingerprint = canonicalizer.text(word)
                if fingerprint not in self._known and len(found) < number:
                    self._known.add(fingerprint)
                    found.append((occupation.astype(np.uint8), fingerprint, size))
        return found
