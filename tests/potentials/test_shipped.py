"""The models that come with gasearch: whole, charge-aware, at the level of the data, documented."""

import importlib.util
import os
from importlib.metadata import entry_points

import numpy as np
import pytest
from crystals import rattled
from places import SHIPPED_DATA

from gasearch.analysis.voltage import GPAW_PBE_450
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.species import Species
from gasearch.potentials.contract import Batch, UntrainedSpeciesError
from gasearch.potentials.listing import potentials
from gasearch.potentials.measured.awareness import charge_awareness
from gasearch.potentials.networks.architectures import ARCHITECTURES
from gasearch.potentials.networks.checkpoint import read_checkpoint
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.registry import load_potential
from gasearch.potentials.shipped import (
    DEFAULT,
    MODELS,
    model_description,
    shipped_names,
)
from gasearch.relax.ase_relaxer import ReferenceRelaxer
from gasearch.relax.geometry import mean_bond_lengths, redox_sites
from gasearch.run.choice import default_choice
from gasearch.run.folder import RunFolder
from gasearch.run.initialize import initialize
from gasearch.search.session import Session
from gasearch.testing import check_potential
from gasearch.training.data.frames import lowest_frames
from gasearch.training.data.reading import read_frames
from gasearch.training.evaluation.predict import predict

CARD = {"about", "data", "split", "errors", "use_for", "not_for", "licence"}
LIMIT = 5_000_000  # bytes
FE3 = Species("Fe", 3)


def is_here(name):
    package = ARCHITECTURES[model_description(name)["architecture"]].package
    return bool(os.environ.get("CI")) or importlib.util.find_spec(package) is not None


@pytest.fixture(params=shipped_names())
def name(request):
    if not is_here(request.param):
        pytest.skip(f"the package of {request.param} is not installed")
    return request.param


@pytest.fixture
def model(name):
    return load_potential(name)


@pytest.fixture
def ion(name):
    return "Li" if "lifepo4" in name else "Na"


@pytest.fixture
def frames(ion):
    return read_frames([SHIPPED_DATA / f"{ion.lower()}fepo4-pbeu" / "train.xyz"]).frames


@pytest.fixture
def orders(ion):
    """Three rattled crystals that a model was made for."""
    host = f"{ion.lower()}fepo4-olivine"
    return [rattled(x, seed, host=host) for seed, x in enumerate((0.5, 0.75, 0.25))]


def test_all_four_architectures_are_shipped():
    shipped = {model_description(name)["architecture"] for name in shipped_names()}
    assert shipped == {"chgnet", "mace", "painn", "cpainn"}
    names = {point.name for point in entry_points(group="gasearch.potentials")}
    assert {"default", *shipped_names()} <= names


def test_it_is_small_and_says_what_it_is(name, ion):
    files = sorted((MODELS / name).iterdir())
    assert [file.name for file in files] == ["model.json", "weights.safetensors"]
    assert sum(file.stat().st_size for file in files) < LIMIT
    document = model_description(name)
    assert document["name"] == name
    assert set(document["card"]) >= CARD
    assert document["working_ion_metal"] == {ion: GPAW_PBE_450[ion]}
    assert document["card"]["errors"]["force_mae_meV_per_A"] > 0
    (row,) = [row for row in potentials() if row.name == name]
    assert row.about == document["card"]["about"]


def test_it_keeps_the_contract(name, orders):
    network, card = read_checkpoint(MODELS / name)
    exact = NetworkPotential(network.double(), card)
    check_potential(exact, orders[:2], tolerance=1e-5, step=5e-4)


def test_it_listens_to_the_labels(model, orders):
    assert charge_awareness(model, orders, np.random.default_rng(0)) > 100


def test_the_ion_costs_what_it_costs_in_dft(model, frames):
    ends = {frame.working_fraction: frame for frame in lowest_frames(frames)}
    full, empty = ends[1.0], ends[0.0]
    found = model.evaluate(Batch.from_atoms([full.atoms, empty.atoms])).energies
    true = full.energy - empty.energy  # eV for four ions
    assert float(found[0] - found[1]) == pytest.approx(true, abs=0.4)
    both = [model.card.reference[model.card.species_map.slot(Species("Fe", q))] for q in (2, 3)]
    assert both[0] == both[1]


@pytest.mark.parametrize("name", [n for n in shipped_names() if "nafepo4" in n], indirect=True)
def test_it_is_right_in_the_larger_cell_that_it_has_not_seen(name, model):
    """Single points of DFT at geometries of the default, in 1x2x1."""
    frames = read_frames([SHIPPED_DATA / "nafepo4-pbeu" / "larger.xyz"]).frames
    found = predict(model, [frame.atoms for frame in frames])
    energies = [(p.energy - f.energy) / len(f.atoms) for p, f in zip(found, frames, strict=True)]
    forces = [np.abs(p.forces - f.forces).mean() for p, f in zip(found, frames, strict=True)]
    best = name == DEFAULT
    assert len(frames) == 6
    assert np.abs(energies).mean() < (2.5e-3 if best else 4.5e-3)  # eV/atom
    assert np.mean(forces) < (0.055 if best else 0.08)  # eV/Å


def test_what_it_was_not_trained_on_is_refused(model, ion):
    atoms = rattled(1.0)
    atoms.symbols[0] = "Li" if ion == "Na" else "Na"
    with pytest.raises(UntrainedSpeciesError):
        model.evaluate(Batch.from_atoms([atoms]))


def test_the_default_keeps_charge_orders_from_undistorted_sites():
    if not is_here(DEFAULT):
        pytest.skip("the package of the default is not installed")
    model = load_potential("default")
    assert model.name == DEFAULT
    host = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
    for seed, x in enumerate((0.25, 0.5, 0.75)):
        rng = np.random.default_rng(seed)
        atoms = Decoration.random(host, host.composition_at(x), rng).to_atoms()
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
        relaxed = ReferenceRelaxer(model).relax_one(atoms)
        assert relaxed.verdict == "ok", relaxed.reason
        sites = redox_sites(atoms)
        is_oxidised = atoms.get_initial_charges()[sites] == 3
        bonds = mean_bond_lengths(relaxed.atoms, sites)
        assert np.array_equal(bonds < 2.13, is_oxidised), bonds


def test_the_default_is_chosen_for_hosts_that_it_knows():
    chosen = {
        host: default_choice(Host.build(builtin_host(host), (1, 1, 1))).name
        for host in ("nafepo4-olivine", "lifepo4-olivine", "na2fesio4")
    }
    assert chosen["nafepo4-olivine"] == DEFAULT
    assert chosen["lifepo4-olivine"] == "chgnet-lifepo4"
    assert chosen["na2fesio4"] == "chgnet"


def test_a_run_in_a_larger_cell_is_told_that_the_default_extrapolates(tmp_path):
    if not is_here(DEFAULT):
        pytest.skip("the package of the default is not installed")
    told = {}
    for supercell in ((1, 1, 1), (1, 2, 1)):
        folder = RunFolder(tmp_path / str(supercell[1]))
        initialize(folder, "nafepo4-olivine", supercell, None, 10, 1)
        told[supercell] = Session(folder).warnings()
    assert told[1, 1, 1] == []
    (line,) = told[1, 2, 1]
    assert line.startswith(f"{DEFAULT} extrapolates here: ")
    assert "56 atoms (trained on 24 to 28)" in line
