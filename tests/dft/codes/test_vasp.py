"""VASP: inputs read back by pymatgen and ASE, outputs, and settings in them."""

import gzip
import subprocess

import ase.io
import numpy as np
import pytest
from fake_dft import refused

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.dft.codes.contract import OutputSettings
from gasearch.dft.codes.inputs import in_order
from gasearch.dft.codes.outputs import read_output, refuse_other_settings, settings_in
from gasearch.dft.codes.vasp import input_files
from gasearch.dft.codes.vasp_outputs import converged_steps, converged_steps_of_vasprun
from gasearch.dft.errors import RefusedOutputError
from gasearch.dft.kpoints import grid
from gasearch.dft.levels import dft_level
from gasearch.errors import UsageError
from gasearch.run.dft_section import DftSection


def vasp(folder, atoms, *, relax=True, ferromagnetic=True, **keywords):
    """Write the files and return INCAR, KPOINTS and POSCAR as pymatgen reads them."""
    inputs = pytest.importorskip("pymatgen.io.vasp.inputs")
    section = DftSection.model_validate(keywords)
    written = input_files(atoms, section, "job", relax=relax, ferromagnetic=ferromagnetic)
    for name, text in written.items():
        (folder / name).write_text(text)
    return (
        inputs.Incar.from_file(folder / "INCAR"),
        inputs.Kpoints.from_file(folder / "KPOINTS"),
        inputs.Poscar.from_file(folder / "POSCAR", check_for_potcar=False),
    )


