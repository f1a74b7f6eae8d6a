"""The reference relaxer: where it ends, what it counts, and what it gives up on."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize.cellawarebfgs import CellAwareBFGS

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.species import Species
from gasearch.potentials.ase_calculator import AseCalculatorPotential
from gasearch.potentials.calculator import PotentialCalculator
from gasearch.potentials.contract import Batch, Evaluated
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.ase_relaxer import ReferenceRelaxer
from gasearch.relax.audit import CHARGE_RULE
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.results import LabelsChangedError, check_labels
from gasearch.relax.settings import RelaxSettings, RelaxSettingsError

HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
Spoil = Callable[[Evaluated, Batch, int], Evaluated]


def olivine(x: float = 0.5, seed: int = 0) -> Atoms:
    """Undistorted sites: where each search begins."""
    return Decoration.random(HOST, HOST.composition_at(x), np.random.default_rng(seed)).to_atoms()


def unspoiled(found: Evaluated, batch: Batch, call: int) -> Evaluated:
    return found


class Counted(Pmmcs):
    """The rigid-ion potential, counting its calls, with one fault."""

    def __init__(self, spoil: Spoil = unspoiled) -> None:
        super().__init__()
        self.calls = 0
        self.spoil = spoil

    def evaluate(self, batch: Batch) -> Evaluated:
        self.calls += 1
        return self.spoil(super().evaluate(batch), batch, self.calls)


def relax(spoil: Spoil, atoms: Atoms | None = None, **settings: float) -> Relaxed:
    potential = Counted(spoil)
    relaxer = ReferenceRelaxer(potential, RelaxSettings(**settings))  # type: ignore[arg-type]
    relaxed = relaxer.relax_one(olivine() if atoms is None else atoms)
    assert relaxed.n_calls == potential.calls
    return relaxed


def test_a_relaxation_from_undistorted_sites_ends_in_a_minimum() -> None:
    atoms = olivine(0.5)
    relaxed = relax(unspoiled, atoms)
    assert (relaxed.verdict, relaxed.reason, relaxed.audit) == ("ok", "", CHARGE_RULE)
    assert relaxed.converged
    assert relaxed.fmax < 0.02
    assert relaxed.smax < 0.002
    assert 5 < relaxed.n_calls < 60
    batch = Batch.from_atoms([relaxed.atoms])
    again = Pmmcs().evaluate(batch)
    assert relaxed.energy == float(again.energies[0])
    np.testing.assert_array_equal(relaxed.forces, again.forces)
    np.testing.assert_allclose(relaxed.stress, again.stresses[0], atol=1e-15)
    assert relaxed.energy < float(Pmmcs().evaluate(Batch.from_atoms([atoms])).energies[0]) - 1
    assert relaxed.moments is None
    assert relaxed.wall_s > 0
    assert relaxed.atoms.calc is None


def test_labels_and_the_order_of_atoms_come_out_unchanged() -> None:
    atoms = olivine(0.5)
    before = atoms.copy()
    relaxed = relax(unspoiled, atoms)
    for label in ("numbers", "initial_charges", "initial_magmoms"):
        np.testing.assert_array_equal(relaxed.atoms.arrays[label], before.arrays[label])
    assert atoms == before  # the start structure is left alone
    assert relaxed.atoms.cell.handedness == 1


def test_relaxed_bonds_tell_the_oxidation_states() -> None:
    relaxed = relax(unspoiled, olivine(0.5))
    charges = relaxed.atoms.get_initial_charges()[relaxed.atoms.numbers == 26]
    assert relaxed.bond_lengths.shape == (4,)
    assert (
        relaxed.bond_lengths[charges == 3].max() < 2.18 < relaxed.bond_lengths[charges == 2].min()
    )


def test_the_same_start_ends_in_the_same_bits() -> None:
    one, two = (relax(unspoiled, olivine(0.75, 3)) for _ in range(2))
    assert one.energy == two.energy
    np.testing.assert_array_equal(one.atoms.positions, two.atoms.positions)
    np.testing.assert_array_equal(one.atoms.cell.array, two.atoms.cell.array)


def test_the_minimum_is_that_of_stock_ase_in_fewer_calls() -> None:
    atoms = olivine(0.5, 1)
    relaxed = relax(unspoiled, atoms, fmax=0.005)
    stock = atoms.copy()
    stock.calc = PotentialCalculator(Pmmcs())
    optimizer = CellAwareBFGS(FrechetCellFilter(stock, exp_cell_factor=1.0), logfile=None)
    optimizer.run(fmax=0.005, smax=0.002)
    assert relaxed.energy == pytest.approx(stock.get_potential_energy(), abs=1e-3)
    assert relaxed.n_calls < 0.8 * stock.calc.n_calls


def test_a_stream_comes_out_in_order_and_one_failure_costs_only_itself() -> None:
    bad = olivine(1.0)
    del bad[0]
    candidates = [(7, olivine(1.0)), (8, bad), (9, olivine(0.0))]
    relaxer = ReferenceRelaxer(Pmmcs())
    found = list(relaxer.relax(iter(candidates)))
    assert [number for number, _ in found] == [7, 8, 9]
    assert [relaxed.verdict for _, relaxed in found] == ["ok", "failed", "ok"]
    assert "Na3Fe4P4O16 has charge -1" in found[1][1].reason
    assert found[2][1].energy == relaxer.relax_one(olivine(0.0)).energy


def test_the_stream_is_lazy() -> None:
    def endless():  # type: ignore[no-untyped-def]
        number = 0
        while True:
            number += 1
            yield number, olivine(1.0)

    stream = ReferenceRelaxer(Pmmcs()).relax(endless())
    assert [next(stream)[0] for _ in range(2)] == [1, 2]


def test_a_fixed_cell_stays_and_its_stress_does_not_count() -> None:
    atoms = olivine(0.5)
    relaxed = relax(unspoiled, atoms, relax_cell=False)
    assert relaxed.verdict == "ok"
    np.testing.assert_array_equal(relaxed.atoms.cell.array, atoms.cell.array)
    assert relaxed.smax > 0.002


def nan_energy(found: Evaluated, batch: Batch, call: int) -> Evaluated:
    return replace(found, energies=found.energies * torch.nan) if call == 4 else found


def infinite_force(found: Evaluated, batch: Batch, call: int) -> Evaluated:
    found.forces[3, 1] = torch.inf if call == 4 else found.forces[3, 1]
    return found


def nan_stress(found: Evaluated, batch: Batch, call: int) -> Evaluated:
    return replace(found, stresses=found.stresses * torch.nan) if call == 4 else found


def raising(found: Evaluated, batch: Batch, call: int) -> Evaluated:
    if call == 4:
        raise RuntimeError("out of\n  memory")
    return found


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (nan_energy, "potential 'pmmcs' gave energy that are not finite numbers."),
        (infinite_force, "potential 'pmmcs' gave forces that are not finite numbers."),
        (nan_stress, "potential 'pmmcs' gave stress that are not finite numbers."),
        (raising, "RuntimeError: out of memory"),
    ],
)
def test_a_fault_of_the_potential_fails_the_candidate_with_its_reason(
    spoil: Spoil, reason: str
) -> None:
    atoms = olivine()
    relaxed = relax(spoil, atoms)
    assert relaxed.verdict == "failed"
    assert relaxed.reason == reason
    assert relaxed.n_calls == 4
    assert not relaxed.converged
    assert np.isnan(relaxed.energy)
    assert relaxed.atoms == atoms


def test_an_interrupt_is_no_failure_of_the_candidate() -> None:
    def interrupted(found: Evaluated, batch: Batch, call: int) -> Evaluated:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relax(interrupted)


def test_an_explosion_is_given_up_at_once() -> None:
    relaxed = relax(lambda found, batch, call: replace(found, forces=1e4 * found.forces))
    assert relaxed.verdict == "broken"
    assert relaxed.reason.startswith("it explodes: a force of")
    assert relaxed.n_calls == 1


def test_a_cell_that_runs_away_is_given_up_early() -> None:
    def swelling(found: Evaluated, batch: Batch, call: int) -> Evaluated:
        return replace(found, stresses=-0.5 * torch.eye(3, dtype=torch.float64)[None])

    relaxed = relax(swelling)
    assert relaxed.verdict == "broken"
    assert "the volume changed by +" in relaxed.reason
    assert relaxed.n_calls < 50
    assert np.isfinite(relaxed.energy)


def test_atoms_that_fuse_are_found() -> None:
    def spring(found: Evaluated, batch: Batch, call: int) -> Evaluated:
        between = batch.positions[1] - batch.positions[0]
        forces = torch.zeros_like(batch.positions)
        forces[0], forces[1] = between, -between
        energy = (between @ between / 2)[None]
        return Evaluated(energy, forces, torch.zeros_like(found.stresses))

    relaxed = relax(spring)
    assert relaxed.verdict == "broken"
    assert relaxed.reason.startswith("Na 0 and Na 1 are ")


def test_a_relaxation_that_runs_out_of_calls_is_unconverged() -> None:
    relaxed = relax(unspoiled, max_calls=3)
    assert relaxed.verdict == "unconverged"
    assert relaxed.reason.startswith("after 3 calls the largest force is ")
    assert relaxed.n_calls == 3
    assert not relaxed.converged
    assert np.isfinite(relaxed.energy)


def test_a_relaxation_that_gets_nowhere_is_unconverged() -> None:
    def wind(found: Evaluated, batch: Batch, call: int) -> Evaluated:
        forces = torch.zeros_like(found.forces)
        forces[:, 0] = 0.05
        return Evaluated(found.energies * 0, forces, found.stresses * 0)

    relaxed = relax(wind, max_calls=40)
    assert relaxed.verdict == "unconverged"
    assert relaxed.n_calls == 40


def test_one_call_may_be_all_there_is() -> None:
    assert relax(unspoiled, max_calls=1).n_calls == 1


def test_a_start_with_fused_atoms_fails_with_the_reason() -> None:
    atoms = olivine()
    atoms.positions[-1] = atoms.positions[0]
    relaxed = relax(unspoiled, atoms)
    assert relaxed.verdict == "failed"
    assert "not finite" in relaxed.reason


def test_a_left_handed_cell_is_refused() -> None:
    atoms = olivine()
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    relaxed = relax(unspoiled, atoms)
    assert relaxed.verdict == "failed"
    assert relaxed.reason.startswith("the cell of Na2Fe4P4O16 is left-handed")
    assert relaxed.n_calls == 0


class Meddler(Calculator):
    """Rewrites the labels of the atoms that it is given."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        atoms.arrays["initial_charges"][:] = 0
        n = len(atoms)
        self.results = {"energy": 0.0, "forces": np.zeros((n, 3)), "stress": np.zeros(6)}


