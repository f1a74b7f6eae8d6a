"""ABINIT: its input read back by ASE, and outputs."""

import ase.io
import pytest
from fake_dft import refused

from gasearch.dft.codes.abinit import input_files
from gasearch.dft.codes.inputs import in_order
from gasearch.run.dft_section import DftSection


def test_ase_reads_the_crystal_and_the_moments_back(tmp_path, atoms):
    section = DftSection()
    written = input_files(atoms, section, "job", relax=True, ferromagnetic=True)
    (tmp_path / "abinit.abi").write_text(written["abinit.abi"])
    read = ase.io.read(tmp_path / "abinit.abi", format="abinit-in")
    ordered, _ = in_order(atoms)
    assert list(read.symbols) == list(ordered.symbols)
    assert read.positions == pytest.approx(ordered.positions, abs=1e-6)
    lines = written["abinit.abi"].splitlines()
    assert "spinmagntarget 17" in lines
    assert "lpawu -1 2 -1 -1" in lines
    assert "upawu 0 5.3 0 0 eV" in lines
    start = lines.index("spinat") + 1
    spins = [float(line.split()[2]) for line in lines[start : start + len(atoms)]]
    assert sum(spins) == 17


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "truncated"), ("ScfConvergenceWarning\n Calculation completed.\n", "electrons did not")],
)
def test_outputs_with_flaws_are_refused(tmp_path, text, told):
    path = tmp_path / "run.abo"
    path.write_text(f".Version 10.2.5 of ABINIT \n{text}")
    assert told in refused(path)
