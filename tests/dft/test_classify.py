"""Which charge order came out: kept, moved or delocalised."""

import dataclasses

import ase.io
import numpy as np
import pytest
from host_classes import p2
from places import SHIPPED_FRAMES

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.species import Species
from gasearch.dft.classify import classify, moment_ranges, not_judged, unjudged
from gasearch.dft.errors import DftError
from gasearch.testing import toy_host


@pytest.fixture(scope="module")
def ranges(host):
    return moment_ranges(host, "gpaw", {}, {})


def half(host, seed=0):
    return Decoration.random(host, host.composition_at(0.5), np.random.default_rng(seed))


def moments_of(atoms, values):
    """Return moments of a structure, by oxidation state of its iron."""
    charges = atoms.get_initial_charges()
    return np.array(
        [
            values[round(q)] if e == "Fe" else 0.02
            for e, q in zip(atoms.symbols, charges, strict=True)
        ]
    )


GPAW = {2: 3.66, 3: 4.29}


def test_labels_that_the_moments_confirm_are_kept(host, ranges):
    asked = half(host)
    atoms = asked.to_atoms()
    found = classify(asked, atoms, moments_of(atoms, GPAW), ranges, host)
    assert (found.order, found.reason) == ("kept", "")
    assert found.decoration.fingerprint == asked.fingerprint
    assert {str(site.species) for site in found.sites} == {"Fe2+", "Fe3+"}


def test_signs_and_the_sequence_of_atoms_do_not_matter(host, ranges):
    asked = half(host)
    atoms = asked.to_atoms()
    moments = -moments_of(atoms, GPAW)
    order = np.random.default_rng(3).permutation(len(atoms))
    found = classify(asked, atoms[order], moments[order], ranges, host)
    assert found.order == "kept"


def test_a_hole_that_hopped_makes_another_decoration(host, ranges):
    asked, other = half(host, 0), half(host, 5)
    assert asked.fingerprint != other.fingerprint
    atoms = other.to_atoms()
    found = classify(asked, atoms, moments_of(atoms, GPAW), ranges, host)
    assert found.order == "moved"
    assert found.decoration.fingerprint == other.fingerprint
    assert asked.fingerprint in found.reason
    labels = found.atoms.get_initial_charges()
    assert labels.sum() == 0
    assert np.array_equal(labels, atoms.get_initial_charges())


def test_an_ambiguous_moment_is_delocalised(host, ranges):
    asked = half(host)
    atoms = asked.to_atoms()
    found = classify(asked, atoms, moments_of(atoms, {2: 4.04, 3: 4.04}), ranges, host)
    assert (found.order, found.decoration) == ("delocalised", None)
    assert "moment 4.04" in found.reason


def test_states_that_do_not_balance_are_delocalised(host, ranges):
    asked = half(host)
    atoms = asked.to_atoms()
    found = classify(asked, atoms, moments_of(atoms, {2: 3.66, 3: 3.7}), ranges, host)
    assert found.order == "delocalised"
    assert "charge of -2" in found.reason


def test_a_low_spin_moment_is_no_state_that_is_known(host, ranges):
    asked = half(host)
    atoms = asked.to_atoms()
    assert classify(asked, atoms, moments_of(atoms, {2: 0.1, 3: 4.3}), ranges, host).order == (
        "delocalised"
    )


def test_every_frame_of_the_shipped_data_is_classified_by_its_label(host, ranges):
    for frame in ase.io.read(SHIPPED_FRAMES, ":"):
        asked = Decoration.from_atoms(host, frame)
        found = classify(asked, frame, frame.get_magnetic_moments(), ranges, host)
        assert found.order == "kept", frame.info


def spinful(*states):
    """Return perovskite NaxFeF3 with these species of Fe."""
    declaration = toy_host().declaration
    working, redox = declaration.sublattices
    species = tuple(map(Species.parse, states))
    redox = dataclasses.replace(redox, species=species)
    declared = dataclasses.replace(declaration, sublattices=(working, redox))
    return Host.build(declared, (2, 2, 1))


def test_spin_states_come_out_of_their_moments():
    host = spinful("Fe2+", "Fe2+ ls", "Fe3+")
    ranges = moment_ranges(host, "gpaw", {}, {})
    assert not unjudged(host, ranges)
    for seed in range(5):
        asked = half(host, seed)
        atoms = asked.to_atoms()
        moments = 0.92 * atoms.get_initial_magnetic_moments() + 0.05
        found = classify(asked, atoms, moments, ranges, host)
        assert (found.order, found.decoration) == ("kept", asked)
        assert np.array_equal(
            found.atoms.get_initial_magnetic_moments(), atoms.get_initial_magnetic_moments()
        )


