"""Moments by label: totals, where a calculation starts, and alternating signs."""

import numpy as np
import pytest
from ase import Atoms
from ase.spacegroup import crystal

from gasearch.crystal.declaration import HostDeclaration, SublatticeDeclaration
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.moments import bonded_nonmetals, usual_spin
from gasearch.crystal.species import VACANCY, Species
from gasearch.dft.classify import moment_ranges
from gasearch.dft.levels import dft_level
from gasearch.dft.spins import (
    alternating_signs,
    assumptions,
    atomic_limit,
    bonded_anions,
    doubts,
    input_doubts,
    spin_of,
    spins,
    start_moments,
    total_moment,
    with_usual_spins,
)
from gasearch.run.dft_section import DftSection


def decorated(host, x):
    return Decoration.random(host, host.composition_at(x), np.random.default_rng(1)).to_atoms()


@pytest.mark.parametrize("x", [0, 0.25, 0.5, 0.75, 1])
def test_the_total_moment_is_five_per_iron_less_one_per_sodium(host, x):
    atoms = decorated(host, x)
    assert total_moment(atoms, {}) == 5 * 4 - 4 * x


def test_the_spin_state_table_overrides_high_spin():
    assert spin_of(Species("Co", 3), {}) == 4
    assert spin_of(Species("Co", 3), {"Co3+": 0.0}) == 0
    atoms = Atoms("CoNi", charges=[3, 3])
    assert total_moment(atoms, {"Co3+": 0.0, "Ni3+": 1.0}) == 1


@pytest.mark.parametrize(
    ("element", "limit"),
    [
        ("V", 3),
        ("Mn", 5),
        ("Fe", 4),
        ("Co", 3),
        ("Ni", 2),
        ("O", 0),
        ("P", 0),
        ("Ce", 1),
        ("Gd", 7),
    ],
)
def test_a_free_atom_takes_no_more_than_it_has(element, limit):
    assert atomic_limit(Species(element, 1).number) == limit


def test_the_spin_of_a_hole_starts_on_the_six_oxygens_around_it(host):
    atoms = decorated(host, 0.75)
    moments = start_moments(atoms, {})
    iron = atoms.symbols == "Fe"
    assert moments[iron] == pytest.approx(4)
    (hole,) = np.flatnonzero(iron & (atoms.get_initial_charges() == 3))
    around = bonded_anions(atoms, int(hole))
    assert len(around) == 6
    assert set(atoms.symbols[around]) == {"O"}
    assert moments[around] == pytest.approx(1 / 6)
    assert moments.sum() == pytest.approx(total_moment(atoms, {}))


def test_manganese_starts_with_its_own_moments():
    atoms = Atoms("MnMnO", positions=[[0, 0, 0], [4, 0, 0], [2, 0, 0]], cell=[8, 8, 8], pbc=True)
    atoms.set_initial_charges([2, 3, -2])
    assert start_moments(atoms, {}) == pytest.approx([5, 4, 0])


def test_neighbours_of_a_chain_point_up_and_down():
    atoms = Atoms("Fe4", positions=[[3 * n, 0, 0] for n in range(4)], cell=[12, 9, 9], pbc=True)
    atoms.set_initial_charges([2, 3, 3, 2])
    signs = alternating_signs(atoms, {})
    assert signs.tolist() in ([1, -1, 1, -1], [-1, 1, -1, 1])
    assert (signs * spins(atoms, {})).sum() == 0


def test_the_antiferromagnet_of_olivine_has_no_parallel_neighbours(host):
    atoms = decorated(host, 1)
    signs = alternating_signs(atoms, {})
    iron = np.flatnonzero(atoms.symbols == "Fe")
    distances = atoms[iron].get_all_distances(mic=True)
    np.fill_diagonal(distances, np.inf)
    nearest = distances < distances.min() + 0.1
    pairs = signs[iron][:, None] * signs[iron]
    assert (pairs[nearest] == -1).all()
    assert signs[iron].sum() == 0


def test_a_sum_of_alternating_moments_is_not_negative(host):
    atoms = decorated(host, 0.75)
    assert (alternating_signs(atoms, {}) * spins(atoms, {})).sum() >= 0


@pytest.mark.parametrize(
    ("ion", "around", "moment"),
    [("Co3+", "OOOOOO", 0), ("Ni3+", "OOOOOO", 1), ("Ni4+", "OOOOOO", 0), ("Ru4+", "OOOOOO", 2),
     ("Ir5+", "OOOOOO", 2), ("Rh3+", "OOOOOO", 0), ("Mn3+", "OOOOOO", 4), ("Fe3+", "OOOOOO", 5),
     ("Fe2+", "OOOOOO", 4), ("Co2+", "OOOOOO", 3), ("Ni2+", "OOOOOO", 2), ("Mo4+", "OOOOOO", 2),
     ("Co3+", "FFFFFF", 4), ("Ni4+", "FFFFFF", 0), ("Co3+", "OOOO", 4), ("Fe2+", "CCCCCC", 0),
     ("Fe3+", "CCCCCC", 1), ("Fe2+", "NNNNNN", 4), ("Mn2+", "CCCCCC", 1), ("Co3+", "", 4)],
)  # fmt: skip
def test_the_usual_spin_state_goes_by_ion_and_coordination(ion, around, moment):
    assert usual_spin(Species.parse(ion), tuple(around)).moment == moment


