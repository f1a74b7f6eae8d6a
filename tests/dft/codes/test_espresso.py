"""Quantum ESPRESSO: inputs read back by ASE, and outputs."""

import ase.io
import pytest
from fake_dft import refused

from gasearch.dft.codes.espresso import input_files
from gasearch.dft.codes.inputs import in_order
from gasearch.dft.codes.outputs import refuse_other_settings
from gasearch.dft.errors import RefusedOutputError
from gasearch.dft.levels import dft_level
from gasearch.run.dft_section import DftSection


class TestInputs:
    def text(self, atoms, **keywords):
        section = DftSection.model_validate(keywords)
        written = input_files(atoms, section, "job", relax=True, ferromagnetic=True)
        return written["espresso.pwi"]

    def test_ase_reads_the_crystal_back(self, tmp_path, atoms):
        (tmp_path / "a.pwi").write_text(self.text(atoms))
        read = ase.io.read(tmp_path / "a.pwi")
        ordered, _ = in_order(atoms)
        assert list(read.symbols) == list(ordered.symbols)
        assert read.positions == pytest.approx(ordered.positions, abs=1e-6)

    def test_labels_are_species_of_their_own_with_u_and_a_fixed_moment(self, atoms):
        lines = [line.split() for line in self.text(atoms).splitlines()]
        named = {words[0]: words[2] for words in lines if words[1:2] == ["="]}
        assert float(named["tot_magnetization"]) == 17
        assert int(named["nspin"]) == 2
        assert ["U", "Fe-3d", "5.3"] in lines
        assert ["U", "Fe1-3d", "5.3"] in lines

    def test_pseudopotentials_are_the_users(self, atoms):
        text = self.text(atoms, espresso={"pseudopotentials": {"Fe": "mine.upf"}})
        assert text.count("mine.upf") == 2  # Fe2+ and Fe3+
        assert "Na.UPF" in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "truncated"),
        ("convergence NOT achieved after 100 iterations\nJOB DONE.\n", "electrons did not"),
        ("The maximum number of steps has been reached.\nJOB DONE.\n", "geometry did not"),
    ],
)
def test_outputs_with_flaws_are_refused(tmp_path, text, told):
    path = tmp_path / "espresso.pwo"
    path.write_text(f"     Program PWSCF v.7.2 starts on 1Jan2026\n{text}")
    assert told in refused(path)


HUBBARD = """     Hubbard projectors: ortho-atomic
     U(Fe-3d)  =  5.3000
     U(Fe1-3d) =  5.3000
"""
TEXT = f"""     Program PWSCF v.7.2 starts on 1Jan2026
     kinetic-energy cutoff     =      59.9748  Ry
     charge density cutoff     =     479.9451  Ry
     Exchange-correlation= PBE
                           (   1   4   3   4   0   0   0)
     nstep                     =           60
     PseudoPot. # 1 for Fe read from file:
     PseudoPot. # 2 for Fe1 read from file:
     PseudoPot. # 3 for O  read from file:
{HUBBARD}"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("59.9748", "40.0000", "a cutoff of 544.2"),
        ("479.9451", "320.0000", "density cutoff = 320.0 Ry, not the 479.9 Ry"),
        ("= PBE", "=  SLA  PW   PSX  PSC ", "xc = SLA PW PSX PSC, not the PBE"),
        ("nstep   ", "other   ", "geometry = as given, not the relaxed"),
        ("5.3000\n", "4.0000\n", "U = 4 eV on Fe, not the 5.3 eV on Fe"),
        (HUBBARD, "", "U = 0, not the 5.3 eV on Fe"),
    ],
)  # fmt: skip
def test_what_pw_x_computed_otherwise_is_refused(tmp_path, host, old, new, told):
    level = dft_level("espresso", DftSection(), host)
    path = tmp_path / "espresso.pwo"
    path.write_text(TEXT)
    refuse_other_settings(path, level.name, level.settings, host)
    path.write_text(TEXT.replace(" =  SLA", "=  SLA").replace(old, new))
    with pytest.raises(RefusedOutputError) as error:
        refuse_other_settings(path, level.name, level.settings, host)
    assert told in str(error.value)
