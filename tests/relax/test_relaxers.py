"""What holds for every relaxer: labels, streams, faults, and what is given up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from olivine import LabelReader, WithMoments, assert_equal, olivine, undistorted

from gasearch.potentials.contract import Batch, Evaluated, Uncertainty
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.ase_relaxer import ReferenceRelaxer
from gasearch.relax.batched.memory import BatchLimit, expected_edges
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

QUICK = RelaxSettings(fmax=0.3, smax=0.03)
Make = Callable[..., ReferenceRelaxer | BatchRelaxer]


def two_at_once(*args: Any, **kwargs: Any) -> BatchRelaxer:
    """Return a batch relaxer with few places, some of which must be refilled."""
    edges = 2.5 * expected_edges(olivine(1.0), Pmmcs.cutoff)
    return BatchRelaxer(*args, limit=BatchLimit(edges, edges), **kwargs)


@pytest.fixture(params=[ReferenceRelaxer, two_at_once], ids=["reference", "batched"])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param  # type: ignore[no-any-return]


def one(make: Make, potential: Pmmcs, atoms: Atoms, **settings: float) -> Relaxed:
    relaxer = make(potential, RelaxSettings(**settings))  # type: ignore[arg-type]
    ((number, relaxed),) = relaxer.relax([(7, atoms)])
    assert number == 7
    return relaxed


def test_labels_and_the_order_of_atoms_come_out_unchanged(make: Make) -> None:
    starts = {number: olivine((0.5, 0.75, 0.25)[number % 3], number) for number in range(4)}
    before = {number: atoms.copy() for number, atoms in starts.items()}
    for number, relaxed in make(Pmmcs(), QUICK).relax(starts.items()):
        for label in ("numbers", "initial_charges", "initial_magmoms"):
            np.testing.assert_array_equal(relaxed.atoms.arrays[label], before[number].arrays[label])
        assert relaxed.atoms.cell.handedness == 1
        assert relaxed.wall_s > 0
        assert relaxed.atoms.calc is None
    assert starts == before  # the start structures are left alone


def test_the_stream_is_lazy_and_results_come_as_they_finish(make: Make) -> None:
    taken = []

    def endless() -> Iterator[tuple[int, Atoms]]:
        for number in itertools.count():
            taken.append(number)
            yield number, olivine(0.5, number % 4)

    results = make(Pmmcs(), QUICK).relax(endless())
    assert len({next(results)[0] for _ in range(3)}) == 3
    assert len(taken) < 20


def test_a_fixed_cell_stays_and_its_stress_does_not_count(make: Make) -> None:
    atoms = undistorted(0.5)
    relaxed = one(make, Pmmcs(), atoms, relax_cell=False)
    assert relaxed.verdict == "ok"
    np.testing.assert_array_equal(relaxed.atoms.cell.array, atoms.cell.array)
    assert relaxed.smax > 0.002


# One structure of three goes wrong: the one with most sodium, which is easy to tell.


class Faulty(Pmmcs):
    """Spoils what it says about structures with four Na, from their fourth call on."""

    def __init__(self, spoil: Callable[[Evaluated], Evaluated]) -> None:
        super().__init__()
        self.spoil = spoil
        self.seen = 0

    def evaluate(self, batch: Batch) -> Evaluated:
        results = Evaluated.unknown(batch)
        for row, part in enumerate(batch.split()):
            rows = slice(row, row + 1)
            results.put(self.one(part), rows, batch.atoms_of(rows))
        return replace(results, moments=None)

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


def raising(found: Evaluated) -> Evaluated:
    raise RuntimeError("it\n  broke")


def exploding(found: Evaluated) -> Evaluated:
    return replace(found, forces=1e5 * found.forces)


downhill = itertools.count(1)


def swelling(found: Evaluated) -> Evaluated:
    """The more volume the better."""
    found.stresses[:] = -0.5 * torch.eye(3)
    return replace(found, energies=found.energies - 1e3 * next(downhill))


CANDIDATES = {1: olivine(0.5), 2: olivine(1.0), 3: olivine(0.25)}


@pytest.fixture(scope="module")
def sound() -> dict[Any, dict[int, Relaxed]]:
    """The same structures, each relaxed alone by either relaxer."""
    return {
        make: {n: dict(make(Pmmcs(), QUICK).relax([(n, CANDIDATES[n])]))[n] for n in (1, 3)}
        for make in (ReferenceRelaxer, two_at_once)
    }


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
    make: Make,
    sound: dict[Any, dict[int, Relaxed]],
    spoil: Callable[[Evaluated], Evaluated],
    verdict: str,
    reason: str,
) -> None:
    found = dict(make(Faulty(spoil), QUICK).relax(CANDIDATES.items()))
    bad = found[2]
    assert bad.verdict == verdict
    assert bad.reason.startswith(reason)
    assert not bad.converged
    assert np.isfinite(bad.energy) == (verdict == "broken")
    if spoil is swelling:
        assert 4 < bad.n_calls < 50
    else:
        assert bad.n_calls == 4
    if verdict == "failed":
        assert bad.atoms == CANDIDATES[2]
    for number, expected in sound[make].items():
        assert found[number].verdict == "ok"
        assert_equal(found[number], expected)


class Answering(Pmmcs):
    """Answers with whatever a function makes of the batch."""

    def __init__(self, answer: Callable[[Batch], tuple[torch.Tensor, torch.Tensor]]) -> None:
        super().__init__()
        self.answer = answer

    def evaluate(self, batch: Batch) -> Evaluated:
        energies, forces = self.answer(batch)
        return Evaluated(energies, forces, torch.zeros_like(batch.cells))


def test_an_interrupt_is_no_failure_of_the_candidate(make: Make) -> None:
    def interrupted(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one(make, Answering(interrupted), olivine())


def test_atoms_that_fuse_are_found_on_the_way(make: Make) -> None:
    def spring(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        between = batch.positions[1] - batch.positions[0]
        forces = torch.zeros_like(batch.positions)
        forces[0], forces[1] = between, -between
        return (between @ between / 2)[None], forces

    relaxed = one(make, Answering(spring), undistorted())
    assert relaxed.verdict == "broken"
    assert "Na 1 " in relaxed.reason
    assert relaxed.reason.endswith(" Å apart")
    assert relaxed.n_calls < 30


@pytest.mark.parametrize("max_calls", [1, 3])
def test_a_relaxation_that_runs_out_of_calls_is_unconverged(make: Make, max_calls: int) -> None:
    relaxed = one(make, Pmmcs(), olivine(), max_calls=max_calls)
    assert relaxed.verdict == "unconverged"
    assert relaxed.reason.startswith(f"after {max_calls} calls the largest force is ")
    assert relaxed.n_calls == max_calls
    assert not relaxed.converged
    assert np.isfinite(relaxed.energy)


def test_a_relaxation_that_gets_nowhere_is_unconverged(make: Make) -> None:
    def wind(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        forces = torch.zeros_like(batch.positions)
        forces[:, 0] = 0.05
        return torch.zeros(1, dtype=torch.float64), forces

    relaxed = one(make, Answering(wind), olivine(), max_calls=40)
    assert relaxed.verdict == "unconverged"
    assert relaxed.n_calls == 40


def test_moments_that_contradict_labels_lose_the_order(make: Make) -> None:
    starts = {1: undistorted(0.5), 2: undistorted(1.0)}
    found = dict(make(WithMoments(), QUICK).relax(starts.items()))
    assert found[1].verdict == "order_lost"
    assert "is labelled Fe3+ but has moment 3.90" in found[1].reason
    assert found[1].converged
    assert found[1].moments is not None
    assert found[1].moments.shape == (len(starts[1]),)
    assert found[1].moments.dtype == np.float64
    assert found[2].verdict == "ok"


def test_an_independent_reader_counts_before_the_potential(make: Make) -> None:
    ((_, relaxed),) = make(WithMoments(), QUICK, LabelReader()).relax([(1, undistorted(0.5))])
    assert relaxed.verdict == "ok"
    assert relaxed.moments is not None
    assert relaxed.moments.max() == pytest.approx(4.6)


class Certain(Pmmcs):
    """Knows how certain it is, and by whom it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Atoms] = []

    def uncertainty(self, structures: Sequence[Atoms]) -> Uncertainty:
        """Return a tenth of the volume, and nothing of forces."""
        self.asked += structures
        volumes = np.array([atoms.cell.volume for atoms in structures])
        return Uncertainty(volumes / 10, np.full(len(volumes), np.inf))


