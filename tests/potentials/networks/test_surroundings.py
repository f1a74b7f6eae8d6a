"""What tells maricite from olivine, and olivine from nothing."""

import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from maricite import exchanged, maricite, maricite_host
from places import SHIPPED_FRAMES
from scipy.special import ndtr

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.potentials.networks.model_card import TrainingDomain
from gasearch.potentials.networks.surroundings import USUAL, Surroundings
from gasearch.potentials.shipped import model_description, shipped_names

OLIVINE = builtin_host("nafepo4-olivine")


@pytest.fixture(scope="module")
def frames():
    return ase.io.read(SHIPPED_FRAMES, ":")


@pytest.fixture(scope="module")
def shipped():
    return Surroundings.from_json(model_description("chgnet-nafepo4")["domain"]["surroundings"])


def without_sodium(atoms, n):
    atoms = atoms.copy()
    del atoms[np.flatnonzero(atoms.symbols == "Na")[:n]]
    return atoms


@pytest.mark.parametrize(
    "supercell", [(1, 1, 1), (1, 2, 1), (1, 3, 1), [[1, 1, 0], [-1, 1, 0], [0, 0, 1]]]
)
def test_supercells_of_olivine_are_of_the_kind_that_was_trained_on(shipped, supercell):
    host = Host.build(OLIVINE, supercell)
    rng = np.random.default_rng(0)
    for composition in (host.compositions[0], host.compositions[len(host.compositions) // 2]):
        atoms = Decoration.random(host, composition, rng).to_atoms()
        assert shipped.distance(atoms) < 0.01
        atoms.set_cell(atoms.cell.array * (1.05, 1.0, 0.95), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
        assert shipped.distance(atoms) < USUAL / 2


@pytest.mark.parametrize("vacancies", [0, 2, 4])
def test_other_crystals_of_the_same_species_are_not(shipped, vacancies):
    for atoms in (maricite(), exchanged()):
        assert shipped.distance(without_sodium(atoms, vacancies)) > 2 * USUAL
        atoms.set_cell(atoms.cell.array * 1.03, scale_atoms=True)
        assert shipped.distance(without_sodium(atoms, vacancies)) > 2 * USUAL


def test_a_decoration_that_was_left_out_is_inside(frames):
    out = frames[-1].info["decoration"]
    rest = [frame for frame in frames if frame.info["decoration"] != out]
    left = [frame for frame in frames if frame.info["decoration"] == out]
    known = Surroundings.from_frames(rest[::5])
    assert all(known.distance(frame) < USUAL / 2 for frame in left[:4])


def test_every_frame_lies_inside_of_its_own_domain(frames):
    domain = TrainingDomain.from_frames(frames[::10])
    assert all(domain.extrapolations(frame) == () for frame in frames[::30])
    again = TrainingDomain.from_json(json.loads(json.dumps(domain.to_json())))
    assert again == domain
    host = Host.build(maricite_host(), (1, 1, 1))
    other = Decoration.random(host, host.compositions[-1], np.random.default_rng(0)).to_atoms()
    (told,) = again.extrapolations(other)
    assert told.startswith("another crystal than it was trained on")


def test_a_model_that_does_not_say_compares_nothing():
    assert Surroundings.from_json({}).distance(maricite()) == 0


def test_every_shipped_model_says():
    for name in shipped_names():
        assert model_description(name)["domain"]["surroundings"]


def test_neighbours_are_counted_by_brute_force():
    """Of rock salt: 6 Cl around Na at half an edge, 8 at its diagonal, 24 at the next shell."""
    salt = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    low, high = Surroundings.from_frames([salt]).ranges["Na", "Cl"]
    assert np.array_equal(low, high)
    edge = (18 * 4) ** (1 / 3)
    distances = np.repeat(edge / 2 * np.sqrt([1, 3, 5]), [6, 8, 24])
    expected = [ndtr((radius - distances) / 0.35).sum() for radius in (2.5, 3, 3.5, 4, 4.5, 5)]
    assert low[:6] == pytest.approx(expected, abs=0.01)