class TestInputs:
    def test_the_settings_are_those_of_the_preset_gasearch(self, tmp_path, atoms):
        incar, _, _ = vasp(tmp_path, atoms)
        expected = {
            "ENCUT": 520, "LASPH": True, "LMAXMIX": 4, "ALGO": "All", "ISYM": 0, "ISMEAR": 0,
            "SIGMA": 0.05, "ISPIN": 2, "LDAU": True, "LORBIT": 11, "GGA": "Pe",
        }  # fmt: skip
        assert {tag: incar[tag] for tag in expected} == expected
        assert incar["NUPDOWN"] == 5 * 4 - 3
        assert incar.check_params() is None

    def test_arrays_go_by_the_species_of_the_poscar(self, tmp_path, atoms):
        incar, _, poscar = vasp(tmp_path, atoms)
        assert poscar.site_symbols == ["Na", "Fe", "P", "O"]
        assert poscar.natoms == [3, 4, 4, 16]
        assert incar["LDAUL"] == [-1, 2, -1, -1]
        assert incar["LDAUU"] == [0, 5.3, 0, 0]
        titles = (tmp_path / "POTCAR.titles").read_text().split()
        assert titles == ["Na_pv", "Fe_pv", "P", "O"]
        assert not (tmp_path / "POTCAR").exists()

    def test_each_moment_is_that_of_the_label_of_its_site(self, tmp_path, atoms):
        incar, _, poscar = vasp(tmp_path, atoms)
        places = poscar.structure.cart_coords
        assert len(incar["MAGMOM"]) == len(atoms)
        for moment, place in zip(incar["MAGMOM"], places, strict=True):
            nearest = int(np.argmin(np.linalg.norm(atoms.positions - place, axis=1)))
            assert np.linalg.norm(atoms.positions[nearest] - place) < 1e-6
            label = {("Fe", 2): 4, ("Fe", 3): 5}
            charge = round(atoms.get_initial_charges()[nearest])
            assert moment == label.get((atoms.symbols[nearest], charge), 0)

    def test_a_relaxation_keeps_the_cell(self, tmp_path, atoms):
        incar, _, _ = vasp(tmp_path, atoms, fmax=0.02, max_steps=80)
        assert (incar["IBRION"], incar["ISIF"], incar["NSW"]) == (2, 2, 80)
        assert incar["EDIFFG"] == -0.02
        incar, _, _ = vasp(tmp_path, atoms, relax=False)
        assert incar["NSW"] == 0
        assert "ISIF" not in incar

    def test_the_mesh_holds_gamma_and_is_dense(self, tmp_path, atoms):
        _, kpoints, _ = vasp(tmp_path, atoms)
        assert kpoints.style.name == "Gamma"
        assert tuple(kpoints.kpts[0]) == (3, 4, 5)

    def test_the_mesh_is_that_of_the_level_whatever_the_cell_became(self, host, atoms):
        grown = atoms.copy()
        grown.set_cell(1.3 * atoms.cell.array, scale_atoms=True)
        options = {"relax": True, "ferromagnetic": True}
        written = input_files(grown, DftSection(), "job", **options, lattice=host.atoms)
        assert written["KPOINTS"].splitlines()[3] == "3 4 5"
        assert input_files(grown, DftSection(), "", **options)["KPOINTS"].splitlines()[3] == "2 3 4"

    def test_antiferromagnetic_moments_alternate_and_their_sum_is_fixed(self, tmp_path, atoms):
        incar, _, _ = vasp(tmp_path, atoms, ferromagnetic=False)
        moments = np.array(incar["MAGMOM"])
        assert sorted(np.abs(moments[moments != 0])) == [4, 4, 4, 5]
        assert (moments < 0).sum() == 2
        assert incar["NUPDOWN"] == moments.sum() == 1

    def test_the_assumed_magnetic_order_is_stated(self, tmp_path, atoms):
        vasp(tmp_path, atoms)
        text = (tmp_path / "README").read_text()
        assert "ferromagnetic" in text
        assert "NUPDOWN = 17" in text

    def test_the_user_has_the_last_word(self, tmp_path, atoms):
        own = {"vasp": {"incar": {"ncore": 4, "ALGO": "Normal"}, "potcar": {"Na": "Na"}}}
        incar, _, _ = vasp(tmp_path, atoms, **own)
        assert (incar["NCORE"], incar["ALGO"]) == (4, "Normal")
        assert (tmp_path / "POTCAR.titles").read_text().startswith("Na\n")

    def test_a_spin_state_changes_moments_and_their_sum(self, tmp_path, atoms):
        incar, _, _ = vasp(tmp_path, atoms, spin_states={"Fe3+": 1.0})
        assert sorted(m for m in incar["MAGMOM"] if m) == [1, 4, 4, 4]
        assert incar["NUPDOWN"] == 13

    def test_the_readme_says_what_is_likely_to_be_wrong(self, tmp_path, atoms):
        vasp(tmp_path, atoms)
        assert "Beware" not in (tmp_path / "README").read_text()
        vasp(tmp_path, atoms, hubbard_u_eV={"Mn": 3.9})
        assert "Beware: there is no U on Fe" in (tmp_path / "README").read_text()

    def test_ase_reads_the_same_crystal(self, tmp_path, atoms):
        vasp(tmp_path, atoms)
        read = ase.io.read(tmp_path / "POSCAR", format="vasp")
        ordered, order = in_order(atoms)
        assert list(read.symbols) == list(ordered.symbols)
        assert read.get_all_distances(mic=True) == pytest.approx(
            atoms[order].get_all_distances(mic=True), abs=1e-8
        )


def preset(host, **own):
    return DftSection.model_validate({"vasp": {"preset": "petersen2026", **own}})


@pytest.fixture(scope="module")
def tripled():
    return Host.build(builtin_host("nafepo4-olivine"), (1, 3, 2))


def oxidised(host):
    return Decoration.random(host, host.composition_at(2 / 3), np.random.default_rng(1)).to_atoms()