def test_a_potential_is_asked_once_of_each_result_how_certain_it_is(make: Make) -> None:
    potential = Certain()
    starts = {number: olivine(0.5, number) for number in range(3)}
    starts[1].positions[1] = starts[1].positions[0]
    starts[1].cell = [1, 1, 1]
    results = dict(make(potential, QUICK).relax(starts.items()))
    assert len(potential.asked) == 2
    for number in (0, 2):
        sigma = results[number].energy_sigma
        assert sigma == pytest.approx(results[number].atoms.cell.volume / 10)
        assert np.isnan(results[number].force_sigma)
    assert results[1].verdict == "failed"
    assert np.isnan(results[1].energy_sigma)
    assert np.isnan(one(make, Pmmcs(), starts[0], fmax=0.3).energy_sigma)


class Mistaken(Pmmcs):
    """Breaks when it is asked how certain it is."""

    def uncertainty(self, structures: Sequence[Atoms]) -> Uncertainty:
        """Raise."""
        raise ZeroDivisionError(len(structures))


def test_a_potential_that_cannot_say_how_certain_it_is_costs_the_result(make: Make) -> None:
    ((_, found),) = make(Mistaken(), QUICK).relax([(3, olivine(0.5))])
    assert found.verdict == "failed"
    assert "ZeroDivisionError" in found.reason
    assert found.n_calls > 1