def test_a_calculator_that_changes_labels_fails_the_candidate() -> None:
    relaxer = ReferenceRelaxer(AseCalculatorPotential(Meddler(), "meddler"))
    relaxed = relaxer.relax_one(olivine())
    assert relaxed.verdict == "failed"
    assert "the calculator 'meddler' changed 'initial_charges'" in relaxed.reason


@pytest.mark.parametrize("label", ["numbers", "initial_charges", "initial_magmoms"])
def test_changed_labels_are_noticed(label: str) -> None:
    start, final = olivine(), olivine()
    check_labels(start, final)
    final.arrays[label][[0, 2]] = final.arrays[label][[2, 0]]
    with pytest.raises(LabelsChangedError, match=label):
        check_labels(start, final)
    del final.arrays[label]
    with pytest.raises(LabelsChangedError, match=label):
        check_labels(start, final)


class WithMoments(Pmmcs):
    """Reads every Fe as Fe2+, whatever its label."""

    moment_ranges = {Species("Fe", 2): (3.0, 4.15), Species("Fe", 3): (4.15, 5.0)}  # noqa: RUF012

    def evaluate(self, batch: Batch) -> Evaluated:
        moments = torch.where(batch.numbers == 26, 3.9, 0.0)
        return replace(super().evaluate(batch), moments=moments)


