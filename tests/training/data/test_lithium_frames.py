"""The frames of LixFePO4 say what their page says."""

import tarfile
from collections import Counter

import numpy as np
import pytest
from places import ROOT

from gasearch.learning.folder import LearnFolder
from gasearch.learning.summary import learn_document
from gasearch.potentials.shipped import MODELS
from gasearch.training.data.mixing import MixedLevelsError
from gasearch.training.data.reading import read_frames

FRAMES = ROOT / "data" / "lifepo4-pbeu" / "train.xyz"
EARLIER = FRAMES.with_name("earlier.xyz")


def test_they_are_what_the_page_says():
    found = read_frames([FRAMES])
    frames = found.frames
    assert (len(frames), dict(found.dropped)) == (83, {})
    assert len({frame.decoration for frame in frames}) == 14
    assert {frame.level for frame in frames} == {"gpaw-pbeu450-sp-0cdbd5ac"}
    kinds = Counter(frame.tag.partition(":")[0] for frame in frames)
    assert kinds == {"relax0": 18, "strain0+": 18, "strain0-": 18, "rattle0": 18, "hop50": 11}
    moments = {
        charge: np.concatenate(
            [f.moments[(f.atoms.symbols == "Fe") & (f.charges == charge)] for f in frames]
        )
        for charge in (2, 3)
    }
    assert (moments[2].min() > 3.63, moments[2].max() < 3.74) == (True, True)
    assert (moments[3].min() > 4.23, moments[3].max() < 4.36) == (True, True)


def test_the_earlier_ones_are_of_another_level_and_all_orders():
    found = read_frames([EARLIER])
    assert (len(found.frames), dict(found.dropped)) == (128, {})
    assert len({frame.decoration for frame in found.frames}) == 16
    assert {frame.level for frame in found.frames} == {"gpaw-pbeu450-sp-235fdb13"}
    with pytest.raises(MixedLevelsError):
        read_frames([FRAMES, EARLIER])


@pytest.mark.parametrize(
    ("file", "lowest"),
    [(FRAMES, {0.25: 91, 0.5: 28, 0.75: 89}), (EARLIER, {0.25: 94, 0.5: 9, 0.75: 57})],
)
def test_formation_energies_are_those_of_the_page(file, lowest):
    by_x: dict[float, float] = {}
    for frame in read_frames([file]).frames:
        if frame.tag in ("relax0", "single"):
            x = frame.working_fraction
            by_x[x] = min(by_x.get(x, 0.0), frame.energy / 4)
    line = {x: by_x[0] + x * (by_x[1] - by_x[0]) for x in by_x}
    assert {x: round(1000 * (by_x[x] - line[x])) for x in by_x if 0 < x < 1} == lowest


def test_they_and_the_shipped_model_are_those_of_the_loop_that_is_beside_them(tmp_path):
    with tarfile.open(FRAMES.with_name("loop.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = LearnFolder(tmp_path / "li")
    document = learn_document(folder)
    assert [one["jobs"]["jobs"] for one in document["rounds"]] == [6, 12, 18]
    assert all(one["training"]["is_kept"] for one in document["rounds"])
    made = read_frames([folder.round(3).frames]).frames
    assert [f.energy for f in made] == [f.energy for f in read_frames([FRAMES]).frames]
    shipped = MODELS / "chgnet-lifepo4" / "weights.safetensors"
    own = folder.round(3).model / "weights.safetensors"
    assert own.read_bytes() == shipped.read_bytes()
