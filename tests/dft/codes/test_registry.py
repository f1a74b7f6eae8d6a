"""Every registered code can be named, has a level, and is written or run."""

import pytest

from gasearch.dft.codes.registry import CODES, code_named, is_run_here, program_of
from gasearch.dft.levels import dft_level
from gasearch.errors import UsageError
from gasearch.run.dft_section import DftSection


@pytest.mark.parametrize("name", CODES)
def test_a_code_has_all_that_jobs_need(name, host, atoms):
    code, section = code_named(name), DftSection(potential={"name": "pmmcs"})
    assert code.name == name
    if code.has_electrons:
        assert getattr(section, name).cutoff_eV == code.level_settings(section, host)["cutoff_eV"]
        assert dft_level(name, section, host).name.startswith(f"{name}-pbeu")
        assert code.outputs
    assert code.output_names
    assert (code.write_inputs is None) == is_run_here(name)
    if code.write_inputs is None:
        assert program_of(name).job_input(atoms, host, section, relax=True)["task"] == "relax"
    else:
        written = code.write_inputs(atoms, section, "title", relax=True, ferromagnetic=True)
        assert "title" in written["README"]


def test_another_name_lists_those_that_there_are():
    with pytest.raises(UsageError, match="'castep': expected one of vasp, gpaw, espresso, abinit"):
        code_named("castep")
    with pytest.raises(UsageError, match="gasearch does not run vasp: export its inputs"):
        program_of("vasp")
    assert not is_run_here("other")
