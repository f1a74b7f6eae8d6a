"""Made-up records, for the tests of whatever uses a population database, up to a whole one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from ase import Atoms

from gasearch.relax.audit import VERDICTS
from gasearch.relax.relaxed import Relaxed
from gasearch.store.location import Place
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import Committed, Lease, LevelRecord, Proposal, RunRecord

LEVEL = LevelRecord(
    name="made-up",
    potential="pmmcs",
    weights_hash="",
    probe_energies=(-1.25, 0.1 + 0.2),
    ranks_only=True,
)


def example_atoms(seed: int = 0, n_formula_units: int = 1) -> Atoms:
    """Return 7 atoms per formula unit of NaFePO4 at random places, half of the Fe being Fe3+."""
    rng = np.random.default_rng(seed)
    n_atoms = 7 * n_formula_units
    is_oxidised = np.arange(n_formula_units) % 2 == 1
    charges = [np.ones(n_formula_units), np.where(is_oxidised, 3, 2), [5] * n_formula_units]
    moments = [np.zeros(n_formula_units), np.where(is_oxidised, 5, 4)]
    return Atoms(
        f"Na{n_formula_units}Fe{n_formula_units}P{n_formula_units}O{4 * n_formula_units}",
        positions=10 * rng.random((n_atoms, 3)),
        cell=10 * np.eye(3) + rng.random((3, 3)),
        pbc=True,
        charges=np.concatenate([*charges, [-2] * 4 * n_formula_units]),
        magmoms=np.concatenate([*moments, np.zeros(5 * n_formula_units)]),
    )


def example_run(n_formula_units: int = 1, **changes: Any) -> RunRecord:
    """Return the declaration of a run."""
    run = RunRecord(
        host='{"name":"made-up"}',
        host_atoms=example_atoms(0, n_formula_units),
        settings={"relax.fmax": 0.02, "search.operators": ["swap", "crossover"]},
        operational={"budget": 500, "device": "cpu"},
        seed=2**70,
        n_formula_units=n_formula_units,
        versions={"numpy": np.__version__},
    )
    return dataclasses.replace(run, **changes)


def example_proposal(number: int | None, **changes: Any) -> Proposal:
    """Return a candidate; all numbers give different crystals."""
    proposal = Proposal(
        number=number,
        occupation=f"decoration {number}".encode(),
        fingerprint=f"fp{number}",
        orbit_size=8,
        composition="Na1Fe1P1O4",
        x=0.5,
        operator="swap",
    )
    return dataclasses.replace(proposal, **changes)


def example_relaxed(seed: int = 0, n_formula_units: int = 1, **changes: Any) -> Relaxed:
    """Return a result; its energy is -10 eV minus `seed`."""
    rng = np.random.default_rng(seed)
    n_atoms = 7 * n_formula_units
    stress = rng.random((3, 3))
    relaxed = Relaxed(
        atoms=example_atoms(seed, n_formula_units),
        energy=-10.0 - seed,
        forces=rng.random((n_atoms, 3)),
        stress=stress + stress.T,
        fmax=0.01,
        smax=0.002,
        n_calls=30,
        converged=True,
        moments=rng.random(n_atoms),
        bond_lengths=2 + rng.random(n_formula_units),
        verdict="ok",
        reason="",
        audit="moments-1",
        wall_s=1.5,
        energy_sigma=0.02,
        force_sigma=0.1,
    )
    if changes.get("verdict") == "failed":
        nan = float("nan")
        results = {"energy": nan, "fmax": nan, "smax": nan, "moments": None, "converged": False}
        results |= {"energy_sigma": nan, "force_sigma": nan}
        arrays = {"forces": np.full((n_atoms, 3), nan), "stress": np.full((3, 3), nan)}
        changes = {**results, **arrays, "bond_lengths": np.zeros(0), **changes}
    return dataclasses.replace(relaxed, **changes)


def create(place: Place, n_formula_units: int = 1) -> PopulationStore:
    """Return a new database without candidates."""
    return PopulationStore.create(place, example_run(n_formula_units), LEVEL)


def propose_and_lease(store: PopulationStore, n: int, **changes: Any) -> tuple[Lease, ...]:
    """Add the next `n` candidates and hand them out, in one commit."""
    batch = store.batch()
    numbers = range(store.n_candidates + 1, store.n_candidates + 1 + n)
    batch.propose(example_proposal(number, **changes) for number in numbers)
    batch.lease(numbers)
    return batch.commit().leases


def record(
    store: PopulationStore, leases: Iterable[Lease], n_formula_units: int = 1, **changes: Any
) -> Committed:
    """Write a result for each lease, in one commit."""
    batch = store.batch()
    for lease in leases:
        batch.record(lease, example_relaxed(lease.candidate, n_formula_units, **changes))
    return batch.commit()


def fill(store: PopulationStore, n: int, n_formula_units: int = 1) -> None:
    """Add `n` candidates of every verdict, parentage and state; the last one stays in flight."""
    for number in range(store.n_candidates + 1, store.n_candidates + 1 + n):
        batch = store.batch()
        parents = tuple(range(max(1, number - number % 3), number))
        x = (number % 5) / 4
        proposal = example_proposal(
            number,
            parents=parents,
            x=x,
            composition=f"Na{4 * x:.0f}Fe4",
            n_rejected=number % 2,
            budget=500,
            details={"rates": {"swap": 1 / number}} if number % 3 else {},
        )
        batch.propose([proposal])
        batch.lease([number])
        (lease,) = batch.commit().leases
        if number % 4 == 0:
            late, (lease,) = (
                lease,
                (store.batch().requeue(lease, "no sign of life", crashed=True).lease([number]))
                .commit()
                .leases,
            )
            record(store, [late], n_formula_units, energy=-9.0 - number)
        verdict = VERDICTS[number % len(VERDICTS)] if number % 2 else "ok"
        record(store, [lease], n_formula_units, verdict=verdict)
        if number % 6 == 0:
            batch = store.batch()
            batch.queue_tight([number])
            batch.lease([number])
            sign = 1 if number % 12 else -1
            energy = -10.0 - number - 0.1 * sign
            record(store, batch.commit().leases, n_formula_units, energy=energy)
    propose_and_lease(store, 1)
