"""Voltages against pymatgen, and where the energy of the metal comes from."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from gasearch.analysis.hull import NoEndMemberError, lower_hull
from gasearch.analysis.joint_hull import joint_hull, read_member
from gasearch.analysis.voltage import (
    FORMER_WEIGHTS,
    GPAW_PBE_450,
    Cathode,
    Metal,
    NoMetalError,
    NoRangeError,
    hull_voltage,
    metal_of,
    model_identity,
    voltage_curve,
)
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.potentials.networks.declaration import MissingPackageError
from gasearch.potentials.shipped import MODELS, load_shipped, model_description, shipped_names
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session

SODIUM = Metal("Na", -1.3, "given")


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_insertion_electrode_of_pymatgen(seed):
    try:
        from pymatgen.apps.battery.insertion_battery import InsertionElectrode
        from pymatgen.core import Composition
        from pymatgen.core.entries import ComputedEntry
    except ModuleNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip("no pymatgen here; pip install 'gasearch[report]'")
    host = Host.build(builtin_host("nafepo4-olivine"), (1, 2, 1))
    rng = np.random.default_rng(seed)
    energies = {
        c: host.n_formula_units * (-41 - 4.2 * c.x + 0.1 * rng.normal()) for c in host.compositions
    }
    per_fu = np.array(list(energies.values())) / host.n_formula_units
    hull = lower_hull(np.array([c.x for c in energies]), per_fu)
    curve = voltage_curve(Cathode.of(host), SODIUM, list(zip(*hull, strict=True)))

    entries = [ComputedEntry(Composition(c.formula), energy) for c, energy in energies.items()]
    electrode = InsertionElectrode.from_entries(entries, ComputedEntry("Na1", SODIUM.energy))
    pairs = sorted(electrode.voltage_pairs, key=lambda pair: pair.frac_discharge)
    assert [s.voltage_V for s in curve.steps] == pytest.approx([pair.voltage for pair in pairs])
    assert curve.average_voltage_V == pytest.approx(electrode.get_average_voltage())
    assert curve.capacity_mAh_per_g == pytest.approx(electrode.get_capacity_grav(), rel=1e-4)
    assert curve.energy_density_Wh_per_kg == pytest.approx(
        electrode.get_specific_energy(), rel=1e-4
    )
    assert 1 < len(curve.steps) < 8


class TestCurve:
    def test_known_capacities(self):
        """154 mAh/g of NaFePO4 and 170 mAh/g of LiFePO4, as the literature has them."""
        sodium = Cathode.of(Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1)))
        lithium = Cathode.of(Host.build(builtin_host("lifepo4-olivine"), (1, 2, 1)))
        assert (sodium.formula, lithium.formula) == ("NaFePO4", "LiFePO4")
        assert sodium.capacity(1.0) == pytest.approx(154.2, abs=0.05)
        assert lithium.capacity(1.0) == pytest.approx(169.9, abs=0.05)

    def test_two_ions_per_formula_unit(self):
        cathode = Cathode.of(Host.build(builtin_host("na2fesio4"), (1, 1, 1)))
        assert cathode.ions_per_x == 2
        curve = voltage_curve(cathode, SODIUM, [(0.5, -10.0), (1.0, -14.3)])
        assert curve.steps[0].voltage_V == pytest.approx(3.0)
        assert curve.capacity_mAh_per_g == pytest.approx(26801.5 / cathode.molar_mass, rel=1e-5)

    def test_an_ion_of_charge_two_gives_half_the_voltage_and_twice_the_charge(self):
        one = Cathode("Na", 1, 1.0, "", 100.0)
        two = dataclasses.replace(one, ion_charge=2)
        curves = [voltage_curve(c, SODIUM, [(0.0, 0.0), (1.0, -4.0)]) for c in (one, two)]
        assert [c.average_voltage_V for c in curves] == pytest.approx([2.7, 1.35])
        assert curves[1].capacity_mAh_per_g == pytest.approx(2 * curves[0].capacity_mAh_per_g)
        densities = [c.energy_density_Wh_per_kg for c in curves]
        assert densities[0] == pytest.approx(densities[1])

    def test_plateaus_fall_along_a_hull_and_their_mean_is_that_of_the_ends(self, finished):
        curve = hull_voltage(joint_hull([finished]), -1.3)
        voltages_V = [s.voltage_V for s in curve.steps]
        assert voltages_V == sorted(voltages_V, reverse=True)
        assert (curve.steps[0].x_from, curve.steps[-1].x_to) == (0, 1)
        rows = read_member(finished).rows
        ends = [min(r.energy for r in rows if r.x == x) / 4 for x in (0, 1)]
        assert curve.average_voltage_V == pytest.approx(-(ends[1] - ends[0] + 1.3))

    def test_one_composition_has_no_voltage(self):
        with pytest.raises(NoRangeError, match="one composition only"):
            voltage_curve(Cathode("Na", 1, 1.0, "", 100.0), SODIUM, [(1.0, -4.0)])

    def test_without_an_end_there_is_none(self, tmp_path, make_run):
        folder = make_run(tmp_path / "run", budget=1)
        Session(RunFolder(folder)).run()
        with pytest.raises(NoEndMemberError):
            hull_voltage(joint_hull([folder]), -1.3)


class TestMetal:
    @pytest.fixture
    def member(self, finished):
        return read_member(finished)

    def searched_with(self, member, potential, document):
        level = dataclasses.replace(
            member.level, potential=potential, weights_hash=model_identity(document)
        )
        return dataclasses.replace(member, level=level)

    @pytest.mark.parametrize("name", shipped_names())
    def test_a_model_file_alone_tells_which_model_it_is(self, name):
        try:
            potential = load_shipped(name)
        except MissingPackageError as error:
            pytest.skip(str(error))
        assert model_identity(model_description(name)) == potential.weights_hash

    @pytest.mark.parametrize("potential", ["chgnet-nafepo4", "default"])
    def test_shipped_models_have_one(self, member, potential):
        document = model_description("chgnet-nafepo4")
        metal = metal_of(self.searched_with(member, potential, document))
        assert (metal.element, metal.energy) == ("Na", -1.32195)
        assert metal.source == "model.json of chgnet-nafepo4"

    def test_runs_of_weights_that_were_shipped_before_keep_theirs(self, member):
        for former in FORMER_WEIGHTS:
            level = dataclasses.replace(
                member.level, potential="chgnet-nafepo4", weights_hash=former
            )
            metal = metal_of(dataclasses.replace(member, level=level))
            assert (metal.element, metal.energy) == ("Na", -1.32195)
            assert metal.source == "former weights of chgnet-nafepo4"

    def test_a_model_of_ones_own_has_one_if_its_file_says_so(self, member, tmp_path):
        document = model_description("chgnet-nafepo4")
        folder = tmp_path / "my-model"
        folder.mkdir()
        member = dataclasses.replace(member, folder=tmp_path)
        member = self.searched_with(member, "./my-model", document)
        (folder / "model.json").write_text(json.dumps(document | {"working_ion_metal": {}}))
        with pytest.raises(NoMetalError, match=r"model\.json has no energy of Na metal"):
            metal_of(member)
        (folder / "model.json").write_text(json.dumps(document))
        assert metal_of(member).energy == -1.32195
        (folder / "model.json").write_text(json.dumps(document | {"weights_sha256": "0" * 64}))
        with pytest.raises(NoMetalError, match="is not the one that this run was searched with"):
            metal_of(member)
        (folder / "model.json").write_text("{")
        with pytest.raises(NoMetalError, match="cannot be read"):
            metal_of(member)

    def test_other_potentials_have_none_and_the_text_says_what_to_do(self, member):
        with pytest.raises(NoMetalError) as refused:
            metal_of(member)
        (line,) = str(refused.value).splitlines()
        assert "'./toy.py:LabelEnergy' has no model.json" in line
        assert "--metal-energy E (eV per atom)" in line

    def test_a_level_of_dft_has_one_where_its_settings_are_known(self, member):
        settings = {"code": "gpaw", "xc": "PBE", "cutoff_eV": 450.0, "hubbard_u_eV": {"Fe": 5.3}}
        metal = metal_of(dataclasses.replace(member, dft_settings=settings))
        assert metal == Metal("Na", -1.32195, "GPAW, PBE, 450 eV: Na, Li")
        for other in ({"cutoff_eV": 500.0}, {"code": "vasp"}, {"xc": None}):
            with pytest.raises(NoMetalError) as refused:
                metal_of(dataclasses.replace(member, dft_settings=settings | other))
            (line,) = str(refused.value).splitlines()
            assert "the energy of Na metal is known for GPAW, PBE, 450 eV" in line

    def test_a_given_energy_comes_first(self, member):
        document = model_description("chgnet-nafepo4")
        metal = metal_of(self.searched_with(member, "chgnet-nafepo4", document), -1.5)
        assert metal == Metal("Na", -1.5, "given")

    def test_all_shipped_models_were_trained_at_one_level(self):
        for name in shipped_names():
            (one,) = model_description(name)["working_ion_metal"].items()
            assert one in GPAW_PBE_450.items()
        assert Path(MODELS).is_dir()
