"""Which charge order came out: kept, moved or delocalised."""

import ase.io
import numpy as np
import pytest
from places import SHIPPED_FRAMES

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.species import Species
from gasearch.dft.classify import classify, moment_ranges
from gasearch.dft.errors import DftError


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
