"""What a host's states look like to a potential, and what they can be held by."""

import json
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from crystals import built, olivine

from gasearch.crystal.declaration import HostDeclaration, SublatticeDeclaration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.species import Species
from gasearch.errors import UsageError
from gasearch.potentials.ase_calculator import AseCalculatorPotential
from gasearch.potentials.calculator import PotentialCalculator
from gasearch.potentials.held.potential import HeldByBonds, HeldByMoments
from gasearch.potentials.registry import load_potential
from gasearch.relax import calibration as calibration_of
from gasearch.relax.calibration import (
    Calibration,
    CannotCalibrateError,
    Look,
    Windows,
    calibrate,
    moment_windows,
    windows_for,
    with_hold,
)
from gasearch.relax.settings import RelaxSettings

FE2, FE3 = Species("Fe", 2), Species("Fe", 3)
QUICK = RelaxSettings(fmax=0.3, smax=0.05)


@pytest.fixture(scope="module")
def chgnet():
    return load_potential("chgnet")


@pytest.fixture(scope="module")
def calibration(chgnet):
    return calibrate(built(), chgnet, settings=QUICK)


def olivine_of(metal):
    """Return LiMPO4 in the cell of LiFePO4."""
    iron = builtin_host("lifepo4-olivine")
    unit = iron.unit_cell.copy()
    unit.symbols[unit.symbols == "Fe"] = metal
    working, _ = iron.sublattices
    states = tuple(Species(metal, charge) for charge in (2, 3))
    redox = SublatticeDeclaration("redox", (metal,), states)
    framework = {"P": Species("P", 5), "O": Species("O", -2)}
    declaration = HostDeclaration(metal, unit, (working, redox), framework, f"Li{metal}PO4")
    return Host.build(declaration, (1, 1, 1))


def test_iron_is_held_by_moments_and_judged_by_bonds(calibration):
    assert calibration.hold.by == "moments"
    assert calibration.values["moments"][FE2] == pytest.approx(3.9, abs=0.1)
    assert calibration.values["moments"][FE3] == pytest.approx(4.4, abs=0.1)
    assert calibration.hold.ranges[FE2][1] < calibration.hold.ranges[FE3][0]
    (ranges,) = calibration.judged_by.values()
    middle = sum(calibration.values["bonds"].values()) / 2
    assert ranges[FE2] == pytest.approx((-math.inf, middle), abs=1e-4)


def test_it_comes_back_from_the_record_of_a_run(calibration):
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


def test_what_is_held_one_way_is_judged_the_other_way(chgnet, calibration):
    held, reader = with_hold(chgnet, calibration.to_json(), "own")
    assert isinstance(held, HeldByMoments)
    assert reader.quantity == "bond valence sum"
    by_bonds = calibrate(built(), chgnet, "bonds", settings=QUICK)
    held, reader = with_hold(chgnet, by_bonds.to_json(), "own")
    assert isinstance(held, HeldByBonds)
    assert reader is None
    assert held.moment_ranges == by_bonds.judged_by["moments"]


def test_without_a_hold_the_potential_is_what_it_was(chgnet):
    assert with_hold(chgnet, None, "own") == (chgnet, None)


def test_moments_that_say_nothing_leave_bonds(chgnet):
    """Plain CHGNet gives Co2+ and Co3+ in olivine the same moment."""
    found = calibrate(olivine_of("Co"), chgnet, settings=QUICK)
    assert found.hold.by == "bonds"
    with pytest.raises(CannotCalibrateError, match=r"Co2\+ and Co3\+ look alike.*moment"):
        calibrate(olivine_of("Co"), chgnet, "moments", settings=QUICK)


def test_a_potential_without_moments_is_held_by_bonds():
    found = calibrate(built(), load_potential("pmmcs"), settings=QUICK)
    assert found.hold.by == "bonds"
    assert set(found.values) == {"bonds"}
    assert found.bond_reader() is not None  # nothing else could judge
    with pytest.raises(CannotCalibrateError, match="gives no moments"):
        calibrate(built(), load_potential("pmmcs"), "moments", settings=QUICK)


def test_a_state_that_is_nowhere_alone_lies_on_the_line_through_the_ends(chgnet):
    """LiMn2O4 has Mn3.5+ at x = 1 and Mn4+ at x = 0: Mn3+ is extended from there."""
    spinel = olivine_of("Mn")
    working, _ = spinel.declaration.sublattices
    states = tuple(Species("Mn", charge) for charge in (2, 3, 4))
    three = HostDeclaration(
        "three",
        spinel.declaration.unit_cell,
        (working, SublatticeDeclaration("redox", ("Mn",), states)),
        spinel.declaration.framework,
        "LiMnPO4",
    )
    found = calibrate(Host.build(three, (1, 1, 1)), chgnet, settings=QUICK)
    mn2, mn3, mn4 = (found.values["moments"][state] for state in states)
    assert mn2 - mn3 == pytest.approx(mn3 - mn4)
    low, high = found.hold.ranges[states[1]]
    assert mn4 < low < mn3 < high < mn2


@pytest.fixture(scope="module")
def manganese(chgnet):
    return moment_windows(olivine_of("Mn"), chgnet, QUICK)


