"""The frames of LixFePO4 say what their page says."""

from collections import Counter

import numpy as np
from places import ROOT

from gasearch.training.data.reading import read_frames

FRAMES = ROOT / "data" / "lifepo4-pbeu" / "train.xyz"


def test_they_are_what_the_page_says():
    found = read_frames([FRAMES])
    frames = found.frames
    assert (len(frames), dict(found.dropped)) == (98, {})
    assert len({frame.decoration for frame in frames}) == 16
    assert {frame.level for frame in frames} == {"gpaw-pbeu450-sp-235fdb13"}
    kinds = Counter(frame.tag.partition(":")[0] for frame in frames)
    assert kinds == {
        "relax0": 17, "single": 10, "strain0+": 12, "strain0-": 11, "way50": 16, "rattle0": 15,
        "rattle1": 10, "hop50": 7,
    }  # fmt: skip
    moments = {
        charge: np.concatenate(
            [f.moments[(f.atoms.symbols == "Fe") & (f.charges == charge)] for f in frames]
        )
        for charge in (2, 3)
    }
    assert (moments[2].min() > 3.63, moments[2].max() < 3.75) == (True, True)
    assert (moments[3].min() > 4.22, moments[3].max() < 4.34) == (True, True)


def test_the_frames_that_no_model_has_seen_are_others():
    seen, later = (read_frames([FRAMES.with_name(f"{name}.xyz")]) for name in ("train", "round3"))
    assert (len(later.frames), dict(later.dropped)) == (30, {})
    energies = {round(frame.energy, 6) for frame in seen.frames}
    assert not energies & {round(frame.energy, 6) for frame in later.frames}


def test_formation_energies_are_those_of_the_page():
    lowest: dict[str, tuple[float, float]] = {}
    for frame in read_frames([FRAMES]).frames:
        if frame.tag in ("relax0", "single"):
            known = lowest.get(frame.composition, (0.0, 0.0))
            lowest[frame.composition] = min(known, (frame.energy / 4, frame.working_fraction))
    by_x = {x: energy for energy, x in lowest.values()}
    line = {x: by_x[0] + x * (by_x[1] - by_x[0]) for x in by_x}
    found = {x: round(1000 * (by_x[x] - line[x])) for x in by_x if 0 < x < 1}
    assert found == {0.25: 90, 0.5: 6, 0.75: 55}