class TestPreset:
    """`petersen2026`: what the INCARs of the public workflow of arXiv 2603.26471 say."""

    def files(self, folder, atoms, section):
        written = input_files(atoms, section, "job", relax=True, ferromagnetic=True)
        for name, text in written.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        return written

    def test_the_incar_is_theirs(self, tripled):
        written = input_files(
            oxidised(tripled), preset(tripled), "job", relax=True, ferromagnetic=True
        )
        tags = dict(line.split(" = ", 1) for line in written["INCAR"].splitlines())
        expected = {
            "ISIF": "3", "EDIFFG": "-0.02", "EDIFF": "1e-06", "NELM": "300", "LREAL": "Auto",
            "SYMPREC": "1e-07", "LASPH": ".TRUE.", "ALGO": "All", "ENCUT": "520",
            "LDAUU": "0 5.3 0 0", "NUPDOWN": "104",
        }  # fmt: skip
        assert {tag: tags[tag] for tag in expected} == expected
        assert written["KPOINTS"].splitlines()[2:4] == ["Gamma", "3 1 3"]
        assert "INCARs of Petersen et al. 2026" in written["README"]
        assert "sh swap_back.sh" in written["README"]

    def test_u_is_theirs_unless_run_toml_says_otherwise(self, tripled):
        assert preset(tripled).hubbard_u_eV == {"Fe": 5.3, "Mn": 3.9, "Co": 3.32, "Ni": 6.2}
        own = DftSection(hubbard_u_eV={"Fe": 4.0}, vasp={"preset": "petersen2026"})
        assert (own.hubbard_u_eV, own.fmax) == ({"Fe": 4.0}, 0.02)

    def test_another_cell_needs_a_mesh(self, host, atoms):
        with pytest.raises(UsageError, match="set mesh under"):
            dft_level("vasp", preset(host), host)
        section = preset(host, mesh=[3, 3, 6])
        written = input_files(atoms, section, "job", relax=True, ferromagnetic=True)
        assert written["KPOINTS"].splitlines()[3] == "3 3 6"
        with pytest.raises(ValueError, match="expected three numbers"):
            preset(host, mesh=[3, 3])

    def test_it_is_a_level_of_its_own_and_ours_has_the_old_name(self, host):
        level = dft_level("vasp", preset(host, mesh=[3, 4, 5]), host)
        assert level.name.startswith("vasp-pbeu520-petersen2026-")
        assert level.settings["geometry"] == "relaxed with its cell"
        assert dft_level("vasp", DftSection(), host).name == "vasp-pbeu520-6dfc00c9"

    def test_ga_stands_for_fe3_first_without_a_moment_and_its_oxygens_drawn_in(
        self, tmp_path, tripled
    ):
        atoms = oxidised(tripled)
        self.files(tmp_path, atoms, preset(tripled))
        first = ase.io.read(tmp_path / "1-surrogate/POSCAR", format="vasp")
        whole = ase.io.read(tmp_path / "POSCAR", format="vasp")
        assert str(first.symbols) == "Na16Fe16Ga8P24O96"
        tags = (tmp_path / "1-surrogate/INCAR").read_text()
        assert "MAGMOM = 16*0 16*4 128*0\n" in tags
        assert "NUPDOWN = 64\n" in tags
        assert "LDAUU = 0 5.3 0 0 0\n" in tags
        titles = (tmp_path / "1-surrogate/POTCAR.titles").read_text().split()
        assert titles == ["Na_pv", "Fe_pv", "Ga", "P", "O"]
        for site in [n for n, e in enumerate(first.symbols) if e == "Ga"]:
            before, after = (
                np.sort(one.get_distances(site, range(64, 160), mic=True))[:6]
                for one in (whole, first)
            )
            assert after.mean() < 0.97 * before.mean()

    def test_the_swap_back_makes_the_poscar_of_the_second_step(self, tmp_path, tripled):
        self.files(tmp_path, oxidised(tripled), preset(tripled))
        whole = ase.io.read(tmp_path / "POSCAR", format="vasp")
        first = tmp_path / "1-surrogate"
        assert subprocess.run(["sh", "swap_back.sh"], cwd=tmp_path, check=False).returncode != 0
        (first / "CONTCAR").write_text((first / "POSCAR").read_text())
        subprocess.run(["sh", "swap_back.sh"], cwd=tmp_path, check=True)
        swapped = ase.io.read(tmp_path / "POSCAR", format="vasp")
        assert list(swapped.symbols) == list(whole.symbols)
        relaxed = ase.io.read(first / "CONTCAR", format="vasp")
        assert swapped.positions == pytest.approx(relaxed.positions)

    def test_without_oxidised_sites_there_is_one_step(self, tripled):
        atoms = Decoration.random(
            tripled, tripled.composition_at(1.0), np.random.default_rng(1)
        ).to_atoms()
        written = input_files(atoms, preset(tripled), "job", relax=True, ferromagnetic=True)
        assert not [name for name in written if "surrogate" in name or "swap" in name]