class LabelReader:
    """Reads the high-spin moments that the labels say."""

    ranges = WithMoments.moment_ranges

    def read(self, atoms: Atoms) -> np.ndarray:
        return 0.92 * atoms.get_initial_magnetic_moments()


def test_moments_that_contradict_labels_lose_the_order() -> None:
    relaxed = ReferenceRelaxer(WithMoments()).relax_one(olivine(0.5))
    assert relaxed.verdict == "order_lost"
    assert "is labelled Fe3+ but has moment 3.90" in relaxed.reason
    assert relaxed.converged
    assert relaxed.moments is not None
    assert relaxed.moments.dtype == np.float64
    assert ReferenceRelaxer(WithMoments()).relax_one(olivine(1.0)).verdict == "ok"


def test_an_independent_reader_counts_before_the_potential() -> None:
    relaxed = ReferenceRelaxer(WithMoments(), reader=LabelReader()).relax_one(olivine(0.5))
    assert relaxed.verdict == "ok"
    assert relaxed.moments is not None
    assert relaxed.moments.max() == pytest.approx(4.6)


def test_a_result_survives_pickling() -> None:
    relaxed = relax(unspoiled, max_calls=2)
    copy = pickle.loads(pickle.dumps(relaxed))
    assert copy.energy == relaxed.energy
    np.testing.assert_array_equal(copy.atoms.positions, relaxed.atoms.positions)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"fmax": 0.0}, r"relax.fmax = 0.0: expected a positive number"),
        ({"smax": float("inf")}, r"relax.smax = inf: expected a positive number"),
        ({"max_calls": 0}, r"relax.max_calls = 0: expected a whole number"),
        ({"max_force": 0.01}, r"relax.max_force = 0.01: expected more than fmax"),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, float], told: str) -> None:
    with pytest.raises(RelaxSettingsError, match=told):
        RelaxSettings(**settings)  # type: ignore[arg-type]
