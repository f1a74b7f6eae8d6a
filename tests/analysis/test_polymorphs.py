"""One hull of several hosts of one chemistry."""

import ase.io
import numpy as np
import pytest

from gasearch.analysis.hull import formation_hull
from gasearch.analysis.joint_hull import joint_hull
from gasearch.analysis.polymorphs import DifferentRunsError
from gasearch.analysis.voltage import host_voltages, hull_voltage
from gasearch.crystal.chemistry import Chemistry
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session

HOSTS = ("nafepo4-olivine", "nafepo4-maricite")


def searched(folder, make_run, **options):
    options = {"budget": 16, "relax": {"rattle": 0.0}} | options
    run = make_run(folder, **options)
    Session(RunFolder(run)).run()
    return run


def of(structure, **more):
    return {"structure": structure, "supercell": [1, 1, 1]} | more


@pytest.fixture(scope="module")
def runs(tmp_path_factory, make_run):
    """Both polymorphs of NaFePO4, one run each."""
    folder = tmp_path_factory.mktemp("polymorphs")
    return [searched(folder / name, make_run, host=of(name)) for name in HOSTS]


class TestChemistry:
    def test_polymorphs_in_any_cell_are_alike(self):
        olivine = Host.build(builtin_host(HOSTS[0]), (1, 2, 1))
        maricite = Host.build(builtin_host(HOSTS[1]), (1, 1, 1))
        assert Chemistry.of(olivine) == Chemistry.of(maricite)
        assert [Chemistry.of(maricite).formula(x) for x in (0, 0.25, 1)] == [
            "FePO4", "Na0.25FePO4", "NaFePO4"
        ]  # fmt: skip

    def test_other_materials_are_not(self):
        found = {
            name: Chemistry.of(Host.build(builtin_host(name), (1, 1, 1)))
            for name in (*HOSTS, "lifepo4-olivine", "na2fesio4", "limn2o4-spinel")
        }
        assert len(set(found.values())) == 4
        assert found["na2fesio4"].formula(0.5) == "NaFeSiO4"
        assert found["na2fesio4"].formula(1) == "Na2FeSiO4"


class TestHull:
    def test_each_point_names_its_host(self, runs):
        hull = joint_hull(runs)
        assert hull.hosts == HOSTS
        assert {(p.run, p.host) for p in hull.points} == set(
            zip(map(str, runs), HOSTS, strict=True)
        )
        (alone,) = joint_hull(runs[:1]).by_host
        assert alone.label == alone.level.name

    def test_the_common_hull_is_that_of_all_points(self, runs):
        hull = joint_hull(runs)
        x, energies = (
            np.array(v) for v in zip(*((p.x, p.energy_eV) for p in hull.points), strict=True)
        )
        expected = formation_hull(x.tolist(), energies.tolist(), 4, (0, 1))
        np.testing.assert_allclose(
            [p.above_hull_eV_per_fu for p in hull.points], expected.above_hull_per_fu, atol=1e-12
        )
        for vertex in hull.vertices():
            lowest = min(p.energy_eV_per_fu for p in hull.points if p.x == vertex.x)
            assert vertex.energy_eV_per_fu == lowest

    def test_each_host_keeps_the_hull_that_it_has_alone(self, runs):
        hull = joint_hull(runs)
        for run, own in zip(runs, hull.by_host, strict=True):
            alone = {p.id: p for p in joint_hull([run]).points}
            here = {p.id: p for p in hull.points if p.run == str(run)}
            for number, point in alone.items():
                expected = pytest.approx(point.above_hull_eV_per_fu, abs=1e-12)
                assert here[number].above_own_hull_eV_per_fu == expected
                assert here[number].above_hull_eV_per_fu >= point.above_hull_eV_per_fu - 1e-12
            assert [p.id for p in own.vertices()] == [p.id for p in joint_hull([run]).vertices()]

    def test_voltages_are_those_of_the_common_hull_and_of_each_host(self, runs):
        hull = joint_hull(runs)
        by_host = host_voltages(hull, -1.3)
        assert tuple(by_host) == HOSTS
        for run, curve in zip(runs, by_host.values(), strict=True):
            assert curve.steps == hull_voltage(joint_hull([run]), -1.3).steps
        common = hull_voltage(hull, -1.3)
        ends = [min(p.energy_eV_per_fu for p in hull.points if p.x == x) for x in (0, 1)]
        assert common.average_voltage_V == pytest.approx(-(ends[1] - ends[0] + 1.3))
        assert host_voltages(joint_hull(runs[:1]), -1.3) == {}


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "line"),
        [
            (
                {"host": of("na2fesio4")},
                "compositions differ: NaFePO4 at x = 1 (nafepo4-olivine) and Na2FeSiO4 at x = 1",
            ),
            (
                {"host": of("nafepo4-maricite", formula_unit="Na2Fe2P2O8")},
                "formula units differ: NaFePO4 at x = 1 (nafepo4-olivine) and Na2Fe2P2O8 at x = 1",
            ),
            (
                {"host": of("nafepo4-maricite"), "potential": "./toy.py:Blind"},
                "levels of theory differ: ./toy.py:LabelEnergy-",
            ),
        ],
    )
    def test_in_one_line_that_says_what_differs(self, runs, make_run, tmp_path, options, line):
        other = searched(tmp_path / "other", make_run, budget=1, **options)
        with pytest.raises(DifferentRunsError) as refused:
            joint_hull([runs[0], other])
        (text,) = str(refused.value).splitlines()
        assert line in text
        assert str(other) in text

    def test_two_files_of_one_name_are_told_apart_by_their_runs(self, runs, make_run, tmp_path):
        folders = []
        for number, name in enumerate(HOSTS):
            folder = tmp_path / str(number)
            folder.mkdir()
            ase.io.write(folder / "host.vasp", builtin_host(name).unit_cell)
            folders.append(
                searched(folder, make_run, budget=1, host=of("host.vasp", **SUBLATTICES))
            )
        assert joint_hull(folders).hosts == tuple(f"host.vasp ({folder})" for folder in folders)


SUBLATTICES = {
    "formula_unit": "NaFePO4",
    "sublattice": [
        {"kind": "working_ion", "sites": ["Na"], "species": ["Na+", "vacancy"]},
        {"kind": "redox", "sites": ["Fe"], "species": ["Fe2+", "Fe3+"]},
    ],
    "framework": {"P": "P5+", "O": "O2-"},
}