class TestPotcar:
    @pytest.mark.parametrize(
        ("variable", "place"),
        [
            ("VASP_PP_PATH", "potpaw_PBE/{}/POTCAR"),
            ("PMG_VASP_PSP_DIR", "POT_GGA_PAW_PBE/POTCAR.{}.gz"),
        ],
    )
    def test_it_is_written_where_the_path_is_set(
        self, tmp_path, atoms, monkeypatch, variable, place
    ):
        for title in ("Na_pv", "Fe_pv", "P", "O"):
            path = tmp_path / place.format(title)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = f"PAW_PBE {title}\n".encode()
            path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
        monkeypatch.setenv(variable, str(tmp_path))
        written = input_files(atoms, DftSection(), "job", relax=True, ferromagnetic=True)
        lines = written["POTCAR"].splitlines()
        assert lines == ["PAW_PBE Na_pv", "PAW_PBE Fe_pv", "PAW_PBE P", "PAW_PBE O"]
        assert "POTCAR is not here" not in written["README"]
        other = DftSection(vasp={"potcar": {"Na": "Na_sv"}})
        with pytest.raises(UsageError, match="there is no POTCAR of Na_sv"):
            input_files(atoms, other, "job", relax=True, ferromagnetic=True)

    def test_the_settings_file_of_pymatgen_counts_too(self, tmp_path, atoms, monkeypatch):
        (tmp_path / "pmgrc.yaml").write_text(f"PMG_VASP_PSP_DIR: {tmp_path}\n")
        monkeypatch.setenv("PMG_CONFIG_FILE", str(tmp_path / "pmgrc.yaml"))
        with pytest.raises(UsageError, match=f"PMG_VASP_PSP_DIR = {tmp_path}"):
            input_files(atoms, DftSection(), "job", relax=True, ferromagnetic=True)


CELL = 4.0


def outcar(*, electrons=True, geometry=True, ended=True, nsw=60, moments=(3.7, 0.05), steps=2):
    """Return the lines of an OUTCAR that matter."""
    lines = [
        " vasp.6.4.2", " POTCAR:    PAW_PBE Fe_pv 02Aug2007", " POTCAR:    PAW_PBE O 08Apr2002",
        " POTCAR:    PAW_PBE Fe_pv 02Aug2007", " POTCAR:    PAW_PBE O 08Apr2002",
        ("   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of "
        "bands    NBANDS=     20"),
        "   ions per type =               1   1",
        f"   NSW    =  {nsw}    number of steps for IOM", "   IBRION =      2    ionic relax",
        "   ISPIN  =      2    spin polarized calculation?",
        "   k-points in reciprocal lattice and weights: Gamma",
        "      0.00000000  0.00000000  0.00000000       1.000",
    ]  # fmt: skip
    for step in range(1, steps + 1):
        is_last = step == steps
        lines += [f"{'-' * 39} Iteration {step:6d}(   1)  {'-' * 39}"]
        if electrons or not is_last:
            lines += ["------ aborting loop because EDIFF is reached ------"]
        lines += [
            " magnetization (x)", "", "# of ion       s       p       d       tot",
            "------------------------------------------",
            *(f"    {n + 1}   0.0  0.0  {m:.3f}  {m:.3f}" for n, m in enumerate(moments)),
            "", " VOLUME and BASIS-vectors are now :",
            "      direct lattice vectors                 reciprocal lattice vectors",
            *(f"  {'  '.join(f'{CELL * (i == j):.6f}' for j in range(3))}  0.25 0 0"
              for i in range(3)),
            "", " POSITION                                       TOTAL-FORCE (eV/Angst)",
            " " + "-" * 83,
            "   0.0  0.0  0.0    0.100  0.000  0.000", "   2.0  2.0  2.0   -0.100  0.000  0.000",
            "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)",
            "  ---------------------------------------------------",
            f"  free  energy   TOTEN  =       {-10 - step:.8f} eV", "",
            (f"  energy  without entropy=      {-10 - step:.8f}  energy(sigma->0) ="
            f"      {-10.5 - step:.8f}"),
        ]  # fmt: skip
    if geometry:
        lines += [" reached required accuracy - stopping structural energy minimisation"]
    if ended:
        lines += [" General timing and accounting informations for this job:"]
    return "\n".join(lines) + "\n"


