"""Levels of theory of DFT: k sets of supercells, and what makes two results comparable."""

import numpy as np
import pytest
from declared_hosts import olivine

from gasearch.analysis.voltage import Metal, NoMetalError, dft_metal
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.dft.kpoints import canonical, folded, gpaw_points, grid, mesh, unfolded
from gasearch.dft.levels import DftLevel, dft_level, level_of_frames
from gasearch.errors import UsageError
from gasearch.run.dft_section import DftSection

QUARTER = [[0.0, 0.25, 0.25]]


def level(host, code="gpaw", **keywords):
    options = {k: keywords.pop(k) for k in ("relax", "ferromagnetic") if k in keywords}
    return dft_level(code, DftSection.model_validate(keywords), host, **options)


class TestKPoints:
    @pytest.mark.parametrize(
        ("repeats", "point"),
        [((1, 2, 1), (0, 0.5, 0.25)), ((1, 1, 2), (0, 0.25, 0.5)), ((1, 3, 1), (0, 0.75, 0.25))],
    )
    def test_a_point_of_the_unit_cell_is_folded(self, repeats, point):
        host = olivine(*repeats)
        assert gpaw_points(host, (), 0.3) == pytest.approx(np.array([point]))

    def test_a_folded_point_unfolds_to_what_it_came_from(self):
        matrix = np.array([[1, 1, 0], [-1, 1, 0], [0, 0, 3]])
        start = np.array([[0.1, 0.3, 0.2]])
        back = unfolded(folded(start, matrix), matrix)
        assert len(back) == 6  # the determinant
        assert np.isclose(back, start).all(axis=1).any()

    @pytest.mark.parametrize("repeats", [(1, 2, 1), (1, 1, 2), (1, 2, 2)])
    def test_cells_doubled_along_b_or_c_have_the_k_set_of_the_data(self, repeats):
        host = olivine(*repeats)
        assert canonical(gpaw_points(host, (), 0.3), host) == QUARTER

    @pytest.mark.parametrize("repeats", [(1, 3, 1), (1, 1, 3), (2, 1, 1), (1, 4, 1)])
    def test_other_cells_have_another_k_set(self, repeats):
        host = olivine(*repeats)
        assert canonical(gpaw_points(host, (), 0.3), host) != QUARTER

    def test_commensurate_meshes_are_one_k_set(self):
        host = Host.build(builtin_host("na2fesio4"), (1, 1, 1))
        doubled = Host.build(builtin_host("na2fesio4"), (1, 2, 1))
        small, large = grid((2, 4, 2)), grid((2, 2, 2))
        assert canonical(small, host) == canonical(large, doubled)

    def test_a_mesh_is_as_dense_as_it_is_asked_to_be(self):
        atoms = olivine().atoms
        for spacing in (0.2, 0.3, 1.0):
            size = np.array(mesh(atoms, spacing))
            length = 2 * np.pi / atoms.cell.lengths()
            assert (length / size <= spacing + 1e-9).all()
            assert (length / np.maximum(size - 1, 1) > spacing - 1e-9)[size > 1].all()


class TestLevels:
    def test_the_default_is_that_of_the_shipped_data_but_for_the_grid(self):
        found = level(olivine())
        of_data = level(olivine(), relax=False, gpaw={"grid_spacing": 0.0})
        as_computed = level(
            olivine(), relax=False, gpaw={"grid_spacing": 0.0, "basis_correction": False}
        )
        assert of_data.name == "gpaw-pbeu450-sp-235fdb13"  # as frames in data/ say
        assert as_computed.name == "gpaw-pbeu450-sp-aef281c9"  # and said before 2026-12
        assert found.settings["grid_spacing_A"] == 0.16
        assert found.settings["basis_correction"] is True
        assert found.settings["kpoints_of_unit_cell"] == QUARTER
        assert found.settings["hubbard_u_eV"] == {"Fe": 5.3}
        assert (found.settings["cutoff_eV"], found.settings["xc"]) == (450.0, "PBE")
        assert found.name.startswith("gpaw-pbeu450-")

    @pytest.mark.parametrize("code", ["gpaw", "vasp", "espresso", "abinit"])
    @pytest.mark.parametrize("ferromagnetic", [True, False])
    def test_frames_of_relaxations_and_single_points_are_of_one_level(self, code, ferromagnetic):
        given = (code, DftSection(), olivine())
        relaxed, single = (
            dft_level(*given, relax=relax, ferromagnetic=ferromagnetic) for relax in (True, False)
        )
        assert relaxed.name != single.name
        assert level_of_frames(relaxed) == level_of_frames(single) == single.name

    def test_frames_of_a_level_that_was_computed_elsewhere_keep_its_name(self):
        elsewhere = DftLevel.of("vasp", "mine", {"geometry": "computed elsewhere"})
        assert level_of_frames(elsewhere) == elsewhere.name

    def test_doubled_cells_share_the_level_and_tripled_ones_do_not(self):
        assert level(olivine(1, 2, 1)).name == level(olivine()).name
        assert level(olivine(1, 3, 1)).name != level(olivine()).name

    @pytest.mark.parametrize(
        "change",
        [
            {"hubbard_u_eV": {"Fe": 4.0}},
            {"smearing_eV": 0.1},
            {"gpaw": {"cutoff_eV": 500.0}},
            {"gpaw": {"kpoints": [[0.0, 0.0, 0.0]]}},
            {"gpaw": {"grid_spacing": 0.15}},
            {"gpaw": {"basis_correction": False}},
            {"spin_states": {"Fe2+": 0.0}},
            {"relax": False},
        ],
    )
    def test_what_changes_energies_changes_the_level(self, change):
        assert level(olivine(), **change).name != level(olivine()).name

    @pytest.mark.parametrize(
        "change",
        [
            {"fmax": 0.01},
            {"gpaw": {"mixer": [0.05, 5, 50.0]}},
            {"gpaw": {"orbital_starts": 4}},
            {"hubbard_u_eV": {"Fe": 5.3, "Mn": 4.0}},
        ],
    )
    def test_what_only_helps_to_converge_does_not(self, change):
        assert level(olivine(), **change).name == level(olivine()).name

    def test_an_antiferromagnetic_level_is_another_one(self):
        host = olivine()
        names = {level(host, "vasp", ferromagnetic=order).name for order in (True, False)}
        assert len(names) == 2

    def test_an_unknown_code_is_refused(self):
        with pytest.raises(UsageError, match="expected one of vasp, gpaw"):
            level(olivine(), "castep")


def test_the_metal_of_the_default_level_is_known_and_of_others_is_not():
    host = olivine()
    source = "GPAW, PBE, 450 eV: Na, Li"
    for own in (level(host), level(host, relax=False)):
        assert dft_metal("Na", own.name, own.settings) == Metal("Na", -1.32195, source)
    for element, own in (
        ("K", level(host)),
        ("Na", level(host, gpaw={"cutoff_eV": 500.0})),
        ("Na", level(host, "vasp")),
    ):
        with pytest.raises(NoMetalError, match=f"known for {source}, not for"):
            dft_metal(element, own.name, own.settings)
