"""What outputs say of their own settings, against those of the level that they are filed under."""

import pytest

from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.dft.codes.output_settings import Told, refuse_other_settings, told_settings
from gasearch.dft.errors import RefusedOutputError
from gasearch.dft.kpoints import grid
from gasearch.dft.levels import dft_level
from gasearch.run.dft_section import DftSection

HOST = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
GPAW = """
Input parameters:
  kpts: [[0.   0.25 0.25]]

Initialize ...

species:
  Fe:
    name: Iron
    charge: 0.0
    Hubbard: {U: 5.3,  # eV
              l: 2,
              scale: True}
    projectors:
      - 3d(6.00)    -7.505   1.058

  P:
    name: Phosphorus
    charge: 0.0

Reference energy: -208343.109853  # eV

1 k-points: 1 x 1 x 1 Monkhorst-Pack grid + [0.000000,1/4,1/4]
1 k-point in the irreducible part of the Brillouin zone
       k-points in crystal coordinates                weights
   0:     0.00000000    0.25000000    0.25000000          1/1

Wave functions: Plane wave expansion
  Cutoff energy: 450.000 eV
"""
"""Of GPAW 25.7.0, shortened."""


def outcar(cutoff=520.0, u=(5.3, 0.0), points=((0, 0, 0),)):
    """Return the lines of an OUTCAR that tell its settings."""
    lines = ["   VRHFIN =Fe: 3p4s", "   VRHFIN =O: s2p4", f"   ENCUT  =  {cutoff} eV  38.22 Ry"]
    lines += (
        [f"   U (eV)           for each species LDAUU =   {'  '.join(map(str, u))}"] if u else []
    )
    lines += [" k-points in reciprocal lattice and weights: Gamma"]
    lines += ["".join(f"{part:14.8f}" for part in point) + "       0.125" for point in points]
    return "\n".join([*lines, "", " k-points in units of 2pi/SCALE"]) + "\n"


def test_what_gpaw_tells():
    assert told_settings(GPAW) == Told(450.0, {"Fe": 5.3}, [[0.0, 0.25, 0.25]])
    assert told_settings(GPAW.replace("Hubbard", "Other")).hubbard_u_eV == {}


def test_what_vasp_tells():
    points = [[0, 0, 0], [0.5, 0, 0.33333333]]
    assert told_settings(outcar(points=points)) == Told(520.0, {"Fe": 5.3}, points)
    assert told_settings(outcar(u=())).hubbard_u_eV == {}
    assert told_settings(outcar(u=(1, 2, 3))).hubbard_u_eV is None
    xml = (
        '<modeling><varray name="kpointlist" ><v> 0.0 0.5 0.25 </v></varray>'
        '<i name="ENCUT">    520.00000000</i></modeling>'
    )
    assert told_settings(xml) == Told(520.0, None, [[0.0, 0.5, 0.25]])


def test_other_files_tell_nothing(tmp_path):
    (tmp_path / "mine.extxyz").write_text("1\nLattice\nFe 0 0 0\n")
    assert told_settings("1\nLattice\nFe 0 0 0\n") == Told()
    level = dft_level("gpaw", DftSection(), HOST)
    refuse_other_settings(tmp_path / "mine.extxyz", level.name, level.settings, HOST)
    refuse_other_settings(tmp_path / "result.traj", level.name, level.settings, HOST)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("450.000 eV", "400.000 eV", "a cutoff of 400 eV, not the 450 eV of the level gpaw-"),
        ("U: 5.3", "U: 4.0", "U = 4 eV on Fe, not the 5.3 eV on Fe of the level gpaw-"),
        ("0.00000000    0.25", "0.50000000    0.25", "k-points (1) that are not those of"),
    ],
)
def test_what_gpaw_computed_otherwise_is_refused(tmp_path, old, new, told):
    level = dft_level("gpaw", DftSection(), HOST)
    text = tmp_path / "gpaw-1.txt"
    text.write_text(GPAW)
    refuse_other_settings(tmp_path / "result.traj", level.name, level.settings, HOST)
    text.write_text(GPAW.replace(old, new))
    with pytest.raises(RefusedOutputError) as refused:
        refuse_other_settings(tmp_path / "result.traj", level.name, level.settings, HOST)
    (line,) = str(refused.value).splitlines()
    assert told in line
    assert "--candidate and --level" in line


def test_what_vasp_computed_otherwise_is_refused(tmp_path):
    section = DftSection()
    level = dft_level("vasp", section, HOST)
    points = grid((3, 4, 5)).tolist()  # what a mesh of 0.3 / Å has in this cell
    path = tmp_path / "OUTCAR"
    path.write_text(outcar(points=points))
    refuse_other_settings(path, level.name, level.settings, HOST)
    path.write_text(outcar(points=[p for p in points if p <= [-q % 1 for q in p]]))
    refuse_other_settings(path, level.name, level.settings, HOST)  # reduced by time reversal
    for other, told in (
        (outcar(400.0, points=points), "cutoff of 400 eV"),
        (outcar(u=(), points=points), "U = 0, not the 5.3 eV on Fe"),
        (outcar(points=points[:1]), "k-points (1)"),
    ):
        path.write_text(other)
        with pytest.raises(RefusedOutputError, match="is not collected") as refused:
            refuse_other_settings(path, level.name, level.settings, HOST)
        assert told in str(refused.value)
    path.write_text(outcar(points=points))
    (tmp_path / "vasprun.xml").write_text('<modeling><i name="ENCUT"> 300.0</i></modeling>')
    with pytest.raises(RefusedOutputError, match=r"vasprun\.xml .* cutoff of 300 eV"):
        refuse_other_settings(path, level.name, level.settings, HOST)


def test_tags_of_ones_own_count(tmp_path):
    section = DftSection(vasp={"incar": {"encut": 600, "LDAUU": "4 0", "KSPACING": 0.5}})
    level = dft_level("vasp", section, HOST)
    (tmp_path / "OUTCAR").write_text(outcar(600.0, u=(4.0, 0.0)))
    refuse_other_settings(tmp_path / "OUTCAR", level.name, level.settings, HOST)
    (tmp_path / "OUTCAR").write_text(outcar(520.0))
    with pytest.raises(RefusedOutputError, match="not the 600 eV"):
        refuse_other_settings(tmp_path / "OUTCAR", level.name, level.settings, HOST)