class TestOutputs:
    def test_a_whole_outcar_is_read(self, tmp_path):
        (tmp_path / "OUTCAR").write_text(outcar())
        found = read_output(tmp_path / "OUTCAR")
        assert (found.code, found.n_steps) == ("vasp", 1)
        assert found.energy == -12.5  # of the last step, extrapolated to zero width
        assert found.moments == pytest.approx([3.7, 0.05])
        assert found.forces[0] == pytest.approx([0.1, 0, 0])
        assert str(found.atoms.symbols) == "FeO"

    @pytest.mark.parametrize(
        ("flaws", "told"),
        [
            ({"ended": False}, "truncated"),
            ({"electrons": False}, "electrons did not converge"),
            ({"geometry": False}, "geometry did not converge"),
        ],
    )
    def test_one_with_a_flaw_is_refused(self, tmp_path, flaws, told):
        (tmp_path / "OUTCAR").write_text(outcar(**flaws))
        assert told in refused(tmp_path / "OUTCAR")

    def test_a_single_point_need_not_say_that_its_geometry_converged(self, tmp_path):
        (tmp_path / "OUTCAR").write_text(outcar(nsw=0, geometry=False, steps=1))
        assert read_output(tmp_path / "OUTCAR").n_steps == 0

    @pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
    def test_a_piece_of_one_is_refused(self, tmp_path, share):
        text = outcar()
        (tmp_path / "OUTCAR").write_text(text[: int(share * len(text))])
        assert "truncated" in refused(tmp_path / "OUTCAR")

    def test_a_vasprun_takes_its_moments_from_the_outcar_beside_it(self, tmp_path):
        path = tmp_path / "vasprun.xml"
        path.write_text("<modeling>\n</modeling>\n")
        assert "put the OUTCAR beside it" in refused(path)
        (tmp_path / "OUTCAR").write_text(outcar())
        assert read_output(path).energy == -12.5
        path.write_text("<modeling>\n")
        assert "truncated" in refused(path)


def test_each_step_converged_before_nelm_iterations_or_did_not():
    step = "--- Iteration {:6d}({:4d})  ---\n"
    reached = "aborting loop because EDIFF is reached\n"
    text = "   NELM   =      3;   NELMIN=  2\n"
    for ionic, n_iterations in ((1, 2), (2, 3), (3, 1)):
        text += "".join(step.format(ionic, n + 1) for n in range(n_iterations)) + reached
    text += step.format(4, 1) + step.format(4, 2)  # killed
    assert converged_steps(text) == [True, False, True, False]
    xml = '<i type="int" name="NELM">     3</i>'
    for n_iterations in (2, 3, 1):
        xml += f"<calculation>{'<scstep></scstep>' * n_iterations}</calculation>"
    assert converged_steps_of_vasprun(xml) == [True, False, True]
    assert converged_steps_of_vasprun(xml.replace("NELM", "OTHER")) == [True] * 3


def settings_of_outcar(cutoff=520.0, u=(5.3, 0.0), points=((0, 0, 0),)):
    """Return the lines of an OUTCAR that tell its settings."""
    lines = ["   VRHFIN =Fe: 3p4s", "   VRHFIN =O: s2p4", f"   ENCUT  =  {cutoff} eV  38.22 Ry"]
    lines += (
        [f"   U (eV)           for each species LDAUU =   {'  '.join(map(str, u))}"] if u else []
    )
    lines += [" k-points in reciprocal lattice and weights: Gamma"]
    lines += ["".join(f"{part:14.8f}" for part in point) + "       0.125" for point in points]
    return "\n".join([*lines, "", " k-points in units of 2pi/SCALE"]) + "\n"


