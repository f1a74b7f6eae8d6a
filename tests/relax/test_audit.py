"""The verdict on relaxed structures, and the geometry that it looks at."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from olivine import undistorted

from gasearch.crystal.species import Species
from gasearch.relax.audit import FUSED, Audit, audit
from gasearch.relax.geometry import (
    closest_pair,
    framework_bonds,
    mean_bond_lengths,
    redox_elements,
    redox_sites,
)

RANGES = {Species("Fe", 2): (3.0, 4.15), Species("Fe", 3): (4.15, 5.0)}


def high_spin(atoms: Atoms) -> np.ndarray:
    """Moments as a reader gives them: a little below the high-spin ones."""
    return 0.93 * atoms.get_initial_magnetic_moments()


def test_an_untouched_structure_is_ok() -> None:
    atoms = undistorted()
    assert audit(atoms, atoms.copy()) == Audit("ok", "")
    assert audit(atoms, atoms.copy(), high_spin(atoms), RANGES) == Audit("ok", "")


def test_a_contradicting_moment_loses_the_order_and_bonds_are_named_beside_it() -> None:
    atoms = undistorted(0.5)
    moments = high_spin(atoms)
    trivalent = int(np.flatnonzero(atoms.get_initial_charges() == 3)[0])
    moments[trivalent] = 3.71
    found = audit(atoms, atoms, moments, RANGES)
    assert found.verdict == "order_lost"
    start = f"Fe {trivalent} is labelled Fe3+ but has moment 3.71, mean bond 2.1"
    assert found.reason.startswith(start)


def test_a_delocalised_hole_loses_the_order() -> None:
    atoms = undistorted(0.75)
    moments = np.where(atoms.numbers == 26, 4.0, 0.0)
    assert audit(atoms, atoms, moments, RANGES).verdict == "order_lost"
    between = {Species("Fe", 2): (3.0, 3.9), Species("Fe", 3): (4.2, 5.0)}
    found = audit(atoms, atoms, moments, between)
    assert found.verdict == "order_lost"
    assert found.reason.endswith("and 1 more")


def test_the_sign_of_a_moment_does_not_matter() -> None:
    atoms = undistorted(0.5)
    signs = np.where(np.arange(len(atoms)) % 2, 1, -1)
    assert audit(atoms, atoms, signs * high_spin(atoms), RANGES).verdict == "ok"


def test_moments_without_ranges_decide_nothing() -> None:
    atoms = undistorted(0.5)
    assert audit(atoms, atoms, np.zeros(len(atoms)), None).verdict == "ok"
    assert audit(atoms, atoms, None, RANGES).verdict == "ok"


def test_bond_lengths_alone_decide_nothing() -> None:
    start = undistorted(0.5)
    final = start.copy()
    final.set_cell(1.08 * start.cell.array, scale_atoms=True)  # all Fe-O as long as in Fe2+
    assert audit(start, final, high_spin(start), RANGES).verdict == "ok"


def swell(atoms: Atoms) -> None:
    atoms.set_cell(1.15 * atoms.cell.array, scale_atoms=True)


def shrink(atoms: Atoms) -> None:
    atoms.set_cell(0.84 * atoms.cell.array, scale_atoms=True)


def fuse_through_a_face(atoms: Atoms) -> None:
    atoms.positions[4] = atoms.positions[0] + atoms.cell.array[0] + [0.1, 0, 0]


def lose_an_oxygen(atoms: Atoms) -> None:
    centre, anions = next(iter(framework_bonds(atoms).items()))
    away = atoms.get_distance(centre, anions[0], mic=True, vector=True)
    atoms.positions[anions[0]] += 0.6 * away


def exchange_oxygens(atoms: Atoms) -> None:
    (one, other) = (anions[0] for anions in list(framework_bonds(atoms).values())[:2])
    atoms.positions[[one, other]] = atoms.positions[[other, one]]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (swell, r"the volume changed by \+52 % \(limit 40 %\)"),
        (shrink, r"the volume changed by -41 % \(limit 40 %\)"),
        (fuse_through_a_face, "Na 0 and Fe 4 are 0.10 Å apart"),
        (lose_an_oxygen, r"P \d had 4 O and has 3"),
        (exchange_oxygens, r"P \d had 4 O and has others in their place"),
    ],
)
def test_a_damaged_crystal_is_broken(damage: Callable[[Atoms], None], reason: str) -> None:
    start = undistorted(1.0)
    final = start.copy()
    damage(final)
    found = audit(start, final)
    assert found.verdict == "broken"
    assert re.fullmatch(reason, found.reason)


def test_each_phosphorus_has_four_oxygens_whatever_the_cell() -> None:
    atoms = undistorted(1.0)
    for crystal in (atoms, atoms.repeat((1, 2, 1))):
        assert {len(anions) for anions in framework_bonds(crystal).values()} == {4}
    shifted = atoms.copy()
    shifted.positions += np.random.default_rng(0).integers(-2, 3, (28, 3)) @ atoms.cell.array
    assert framework_bonds(shifted) == framework_bonds(atoms)


def test_a_tetrahedral_site_has_four_bonds() -> None:
    atoms = Atoms("FeO4", [[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    atoms.set_initial_charges([3, -2, -2, -2, -2])
    atoms.set_cell([8, 8, 4.6])  # images of oxygens at 3.0 Å and more
    atoms.pbc = True
    assert mean_bond_lengths(atoms, redox_sites(atoms)) == pytest.approx(3**0.5)


def test_mean_bond_lengths_are_those_of_six_shortest() -> None:
    atoms = undistorted(1.0)
    sites = redox_sites(atoms)
    assert len(sites) == 4
    found = mean_bond_lengths(atoms, sites)
    oxygens = np.flatnonzero(atoms.numbers == 8)
    images = atoms.repeat((3, 3, 3))
    middle = 13 * len(atoms)  # the same atom in the central cell
    every = [i + n * len(atoms) for n in range(27) for i in oxygens]
    for site, length in zip(sites, found, strict=True):
        distances = np.sort(images.get_distances(int(site) + middle, every))
        assert length == pytest.approx(distances[:6].mean())
    assert 2.15 < found.mean() < 2.25


def test_redox_elements_are_those_with_a_moment() -> None:
    assert redox_elements(undistorted(0.5)) == {"Fe"}
    assert redox_elements(undistorted(0.0)) == {"Fe"}
    assert list(redox_sites(undistorted(0.5), frozenset({"P"}))) == [6, 7, 8, 9]


def test_a_crystal_is_not_fused() -> None:
    assert closest_pair(undistorted(1.0))[3] > FUSED


def test_the_audit_needs_no_torch() -> None:
    modules = "gasearch.relax.audit, gasearch.relax.relaxed, gasearch.relax.settings"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
