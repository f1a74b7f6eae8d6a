"""The batch relaxer: as exact as the reference, and no structure knows of the others."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from olivine import assert_equal, olivine

from gasearch.potentials.contract import Batch, Evaluated
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.ase_relaxer import ReferenceRelaxer
from gasearch.relax.audit import CHARGE_RULE
from gasearch.relax.batched import relaxer as module
from gasearch.relax.batched.memory import BatchLimit, expected_edges
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.batched.state import State
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings


def crowd(n: int) -> list[tuple[int, Atoms]]:
    return [(100 + k, olivine((0.5, 0.75, 0.25)[k % 3], k)) for k in range(n)]


def relax(
    candidates: list[tuple[int, Atoms]],
    potential: Pmmcs | None = None,
    limit: BatchLimit | None = None,
    **settings: float,
) -> dict[int, Relaxed]:
    chosen = RelaxSettings(**settings)  # type: ignore[arg-type]
    relaxer = BatchRelaxer(potential or Pmmcs(), chosen, limit=limit)
    found = list(relaxer.relax(iter(candidates)))
    assert sorted(number for number, _ in found) == sorted(number for number, _ in candidates)
    return dict(found)


def test_minima_are_those_of_the_reference_in_about_as_many_calls() -> None:
    candidates = crowd(4)
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
    together = relax(candidates, fmax=0.1)
    for number, atoms in candidates:
        assert_equal(relax([(number, atoms)], fmax=0.1)[number], together[number])


def test_a_result_that_got_the_labels_of_another_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = State.start.__func__  # type: ignore[attr-defined]

    def shuffled(cls, arrivals, device):  # type: ignore[no-untyped-def]
        state = start(cls, arrivals, device)
        return replace(state, labels=state.labels.roll(1, 0))

    monkeypatch.setattr(State, "start", classmethod(shuffled))
    (found,) = relax([(1, olivine())]).values()
    assert found.verdict == "failed"
    assert "changed 'initial_charges'" in found.reason


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


def test_an_observer_learns_who_has_a_place_before_each_evaluation() -> None:
    observed: list[list[int]] = []

    class Potential(Pmmcs):
        def evaluate(self, batch: Batch) -> Evaluated:
            evaluated.append(len(batch))
            assert len(observed) == len(evaluated)
            return super().evaluate(batch)

    evaluated: list[int] = []
    relaxer = BatchRelaxer(Potential(), RelaxSettings(max_calls=3), observe=observed.append)
    for number in (7, 8):
        relaxer.submit(number, olivine())
    relaxer.step()
    relaxer.submit(9, olivine(0.75, 1))
    while len(relaxer):
        relaxer.step()
    assert observed == [[7, 8], [7, 8, 9], [7, 8, 9], [9]]
    assert evaluated == [2, 3, 3, 1]


def room_for(n: float) -> BatchLimit:
    """Return a limit that holds so many of the structures with three Na."""
    most = n * expected_edges(olivine(0.75), Pmmcs.cutoff)
    return BatchLimit(most, most)


def test_places_are_refilled_and_never_exceed_the_limit() -> None:
    class Counted(Pmmcs):
        def evaluate(self, batch: Batch) -> Evaluated:
            sizes.append(len(batch))
            return super().evaluate(batch)

    sizes: list[int] = []
    candidates = [(k, olivine((0.5, 0.75)[k % 2], k % 6)) for k in range(10)]
    relax(candidates, Counted(), room_for(3.2), fmax=0.1)
    assert max(sizes) == 3
    assert np.mean([size == 3 for size in sizes]) > 0.6


def test_newcomers_step_as_in_a_fresh_run() -> None:
    candidates = [(seed, olivine(0.5, seed)) for seed in range(4)]
    alone, refilled = (relax(candidates, limit=room_for(n), fmax=0.1) for n in (1.5, 2.5))
    for number, relaxed in alone.items():
        assert_equal(relaxed, refilled[number])


def test_the_time_is_shared_out_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is a second after the last one."""
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr(module, "time", clock)
    starts = [olivine(0.5), olivine(1.0, 1).repeat((1, 2, 1)), olivine(0.75, 2)]
    found = relax([*enumerate(starts)], max_calls=3)
    shares = [len(atoms) / sum(map(len, starts)) for atoms in starts]
    assert [found[k].wall_s for k in range(3)] == pytest.approx([3 * share for share in shares])