def test_what_vasp_tells():
    points = [[0, 0, 0], [0.5, 0, 0.33333333]]
    found = settings_in(settings_of_outcar(points=points))
    assert (found.cutoff_eV, found.hubbard_u_eV) == (520.0, [("Fe", 5.3), ("O", 0.0)])
    assert found.kpoints == points
    assert settings_in(settings_of_outcar(u=())).hubbard_u_eV == [("Fe", 0.0), ("O", 0.0)]
    assert settings_in(settings_of_outcar(u=(1, 2, 3))).hubbard_u_eV is None
    xml = (
        '<modeling><varray name="kpointlist" ><v> 0.0 0.5 0.25 </v></varray>'
        '<i name="ENCUT">    520.00000000</i></modeling>'
    )
    assert settings_in(xml) == OutputSettings(520.0, None, [[0.0, 0.5, 0.25]])


def test_the_charge_of_the_cell_is_told(tmp_path, host):
    text = (
        settings_of_outcar()
        + """
   ions per type =               4   16
   POMASS =   55.847; ZVAL   =   14.000    mass and valenz
   POMASS =   16.000; ZVAL   =    6.000    mass and valenz
  Ionic Valenz
   ZVAL   =  14.00  6.00
   NELECT =     151.0000    total number of electrons
   METAGGA=      F    non-selfconsistent MetaGGA calc.
   GGA     =    --    GGA type
"""
    )
    tags = settings_in(text).tags
    assert (tags["charge"], tags["METAGGA"], tags["GGA"]) == ("1", "--", "PE")
    (tmp_path / "OUTCAR").write_text(text)
    level = dft_level("vasp", DftSection(vasp={"mesh": [1, 1, 1]}), host)
    with pytest.raises(RefusedOutputError, match="charge = 1, not the 0"):
        refuse_other_settings(tmp_path / "OUTCAR", level.name, level.settings, host)


def test_what_vasp_computed_otherwise_is_refused(tmp_path, host):
    section = DftSection()
    level = dft_level("vasp", section, host)
    points = grid((3, 4, 5)).tolist()  # what a mesh of 0.3 / Å has in this cell
    path = tmp_path / "OUTCAR"
    path.write_text(settings_of_outcar(points=points))
    refuse_other_settings(path, level.name, level.settings, host)
    path.write_text(settings_of_outcar(points=[p for p in points if p <= [-q % 1 for q in p]]))
    refuse_other_settings(path, level.name, level.settings, host)  # reduced by time reversal
    for other, told in (
        (settings_of_outcar(400.0, points=points), "cutoff of 400 eV"),
        (settings_of_outcar(u=(), points=points), "U = 0, not the 5.3 eV on Fe"),
        (settings_of_outcar(points=points[:1]), "k-points (1)"),
    ):
        path.write_text(other)
        with pytest.raises(RefusedOutputError, match="is not collected") as refused:
            refuse_other_settings(path, level.name, level.settings, host)
        assert told in str(refused.value)
    path.write_text(settings_of_outcar(points=points))
    (tmp_path / "vasprun.xml").write_text('<modeling><i name="ENCUT"> 300.0</i></modeling>')
    with pytest.raises(RefusedOutputError, match=r"vasprun\.xml .* cutoff of 300 eV"):
        refuse_other_settings(path, level.name, level.settings, host)


def test_tags_of_ones_own_count(tmp_path, host):
    section = DftSection(vasp={"incar": {"encut": 600, "LDAUU": "4 0", "KSPACING": 0.5}})
    level = dft_level("vasp", section, host)
    (tmp_path / "OUTCAR").write_text(settings_of_outcar(600.0, u=(4.0, 0.0)))
    refuse_other_settings(tmp_path / "OUTCAR", level.name, level.settings, host)
    (tmp_path / "OUTCAR").write_text(settings_of_outcar(520.0))
    with pytest.raises(RefusedOutputError, match="not the 600 eV"):
        refuse_other_settings(tmp_path / "OUTCAR", level.name, level.settings, host)