def test_elements_whose_states_have_one_moment_keep_the_order_that_was_asked_for():
    host = spinful("Fe2+", "Fe3+", "Fe4+")  # moments 4, 5 and 4
    ranges = moment_ranges(host, "abinit", {}, {})
    assert ranges == {}
    alike = unjudged(host, ranges)
    assert "do not tell apart Fe2+ and Fe3+ and Fe4+" in not_judged(alike)
    asked = half(host)
    atoms = asked.to_atoms()
    atoms.positions += np.random.default_rng(1).normal(0, 0.05, atoms.positions.shape)
    order = np.random.default_rng(2).permutation(len(atoms))
    moments = np.full(len(atoms), 4.0)
    found = classify(asked, atoms[order], moments, ranges, host)
    assert (found.order, found.decoration) == ("kept", asked)
    assert found.sites == ()
    assert classify(None, atoms, moments, ranges, host).order == "delocalised"


def test_holes_of_oxygen_are_told_by_their_moments():
    declaration = toy_host().declaration
    working, redox = declaration.sublattices
    framework, holes = {"Fe": Species("Fe", 3)}, (Species("O", -2), Species("O", -1))
    unit = declaration.unit_cell.copy()
    unit.symbols[unit.symbols == "F"] = "O"
    sublattices = (working, dataclasses.replace(redox, sites=("O",), species=holes))
    declared = dataclasses.replace(
        declaration, unit_cell=unit, sublattices=sublattices, framework=framework,
        formula_unit="NaFeO3",
    )  # fmt: skip
    host = Host.build(declared, (1, 1, 1))
    ranges = moment_ranges(host, "vasp", {}, {})
    asked = Decoration.random(host, host.compositions[-1], np.random.default_rng(0))
    atoms = asked.to_atoms()
    assert sorted(atoms.get_initial_magnetic_moments()) == [0, 0, 1, 1, 5]
    found = classify(asked, atoms, 0.9 * atoms.get_initial_magnetic_moments(), ranges, host)
    assert (found.order, found.decoration) == ("kept", asked)


class TestThresholds:
    def test_they_belong_to_the_code(self, host):
        assert moment_ranges(host, "gpaw", {}, {})[Species("Fe", 3)][0] == 4.1
        assert moment_ranges(host, "vasp", {}, {})[Species("Fe", 3)][0] == 4.2

    def test_a_code_without_a_table_has_those_of_the_design(self, host):
        found = moment_ranges(host, "abinit", {}, {})
        assert found[Species("Fe", 2)][1] == pytest.approx(3.9)
        assert found[Species("Fe", 3)][0] == pytest.approx(4.2)

    def test_the_user_overrides_them(self, host):
        own = {"gpaw": {"Fe3+": (4.0, 4.5)}}
        assert moment_ranges(host, "gpaw", {}, own)[Species("Fe", 3)] == (4.0, 4.5)
        assert moment_ranges(host, "vasp", {}, own)[Species("Fe", 3)][0] == 4.2

    def test_other_spin_states_bring_other_thresholds(self, host):
        found = moment_ranges(host, "gpaw", {"Fe2+": 0.0, "Fe3+": 1.0}, {})
        assert found[Species("Fe", 2)] == (0, pytest.approx(0.3))
        assert found[Species("Fe", 3)][0] == pytest.approx(0.6)

    def test_ranges_that_overlap_are_refused(self, host):
        with pytest.raises(DftError, match="overlap"):
            moment_ranges(host, "gpaw", {}, {"gpaw": {"Fe3+": (3.5, 4.5)}})


def test_orders_of_ions_alone_need_no_charge_that_adds_up():
    """Of a delocalised host no moment is read, and each order is kept as it is."""
    host = p2((1, 1, 1), charges="delocalised")
    asked = Decoration.random(host, host.compositions[0], np.random.default_rng(0))
    atoms = asked.to_atoms()
    assert round(atoms.get_initial_charges().sum()) != 0
    found = classify(asked, atoms, np.zeros(len(atoms)), {}, host)
    assert found.order == "kept"
    assert found.decoration.fingerprint == asked.fingerprint
