"""GPAW: the input of a job, its retries, its text, and the settings in it."""

import ase.io
import numpy as np
import pytest
from fake_dft import refused
from places import DFT_FRAMES

from gasearch.dft.codes.contract import OutputSettings
from gasearch.dft.codes.gpaw import converged_steps, job_input, retries, with_retry
from gasearch.dft.codes.outputs import refuse_other_settings, settings_in
from gasearch.dft.errors import RefusedOutputError
from gasearch.dft.levels import dft_level
from gasearch.run.dft_section import DftSection

JOB = {"mixer": [0.1, 5, 50.0], "max_scf": 90, "surrogates": {"3": "Ga"}, "smearing_eV": 0.05}
TEXT = """
Input parameters:
  h: 0.16
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
HEAD = "\n  ___ ___ ___ _ _ _\n |   |   |_  | | | |\n | | | | | . | | | |\n |__ |  _|___|_____|\n"


def test_a_gpaw_text_with_a_step_that_did_not_converge_is_refused(tmp_path):
    path = tmp_path / "gpaw.txt"
    path.write_text(HEAD + "Positions:\n   0 Fe  0 0 0\niter:   1\nDid not converge!\n")
    assert "did not converge" in refused(path)


def test_each_step_converged_or_did_not():
    good, bad = "Converged after 20 iterations.\n", "Did not converge!\n"
    text = HEAD + "".join(f"\npositions:\n   0 Fe  0 0 0\n{one}" for one in (good, bad, good))
    assert converged_steps(text) == [True, False, True]


def test_the_input_of_a_job_is_that_of_the_shipped_data(host):
    frame = ase.io.read(DFT_FRAMES, 0)
    job = job_input(frame, host, DftSection(), relax=True)
    assert job["kpoints"] == [[0.0, 0.25, 0.25]]
    assert job["hubbard"] == {"Fe": ["d", 5.3]}
    assert (job["mixer"], job["max_scf"], job["smearing_eV"]) == ([0.1, 5, 50.0], 90, 0.05)
    n_na = np.count_nonzero(frame.symbols == "Na")
    assert job["total_moment"] == pytest.approx(5 * 4 - n_na)
    assert sum(job["moments"]) == pytest.approx(job["total_moment"])
    charges = frame.get_initial_charges()
    holes = [str(i) for i in np.flatnonzero((frame.symbols == "Fe") & (charges == 3))]
    assert job["surrogates"] == dict.fromkeys(holes, "Ga")
    assert sum(job["surrogate_moments"]) == pytest.approx(4 * (4 - len(holes)))


def test_retries_slow_mixing_down_and_the_level_stays():
    first, second = with_retry(JOB, 0, 1), with_retry(JOB, 1, 2)
    assert (first["rung"], first["mixer"], first["attempt"]) == ("as set", [0.1, 5, 50.0], 1)
    assert (second["rung"], second["max_scf"]) == ("mixing", 180)
    assert second["mixer"] == [0.05, 5, 100]
    assert all(with_retry(JOB, n, 1)["smearing_eV"] == 0.05 for n in range(4))


def test_surrogates_come_last_and_only_for_oxidised_sites():
    assert retries(JOB) == ["as set", "mixing", "smearing", "surrogate"]
    assert retries({**JOB, "surrogates": {}}) == ["as set", "mixing", "smearing"]


def test_what_gpaw_tells():
    grid = {"grid spacing": "0.16 Å"}
    assert settings_in(TEXT) == OutputSettings(
        450.0, [("Fe", 5.3), ("P", 0.0)], [[0.0, 0.25, 0.25]], grid
    )
    without = settings_in(TEXT.replace("Hubbard", "Other"))
    assert without.hubbard_u_eV == [("Fe", 0.0), ("P", 0.0)]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("450.000 eV", "400.000 eV", "a cutoff of 400 eV, not the 450 eV of the level gpaw-"),
        ("U: 5.3", "U: 4.0", "U = 4 eV on Fe, not the 5.3 eV on Fe of the level gpaw-"),
        ("0.00000000    0.25", "0.50000000    0.25", "k-points (1) that are not those of"),
        ("  h: 0.16\n", "", "grid spacing = GPAW's own, not the 0.16 Å of the level gpaw-"),
        ("  h: 0.16", "  gpts: [60 36 28]", "grid spacing = that of [60 36 28] points, not the"),
    ],
)
def test_what_gpaw_computed_otherwise_is_refused(tmp_path, host, old, new, told):
    level = dft_level("gpaw", DftSection(), host)
    text = tmp_path / "gpaw-1.txt"
    text.write_text(TEXT)
    refuse_other_settings(tmp_path / "result.traj", level.name, level.settings, host)
    text.write_text(TEXT.replace(old, new))
    with pytest.raises(RefusedOutputError) as refused:
        refuse_other_settings(tmp_path / "result.traj", level.name, level.settings, host)
    (line,) = str(refused.value).splitlines()
    assert told in line
    assert "--candidate and --level" in line
