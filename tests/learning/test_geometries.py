"""Geometries beside a relaxed structure, above all two labels on one geometry."""

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from gasearch.analysis.export import decoration_name
from gasearch.analysis.findings import read_run
from gasearch.crystal.decoration import Decoration
from gasearch.learning.geometries import Geometries, in_one_setting
from gasearch.learning.settings import GeometriesSection
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.training.data.frames import Frame
from gasearch.training.data.label_pairs import label_pairs
from gasearch.training.evaluation.predict import predict


@pytest.fixture(scope="module")
def findings(tmp_path_factory, make_run):
    """All sixteen orders, each with displacements of its own that no symmetry has."""
    folder = make_run(tmp_path_factory.mktemp("run") / "run", relax={"rattle": 0.05})
    Session(RunFolder(folder)).run()
    with read_run(folder) as found:
        yield found


def of(findings, **settings):
    none = {"halfway": 0, "strained": 0, "rattled": 0, "swapped": 0}
    return Geometries(findings, GeometriesSection(**none | settings), seed=1)


def shifted(one, other):
    """Return the largest distance of equal atoms, in Å, a rigid shift apart."""
    between = one.get_scaled_positions(wrap=False) - other.get_scaled_positions(wrap=False)
    between -= np.round(between)
    between -= between.mean(axis=0)
    return np.abs(between @ one.cell.array).max()


def test_all_keep_the_order_the_atoms_and_the_labels(findings):
    geometries = of(findings, halfway=2, rattled=2, swapped=2)
    for row in findings.ranked():
        own = findings.store.relaxed(row.id).atoms
        for atoms in geometries.of(row.id):
            assert np.array_equal(atoms.numbers, own.numbers)
            assert np.array_equal(atoms.get_initial_charges(), own.get_initial_charges())
            found = Decoration.from_atoms(findings.host, atoms).fingerprint
            assert found == row.fingerprint


def test_halfway_is_between_the_sites_and_the_relaxed_structure(findings):
    (row,) = [row for row in findings.ranked() if row.x == 1]
    relaxed = findings.store.relaxed(row.id).atoms
    third, two_thirds = of(findings, halfway=2).of(row.id)
    assert [third.info["tag"], two_thirds.info["tag"]] == ["way33", "way67"]
    ideal = Decoration.from_fingerprint(findings.host, row.fingerprint).to_atoms()
    whole = shifted(relaxed, ideal)
    assert shifted(third, ideal) == pytest.approx(whole / 3, rel=1e-6)
    assert shifted(two_thirds, relaxed) == pytest.approx(whole / 3, rel=1e-6)
    assert np.allclose(third.cell, relaxed.cell)


def test_rattled_ones_are_the_same_each_time_and_strained(findings):
    row = findings.ranked()[3]
    relaxed = findings.store.relaxed(row.id).atoms
    once, again = (of(findings, rattled=2).of(row.id) for _ in range(2))
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(once, again, strict=True))
    assert not np.allclose(once[0].positions, once[1].positions)
    many = of(findings, rattled=60, strain=0.01, displacement=0.04).of(row.id)
    strains = [one.cell.volume / relaxed.cell.volume - 1 for one in many]
    assert np.std(strains) == pytest.approx(0.01 * np.sqrt(3), rel=0.3)
    moved = [one.positions - relaxed.get_scaled_positions(wrap=False) @ one.cell for one in many]
    assert np.std(moved) == pytest.approx(0.04, rel=0.05)


def test_strained_ones_are_pairs_of_opposites_along_the_axes(findings):
    for row in findings.ranked():
        relaxed = findings.store.relaxed(row.id).atoms
        found = of(findings, strained=4, stretch=0.02).of(row.id)
        assert [one.info["tag"] for one in found] == [
            "strain0+",
            "strain0-",
            "strain1+",
            "strain1-",
        ]
        axes = [one.cell.lengths() / relaxed.cell.lengths() - 1 for one in found]
        assert np.allclose(np.abs(axes), 0.02)
        assert np.allclose(axes[0], -axes[1])
        assert np.allclose(axes[2], -axes[3])
        for one in found:
            assert np.allclose(one.cell.angles(), relaxed.cell.angles())
            assert shifted(one, relaxed) < 1e-9
    first = [of(findings, strained=1).of(row.id)[0].cell.lengths() for row in findings.ranked()]
    signs = {tuple(one > findings.host.atoms.cell.lengths()) for one in first}
    assert len(signs) > 3  # not always the same axes


def middles(findings):
    """Return the mid-points of all orders, with energies and forces of a potential."""
    geometries = of(findings, swapped=3)
    found = []
    for row in findings.ranked():
        for atoms in geometries.of(row.id):
            (known,) = predict(Pmmcs(), [atoms])
            moments = atoms.get_initial_magnetic_moments()
            atoms.calc = SinglePointCalculator(
                atoms, energy=known.energy, forces=known.forces, magmoms=moments
            )
            atoms.info["decoration"] = decoration_name(findings.host, row.fingerprint)
            found.append(atoms)
    return found


def test_both_orders_of_a_pair_are_computed_on_one_geometry(findings):
    frames = middles(findings)
    turned = in_one_setting(findings.host, frames)
    by_name = {(one.info["decoration"], one.info["tag"].partition(":")[2]): one for one in turned}
    pairs = [(one, by_name[b, a]) for (a, b), one in by_name.items() if a < b and (b, a) in by_name]
    assert len(pairs) > 10
    for one, other in pairs:
        assert np.allclose(one.positions, other.positions, atol=1e-9)
        assert np.allclose(one.cell, other.cell, atol=1e-9)
        assert not np.array_equal(one.get_initial_charges(), other.get_initial_charges())


def test_turned_frames_have_the_energies_and_forces_of_where_they_are(findings):
    frames = middles(findings)
    turned = in_one_setting(findings.host, frames)
    assert sum(a is not b for a, b in zip(frames, turned, strict=True)) > 10
    for frame, known in zip(turned, predict(Pmmcs(), turned), strict=True):
        assert known.energy == pytest.approx(frame.calc.results["energy"], abs=1e-6)
        assert np.allclose(known.forces, frame.calc.results["forces"], atol=1e-6)
        moments = frame.get_initial_magnetic_moments()
        assert np.array_equal(frame.calc.results["magmoms"], moments)


def test_a_training_sees_them_as_pairs_of_labels(findings):
    frames = in_one_setting(findings.host, middles(findings))
    known = [
        Frame(
            frame.copy(), frame.calc.results["energy"], frame.calc.results["forces"],
            decoration=frame.info["decoration"], tag=frame.info["tag"],
        )
        for frame in frames
    ]  # fmt: skip
    names = {tuple(sorted(pair.decorations)) for pair in label_pairs(known)}
    tagged = {(one.decoration, one.tag.partition(":")[2]) for one in known}
    both = {tuple(sorted(pair)) for pair in tagged if pair[::-1] in tagged}
    assert both <= names


def test_orders_that_are_computed_too_come_first(findings):
    rows = {row.fingerprint: row.id for row in findings.ranked()}
    alike = [rows[name] for name in ("53", "33", "63")]  # one ion order
    for one in alike:
        for other in set(alike) - {one}:
            settings = GeometriesSection(halfway=0, strained=0, rattled=0, swapped=1)
            geometries = Geometries(findings, settings, 1, frozenset((one, other)))
            (middle,) = geometries.of(one)
            name = findings.store.proposal(other).fingerprint
            assert middle.info["tag"] == f"hop50:111-{name}"
