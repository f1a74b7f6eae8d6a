"""The batch relaxer: as exact as the reference, and no structure knows of the others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.species import Species
from gasearch.potentials.contract import Batch, Evaluated
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.ase_relaxer import ReferenceRelaxer
from gasearch.relax.audit import CHARGE_RULE
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))


def olivine(x: float = 0.5, seed: int = 0, rattle: float = 0.05) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Decoration.random(HOST, HOST.composition_at(x), rng).to_atoms()
    atoms.positions += rng.normal(0, rattle, atoms.positions.shape)
    return atoms


def crowd(n: int) -> list[tuple[int, Atoms]]:
    return [(100 + k, olivine((0.5, 0.75, 0.25)[k % 3], k)) for k in range(n)]


def relax(
    candidates: list[tuple[int, Atoms]], potential: Pmmcs | None = None, **settings: float
) -> dict[int, Relaxed]:
    chosen = RelaxSettings(**settings)  # type: ignore[arg-type]
    found = list(BatchRelaxer(potential or Pmmcs(), chosen).relax(iter(candidates)))
    assert sorted(number for number, _ in found) == sorted(number for number, _ in candidates)
    return dict(found)


def assert_equal(one: Relaxed, other: Relaxed) -> None:
    assert one.energy == other.energy
    assert one.n_calls == other.n_calls
    assert (one.verdict, one.reason) == (other.verdict, other.reason)
    np.testing.assert_array_equal(one.atoms.positions, other.atoms.positions)
    np.testing.assert_array_equal(one.atoms.cell.array, other.atoms.cell.array)
    np.testing.assert_array_equal(one.forces, other.forces)
    np.testing.assert_array_equal(one.stress, other.stress)


def test_minima_are_those_of_the_reference_in_about_as_many_calls() -> None:
    candidates = crowd(8)
    found = relax(candidates, fmax=0.01)
    expected = dict(ReferenceRelaxer(Pmmcs(), RelaxSettings(fmax=0.01)).relax(candidates))
    for number, one in found.items():
        assert (one.verdict, one.reason, one.audit) == ("ok", "", CHARGE_RULE)
        assert one.converged
        assert one.fmax <= 0.01
        assert one.smax <= 0.002
        assert one.energy == pytest.approx(expected[number].energy, abs=1e-3)
        np.testing.assert_allclose(one.bond_lengths, expected[number].bond_lengths, atol=5e-3)
        again = Pmmcs().evaluate(Batch.from_atoms([one.atoms]))
        assert one.energy == pytest.approx(float(again.energies[0]), abs=1e-9)
        np.testing.assert_allclose(one.stress, again.stresses[0], atol=1e-12)
    calls = [sum(r.n_calls for r in results.values()) for results in (found, expected)]
    assert calls[0] < 1.1 * calls[1]


def test_a_structure_ends_in_the_same_bits_alone_and_in_a_crowd() -> None:
    candidates = crowd(7)
    candidates[2] = (candidates[2][0], olivine(1.0, 9).repeat((1, 2, 1)))
    together = relax(candidates)
    for number, atoms in candidates:
        assert_equal(relax([(number, atoms)])[number], together[number])


def test_labels_come_out_as_they_went_in() -> None:
    candidates = crowd(6)
    before = {number: atoms.copy() for number, atoms in candidates}
    for number, one in relax(candidates).items():
        for label in ("numbers", "initial_charges", "initial_magmoms"):
            np.testing.assert_array_equal(one.atoms.arrays[label], before[number].arrays[label])
        assert one.atoms.cell.handedness == 1
    assert all(atoms == before[number] for number, atoms in candidates)


def test_a_result_that_got_the_labels_of_another_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gasearch.relax.batched.state import State

    start = State.start.__func__  # type: ignore[attr-defined]

    def shuffled(cls, arrivals, device):  # type: ignore[no-untyped-def]
        state = start(cls, arrivals, device)
        return replace(state, labels=state.labels.roll(1, 0))

    monkeypatch.setattr(State, "start", classmethod(shuffled))
    (found,) = relax([(1, olivine())]).values()
    assert found.verdict == "failed"
    assert "changed 'initial_charges'" in found.reason


def test_the_stream_is_lazy_and_results_come_as_they_finish() -> None:
    taken = []

    def endless() -> Iterator[tuple[int, Atoms]]:
        number = 0
        while True:
            taken.append(number)
            yield number, olivine(0.5, number % 4)
            number += 1

    results = BatchRelaxer(Pmmcs()).relax(endless())
    first = [next(results)[0] for _ in range(5)]
    assert len(set(first)) == 5
    assert len(taken) < 60


def test_each_candidate_may_have_its_own_thresholds() -> None:
    relaxer = BatchRelaxer(Pmmcs(), RelaxSettings(fmax=0.1))
    relaxer.submit(1, olivine())
    relaxer.submit(2, olivine(), RelaxSettings(fmax=0.005))
    relaxer.submit(3, olivine(), RelaxSettings(relax_cell=False))
    found: dict[int, Relaxed] = {}
    while len(relaxer):
        found |= dict(relaxer.step())
    assert found[1].n_calls < found[2].n_calls
    assert found[2].fmax <= 0.005
    np.testing.assert_array_equal(found[3].atoms.cell.array, olivine().cell.array)
    assert found[3].smax > 0.002
    assert found[3].verdict == "ok"


# One structure goes wrong in a crowd of three: the one with most sodium, which is easy to tell.


downhill = itertools.count(1)


class Faulty(Pmmcs):
    """Spoils what it says about structures with four Na, from their fourth call on."""

    def __init__(self, spoil: Callable[[Evaluated], Evaluated]) -> None:
        super().__init__()
        self.spoil = spoil
        self.seen = 0

    def evaluate(self, batch: Batch) -> Evaluated:
        parts = [self.one(part) for part in batch.split()]
        return Evaluated(
            torch.cat([part.energies for part in parts]),
            torch.cat([part.forces for part in parts]),
            torch.cat([part.stresses for part in parts]),
        )

    def one(self, part: Batch) -> Evaluated:
        found = super().evaluate(part)
        if int((part.numbers == 11).sum()) < 4:
            return found
        self.seen += 1
        return self.spoil(found) if self.seen >= 4 else found


def nan_energy(found: Evaluated) -> Evaluated:
    return replace(found, energies=found.energies * torch.nan)


def infinite_force(found: Evaluated) -> Evaluated:
    found.forces[3, 1] = torch.inf
    return found


def nan_stress(found: Evaluated) -> Evaluated:
    return replace(found, stresses=found.stresses * torch.nan)


def exploding(found: Evaluated) -> Evaluated:
    return replace(found, forces=1e5 * found.forces)


def swelling(found: Evaluated) -> Evaluated:
    """The more volume the better."""
    found.stresses[:] = -0.5 * torch.eye(3)
    return replace(found, energies=found.energies - 1e3 * next(downhill))


def raising(found: Evaluated) -> Evaluated:
    raise RuntimeError("it\n  broke")


@pytest.mark.parametrize(
    ("spoil", "verdict", "reason"),
    [
        (nan_energy, "failed", "potential 'pmmcs' gave energy that are not finite numbers."),
        (infinite_force, "failed", "potential 'pmmcs' gave forces that are not finite numbers."),
        (nan_stress, "failed", "potential 'pmmcs' gave stress that are not finite numbers."),
        (raising, "failed", "RuntimeError: it broke"),
        (exploding, "broken", "it explodes: a force of"),
        (swelling, "broken", "the volume changed by +"),
    ],
)
def test_one_bad_structure_costs_only_itself(
    spoil: Callable[[Evaluated], Evaluated], verdict: str, reason: str
) -> None:
    candidates = [(1, olivine(0.5)), (2, olivine(1.0)), (3, olivine(0.25))]
    found = relax(candidates, Faulty(spoil))
    assert found[2].verdict == verdict
    assert found[2].reason.startswith(reason)
    assert 4 <= found[2].n_calls < 60
    if verdict == "failed":
        assert found[2].n_calls == 4
        assert found[2].atoms == candidates[1][1]
        assert np.isnan(found[2].energy)
    for number in (1, 3):
        assert_equal(found[number], relax([candidates[number - 1]])[number])


def test_candidates_that_make_no_sense_fail_with_the_reason() -> None:
    left, charged, unlabelled, foreign = olivine(), olivine(1.0), olivine(), olivine()
    flat, nowhere = olivine(), olivine()
    flat.set_cell(flat.cell.array * [1, 1, 1e-6], scale_atoms=True)
    nowhere.positions[3, 1] = np.nan
    left.set_cell(left.cell.array[[1, 0, 2]])
    del charged[0]
    unlabelled.set_initial_charges(None)
    foreign.numbers[0] = 37
    bad = {1: left, 2: charged, 3: unlabelled, 4: foreign, 6: flat, 7: nowhere}
    found = relax([*bad.items(), (5, olivine())])
    assert {number: one.verdict for number, one in found.items()} == {
        **dict.fromkeys(bad, "failed"),
        5: "ok",
    }
    assert found[1].reason.startswith("the cell of Na2Fe4P4O16 is left-handed")
    assert "Na3Fe4P4O16 has charge -1" in found[2].reason
    assert "carries no formal charges" in found[3].reason
    assert "does not know Rb+" in found[4].reason
    assert "is flat or far too small for its atoms" in found[6].reason
    assert "positions are not finite" in found[7].reason
    assert found[1].n_calls == found[3].n_calls == found[4].n_calls == 0


def test_fused_atoms_are_found() -> None:
    class Spring(Pmmcs):
        def evaluate(self, batch: Batch) -> Evaluated:
            between = batch.positions[1] - batch.positions[0]
            forces = torch.zeros_like(batch.positions)
            forces[0], forces[1] = between, -between
            energy = (between @ between / 2)[None]
            return Evaluated(energy, forces, torch.zeros_like(batch.cells))

    (found,) = relax([(1, olivine(0.5, rattle=0))], Spring()).values()
    assert found.verdict == "broken"
    assert " Å apart" in found.reason
    assert found.n_calls < 30


@pytest.mark.parametrize("max_calls", [1, 3])
def test_no_structure_takes_more_calls_than_it_may(max_calls: int) -> None:
    found = relax(crowd(3), max_calls=max_calls)
    for one in found.values():
        assert one.verdict == "unconverged"
        assert one.reason.startswith(f"after {max_calls} calls the largest force is ")
        assert one.n_calls == max_calls
        assert not one.converged
        assert np.isfinite(one.energy)


class WithMoments(Pmmcs):
    """Reads every Fe as Fe2+, whatever its label."""

    moment_ranges = {Species("Fe", 2): (3.0, 4.15), Species("Fe", 3): (4.15, 5.0)}  # noqa: RUF012

    def evaluate(self, batch: Batch) -> Evaluated:
        moments = torch.where(batch.numbers == 26, 3.9, 0.0).double()
        return replace(super().evaluate(batch), moments=moments)


class LabelReader:
    """Reads the high-spin moments that the labels say."""

    ranges = WithMoments.moment_ranges

    def read(self, atoms: Atoms) -> np.ndarray:
        return 0.92 * atoms.get_initial_magnetic_moments()


def test_moments_that_contradict_labels_lose_the_order() -> None:
    found = dict(BatchRelaxer(WithMoments()).relax([(1, olivine(0.5)), (2, olivine(1.0))]))
    assert found[1].verdict == "order_lost"
    assert "is labelled Fe3+ but has moment 3.90" in found[1].reason
    assert found[1].moments is not None
    assert found[1].moments.shape == (len(olivine()),)
    assert found[2].verdict == "ok"
    read = dict(BatchRelaxer(WithMoments(), reader=LabelReader()).relax([(1, olivine(0.5))]))
    assert read[1].verdict == "ok"
    assert read[1].moments.max() == pytest.approx(4.6)  # type: ignore[union-attr]