def layered(metal, *states):
    """Return a host of layered LiMO2 with these species of M, one formula unit."""
    unit = crystal(
        ["Li", metal, "O"], [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.2585)], spacegroup=166,
        cellpar=[2.88, 2.88, 14.2, 90, 90, 120], primitive_cell=True,
    )  # fmt: skip
    sublattices = (
        SublatticeDeclaration("working_ion", ("Li",), (Species("Li", 1), VACANCY)),
        SublatticeDeclaration("redox", (metal,), tuple(map(Species.parse, states))),
    )
    framework = {"O": Species("O", -2)}
    return Host.build(
        HostDeclaration("layered", unit, sublattices, framework, f"Li{metal}O2"), (2, 2, 1)
    )


def test_neighbours_are_found_through_all_images_of_a_small_cell():
    host = layered("Co", "Co3+", "Co4+")
    assert bonded_nonmetals(host.declaration.unit_cell, [1]) == [("O",) * 6]


def test_cobalt_and_nickel_of_layered_oxides_are_low_spin_in_inputs_and_in_their_level():
    host = layered("Co", "Co3+", "Co4+")
    section = with_usual_spins(DftSection(), host)
    assert section.spin_states == {"Co3+": 0.0, "Co4+": 1.0}
    assert with_usual_spins(section, host) == section
    full = decorated(host, 1)
    assert total_moment(full, section.spin_states) == 0
    assert total_moment(decorated(host, 0.5), section.spin_states) == 2
    assert dft_level("vasp", DftSection(), host).settings["spin_states"] == section.spin_states
    moments, hubbard = assumptions(host, DftSection())
    assert moments == (
        "moments by label: Co3+ 0 (low spin, between 6 O), Co4+ 1 (low spin, between 6 O)"
    )
    assert hubbard == "Hubbard U: 3.32 eV on Co"
    assert doubts(host, DftSection()) == []
    told = DftSection(spin_states={"Co3+": 4.0})
    assert with_usual_spins(told, host).spin_states == {"Co3+": 4.0, "Co4+": 1.0}
    assert "Co3+ 4 (set in [dft.spin_states])" in assumptions(host, told)[0]
    ranges = moment_ranges(host, "vasp", section.spin_states, {})
    assert ranges[Species("Co", 3)] == (0, pytest.approx(0.3))


def test_a_declared_spin_state_has_its_moment_and_needs_no_table():
    host = layered("Ni", "Ni3+ ls", "Ni4+ ls")
    assert with_usual_spins(DftSection(), host).spin_states == {}
    assert total_moment(decorated(host, 0.5), {}) == 2
    assert "Ni3+ ls 1 (low spin), Ni4+ ls 0 (low spin)" in assumptions(host, DftSection())[0]


def test_high_spin_ions_of_olivine_leave_level_and_table_as_they_were(host):
    assert with_usual_spins(DftSection(), host).spin_states == {}
    moments, hubbard = assumptions(host, DftSection())
    assert moments == "moments by label: Fe2+ 4 (high spin), Fe3+ 5 (high spin)"
    assert hubbard == "Hubbard U: 5.3 eV on Fe"


def test_a_redox_element_without_u_is_said():
    species = [Species.parse(ion) for ion in ("Li+", "Fe2+", "Fe3+", "Ce3+", "Ce4+", "P5+", "O2-")]
    (doubt,) = input_doubts(species, DftSection())
    assert "no U on Ce (5.3 eV on Fe)" in doubt
    assert input_doubts(species, DftSection(hubbard_u_eV={"Fe": 5.3, "Ce": 5.0})) == []
    copper = [Species.parse(ion) for ion in ("Cu+", "Cu2+", "F-")]
    assert "no U on Cu (nor on others)" in input_doubts(copper, DftSection())[0]


def test_a_u_for_oxides_is_doubted_elsewhere():
    sulfide = [Species.parse(ion) for ion in ("Li+", "Fe2+", "Fe3+", "S2-")]
    (doubt,) = input_doubts(sulfide, DftSection())
    assert "the U on Fe was fitted to oxides, and the anions here are S" in doubt


def test_an_open_f_shell_has_its_moment():
    assert [spin_of(Species.parse(ion), {}) for ion in ("Ce3+", "Ce4+", "La3+", "Gd3+")] == [
        1, 0, 0, 7,
    ]  # fmt: skip
    assert spin_of(Species.parse("Ce3+"), {"Ce3+": 0.0}) == 0
