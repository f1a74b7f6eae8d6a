"""Outputs of codes: read whole, or refused with the reason."""

import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from gasearch.dft.codes.outputs import find_output, read_output
from gasearch.dft.errors import RefusedOutputError

CELL = 4.0


def iron_oxide():
    atoms = Atoms("FeO", cell=[CELL] * 3, pbc=True, positions=[[0, 0, 0], [2, 2, 2]])
    results = {"energy": -12.5, "forces": [[0.1, 0, 0], [-0.1, 0, 0]], "magmoms": [3.7, 0.05]}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


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


def refused(path):
    with pytest.raises(RefusedOutputError) as error:
        read_output(path)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestVasp:
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


GPAW_HEAD = (
    "\n  ___ ___ ___ _ _ _\n |   |   |_  | | | |\n | | | | | . | | | |\n |__ |  _|___|_____|\n"
)


def test_a_gpaw_text_with_a_step_that_did_not_converge_is_refused(tmp_path):
    path = tmp_path / "gpaw.txt"
    path.write_text(GPAW_HEAD + "Positions:\n   0 Fe  0 0 0\niter:   1\nDid not converge!\n")
    assert "did not converge" in refused(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "truncated"),
        ("convergence NOT achieved after 100 iterations\nJOB DONE.\n", "electrons did not"),
        ("The maximum number of steps has been reached.\nJOB DONE.\n", "geometry did not"),
    ],
)
def test_espresso_outputs_with_flaws_are_refused(tmp_path, text, told):
    path = tmp_path / "espresso.pwo"
    path.write_text(f"     Program PWSCF v.7.2 starts on 1Jan2026\n{text}")
    assert told in refused(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "truncated"), ("ScfConvergenceWarning\n Calculation completed.\n", "electrons did not")],
)
def test_abinit_outputs_with_flaws_are_refused(tmp_path, text, told):
    path = tmp_path / "run.abo"
    path.write_text(f".Version 10.2.5 of ABINIT \n{text}")
    assert told in refused(path)


class TestAnyFile:
    @pytest.mark.parametrize("name", ["a.extxyz", "a.traj", "a.json"])
    def test_one_with_energy_and_moments_is_read(self, tmp_path, name):
        ase.io.write(tmp_path / name, iron_oxide())
        found = read_output(tmp_path / name)
        assert found.energy == -12.5
        assert found.moments == pytest.approx([3.7, 0.05])
        assert found.forces == pytest.approx(np.array([[0.1, 0, 0], [-0.1, 0, 0]]))

    @pytest.mark.parametrize(
        ("lost", "told"),
        [("energy", "no energy"), ("magmoms", "no magnetic moment of each atom")],
    )
    def test_one_without_them_is_refused(self, tmp_path, lost, told):
        atoms = iron_oxide()
        del atoms.calc.results[lost]
        ase.io.write(tmp_path / "a.traj", atoms)
        assert told in refused(tmp_path / "a.traj")

    def test_forces_may_be_missing(self, tmp_path):
        atoms = iron_oxide()
        del atoms.calc.results["forces"]
        ase.io.write(tmp_path / "a.traj", atoms)
        assert read_output(tmp_path / "a.traj").forces is None

    def test_numbers_that_are_none_are_refused(self, tmp_path):
        atoms = iron_oxide()
        atoms.calc.results["energy"] = float("nan")
        ase.io.write(tmp_path / "a.traj", atoms)
        assert "not finite" in refused(tmp_path / "a.traj")

    def test_what_ase_cannot_read_is_refused_in_one_line(self, tmp_path):
        (tmp_path / "a.dat").write_text("hello\nworld\n")
        (tmp_path / "b.traj").write_bytes(b"- of Ulm" + bytes(20))
        (tmp_path / "empty.extxyz").touch()
        for name in ("a.dat", "b.traj", "empty.extxyz", "missing.traj"):
            assert re.search("cannot read it|no such file|no structure", refused(tmp_path / name))


def test_the_output_of_a_folder_is_found(tmp_path):
    with pytest.raises(RefusedOutputError, match="no output in it yet"):
        find_output(tmp_path)
    (tmp_path / "OUTCAR").touch()
    assert find_output(tmp_path).name == "OUTCAR"
    (tmp_path / "vasprun.xml").touch()
    assert find_output(tmp_path) == Path(tmp_path / "vasprun.xml")
