"""Plain CHGNet, as its authors trained it: a good reader of charge order, and blind to labels."""

import numpy as np
import pytest
from places import SHIPPED_FRAMES

pytest.importorskip("chgnet")

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.potentials.registry import load_potential
from gasearch.relax.ase_relaxer import ReferenceRelaxer
from gasearch.relax.geometry import redox_sites
from gasearch.relax.settings import RelaxSettings
from gasearch.training.data.reading import read_frames
from gasearch.training.evaluation.predict import predict

SPLIT = 4.15  # Bohr magnetons: between its Fe2+ (3.9) and its Fe3+ (4.3)


@pytest.fixture(scope="module")
def chgnet():
    return load_potential("chgnet")


def moments(potential, structures):
    found = predict(potential, structures)
    pairs = zip(structures, found, strict=True)
    return [np.abs(one.moments)[redox_sites(atoms)] for atoms, one in pairs]


def test_it_reads_the_charge_order_of_dft_geometries(chgnet):
    relaxed = ("relax", "again", "strain")
    frames = [f for f in read_frames([SHIPPED_FRAMES]).frames if f.tag.startswith(relaxed)]
    frames = [frame for frame in frames if "rattle" not in frame.tag]
    assert len(frames) == 153
    read = moments(chgnet, [frame.atoms for frame in frames])
    for frame, found in zip(frames, read, strict=True):
        assert np.array_equal(found > SPLIT, frame.charges[frame.redox_sites] == 3), frame


def test_it_melts_the_charge_order_of_na3fe4p4o16(chgnet):
    host = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
    decoration = Decoration.random(host, host.composition_at(0.75), np.random.default_rng(0))
    atoms = decoration.to_atoms()
    atoms.positions += np.random.default_rng(1).normal(0, 0.02, atoms.positions.shape)
    relaxed = ReferenceRelaxer(chgnet, RelaxSettings(fmax=0.05)).relax_one(atoms)
    (found,) = moments(chgnet, [relaxed.atoms])
    assert relaxed.converged
    assert found.max() < SPLIT  # no iron is Fe3+ any more
    assert np.ptp(found) < 0.1  # all four are alike, though one was labelled Fe3+
