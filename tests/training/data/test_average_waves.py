"""The script that brought the shipped energies to the average number of plane waves."""

import importlib
import sys

import ase.io
import pytest
import typer
from ase.calculators.singlepoint import SinglePointCalculator
from places import SHIPPED_DATA


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SHIPPED_DATA))
    yield importlib.import_module("average_waves")
    for name in ("average_waves", "recompute"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["train", "larger"])
def test_it_makes_the_shipped_frames_of_what_gpaw_gave_and_only_once(script, tmp_path, name):
    frames = ase.io.read(SHIPPED_DATA / "nafepo4-pbeu" / f"{name}.xyz", ":6")
    as_computed = []
    for frame in frames:
        bare, results = frame.copy(), dict(frame.calc.results)
        units = frame.symbols.count("P")
        results["energy"] += script.SLOPE * units * bare.info.pop("plane_wave_excess")
        del bare.info["level"]
        bare.calc = SinglePointCalculator(bare, **results)
        as_computed.append(bare)
    file = tmp_path / "frames.xyz"
    ase.io.write(file, as_computed, format="extxyz")
    script.main("nafepo4-olivine", file)
    for made, shipped in zip(ase.io.read(file, ":"), frames, strict=True):
        assert made.info == shipped.info
        energy = shipped.get_potential_energy()
        assert made.get_potential_energy() == pytest.approx(energy, abs=1e-6)
        assert made.get_forces() == pytest.approx(shipped.get_forces())
    with pytest.raises(typer.BadParameter, match="corrected already"):
        script.main("nafepo4-olivine", file)
