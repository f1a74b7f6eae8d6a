"""Models of schnetpack's trainer, used as they are."""

import importlib.util
import io
import os

import pytest
import torch
from crystals import perovskites, rattled
from schnetpack_inputs import schnetpack_inputs

from gasearch.potentials.contract import Batch
from gasearch.potentials.registry import load_potential
from gasearch.potentials.trust import UntrustedFileError, trust
from gasearch.testing import check_potential

if importlib.util.find_spec("schnetpack") is None and not os.environ.get("CI"):
    pytest.skip("no schnetpack here: see README", allow_module_level=True)

import numpy as np

from gasearch.potentials.networks.declaration import UnsupportedModelError
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.potentials.painn.network import import_schnetpack
from gasearch.potentials.painn.weights import from_schnetpack_file


def model(kind="PaiNN"):
    spk = import_schnetpack()
    torch.manual_seed(0)
    shape = {"n_atom_basis": 8, "n_interactions": 2, "radial_basis": spk.nn.GaussianRBF(8, 4.5)}
    representation = getattr(spk.representation, kind)(**shape, cutoff_fn=spk.nn.CosineCutoff(4.5))
    offsets = spk.transform.AddOffsets("energy", add_mean=True, add_atomrefs=True)
    offsets.mean = torch.tensor([-3.0])
    offsets.atomref = torch.linspace(-9, 0, 100)
    made = spk.model.NeuralNetworkPotential(
        representation=representation,
        input_modules=[spk.atomistic.PairwiseDistances()],
        output_modules=[
            spk.atomistic.Atomwise(n_in=8, output_key="energy"),
            spk.atomistic.Forces(),
        ],
        postprocessors=[spk.transform.CastTo64(), offsets],
    )
    return made.to(torch.float64).eval()


def written(path, document):
    torch.save(document, path)
    trust(path)
    return path


@pytest.mark.parametrize("kind", ["PaiNN", "SchNet"])
def test_a_model_file_gives_what_schnetpack_gives(kind, tmp_path):
    path = written(tmp_path / "best_model", model(kind))
    atoms = rattled()
    potential = load_potential(str(path), species={"Fe3+": "Ga"})
    found = potential.evaluate(Batch.from_atoms([atoms]))
    rows = np.where(atoms.get_initial_charges() == 3, 31, atoms.numbers)
    expected = model(kind)(schnetpack_inputs(atoms, rows, 4.5))
    assert torch.allclose(found.energies, expected["energy"], rtol=1e-12)
    assert torch.allclose(found.forces, expected["forces"], rtol=1e-9, atol=1e-12)


def test_a_model_file_passes_the_public_check(tmp_path):
    path = written(tmp_path / "best_model", model())
    potential = load_potential(str(path), species={"Fe3+": "Ga"})
    check_potential(potential, perovskites(), step=3e-4)


def test_a_file_that_nobody_trusts_stays_closed(tmp_path):
    path = tmp_path / "best_model"
    torch.save(model(), path)
    with pytest.raises(UntrustedFileError, match="gasearch potential trust"):
        load_potential(str(path), species={"Fe3+": "Ga"})


def test_another_pickle_is_no_model():
    with pytest.raises(UnsupportedModelError, match="is a Linear"):
        from_schnetpack_file(content_of(torch.nn.Linear(2, 2)), SpeciesMap({}, True), "x")


def test_a_slot_beyond_the_embedding_is_refused():
    with pytest.raises(UnsupportedModelError, match="no row for the slot 119 of Fe3\\+"):
        from_schnetpack_file(content_of(model()), SpeciesMap.parse({"Fe3+": 119}), "x")


def content_of(document):
    stream = io.BytesIO()
    torch.save(document, stream)
    return stream.getvalue()