def test_windows_of_a_host_lie_between_what_its_ends_show(manganese):
    mn2, mn3 = Species("Mn", 2), Species("Mn", 3)
    assert manganese.alike == {}
    assert manganese.ranges[mn3][1] == pytest.approx(manganese.ranges[mn2][0], abs=1e-3)
    assert manganese.ranges[mn3][0] < 3.95 < manganese.ranges[mn3][1] < 4.66
    assert 4.66 < manganese.ranges[mn2][1] < 5.5
    (line,) = manganese.in_words()
    assert line.startswith("moments of chgnet on this host: Mn2+ 4.")


@pytest.mark.parametrize("metal", ["Ni", "Co"])
def test_an_element_whose_states_look_alike_is_not_judged(chgnet, metal):
    found = moment_windows(olivine_of(metal), chgnet, QUICK)
    assert found.ranges == {}
    (line,) = found.in_words()
    assert re.fullmatch(
        rf"the charge order of {metal} is not judged: {metal}2\+ and {metal}3\+ look alike "
        r"\(\d\.\d\d and \d\.\d\d\)",
        line,
    )
    judge, reader = with_hold(chgnet, None, "own", found.to_json())
    assert (judge.moment_ranges, reader) == (None, None)
    _, reader = with_hold(load_potential("pmmcs"), None, "chgnet", found.to_json())
    assert reader.ranges == {}


def test_windows_come_back_from_the_record_and_judge(chgnet, manganese):
    recorded = json.loads(json.dumps(manganese.to_json()))
    assert Windows.from_json(recorded) == manganese
    judge, _ = with_hold(chgnet, None, "own", recorded)
    assert judge.moment_ranges == manganese.ranges
    assert judge.weights_hash == chgnet.weights_hash


def test_windows_are_measured_where_the_reader_was_not_made_for_the_host(chgnet):
    assert windows_for(built(), chgnet, "chgnet", is_held=False) is None
    pmmcs = load_potential("pmmcs")
    assert windows_for(olivine_of("Mn"), pmmcs, "own", is_held=False) is None
    assert windows_for(olivine_of("Mn"), chgnet, "own", is_held=True) is None


def test_nothing_is_judged_where_charges_are_delocalised():
    """Fe2+ of a framework is a label only: that Fe oxidises as Na leaves is no order lost."""
    host = Host.build(builtin_host("nacoo2-p2"), (1, 1, 1))
    windows = windows_for(host, SimpleNamespace(name="any"), "own", is_held=False)
    assert windows.ranges == {}
    assert windows.in_words() == []  # nobody asked for a charge order


def test_an_ase_calculator_is_held_by_bonds_and_judged_by_its_moments(chgnet):
    """Its moments can be read, and not differentiated."""
    calculator = AseCalculatorPotential(PotentialCalculator(chgnet), "mine")
    found = calibrate(built(), calculator, settings=QUICK)
    assert found.hold.by == "bonds"
    assert set(found.judged_by) == {"moments"}
    potential, reader = with_hold(calculator, found.to_json(), "own")
    assert isinstance(potential, HeldByBonds)
    assert reader is None
    assert potential.moment_ranges == found.moment_ranges()
    with pytest.raises(CannotCalibrateError, match="no moments that can be differentiated"):
        calibrate(built(), calculator, "moments", settings=QUICK)


@pytest.mark.parametrize(("sums", "expected"), [((1.8, 2.7), (2, 3)), ((2.4, 1.9), (3, 2))])
def test_elements_that_share_the_charge_of_an_end_have_what_their_bonds_say(sums, expected):
    atoms = Atoms("NiFeO2")
    atoms.set_initial_charges([3, 2, -2, -2])  # as they were drawn
    states = {"Fe": (FE2, FE3), "Ni": (Species("Ni", 2), Species("Ni", 3))}
    sites = {e: np.flatnonzero(atoms.symbols == e) for e in states}
    found = np.zeros(len(atoms))
    for element, valence in zip(("Ni", "Fe"), sums, strict=True):
        found[sites[element]] = valence
    means = calibration_of._mean_states(atoms, states, sites, found)
    assert (means["Ni"], means["Fe"]) == expected


def test_an_element_with_one_state_at_both_ends_is_in_proportion_to_its_charge():
    looks = [Look("Fe", 3.0, 4.4, 2.7), Look("Fe", 3.0, 4.4, 2.5)]
    values = calibration_of._values("bonds", {"Fe": (FE2, FE3)}, looks, "")
    assert values == {FE2: pytest.approx(2.6 * 2 / 3), FE3: pytest.approx(2.6)}
    with pytest.raises(UsageError, match="both ends of the range have the same state of Fe"):
        calibration_of._values("moments", {"Fe": (FE2, FE3)}, looks, "")


def test_what_was_taken_in_proportion_is_told_and_recorded(calibration):
    told = replace(calibration, by_proportion=("Fe",))
    assert "(Fe in proportion to the charge)" in "\n".join(told.in_words())
    assert Calibration.from_json(json.loads(json.dumps(told.to_json()))) == told


def test_a_redox_site_without_an_anion_near_it_is_named():
    atoms, lengths = olivine(1.0), {"Fe-O": 1.744}
    assert calibration_of._without_anions(atoms, {"Fe": ()}, lengths) == ""
    iron = int(np.flatnonzero(atoms.symbols == "Fe")[0])
    oxygens = np.flatnonzero(atoms.symbols == "O")
    del atoms[oxygens[atoms.get_distances(iron, oxygens, mic=True) < 3.3]]
    first = int(np.flatnonzero(atoms.symbols == "Fe")[0])
    text = calibration_of._without_anions(atoms, {"Fe": ()}, lengths)
    assert text == f"Fe {first} has no anion near it (bond valence sum 0.00)"
