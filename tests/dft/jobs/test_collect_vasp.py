"""Outputs of VASP in the folders of jobs: which file, converged or not, and of which level."""

import bz2
import gzip
import shutil

import numpy as np
import pytest
from fake_vasp import outcar
from typer.testing import CliRunner

from gasearch.cli.app import app
from gasearch.dft.codes.outputs import find_output, read_output
from gasearch.dft.errors import NoOutputError, RefusedOutputError
from gasearch.dft.jobs.collect import adopt, collect_job
from gasearch.dft.jobs.export import export_jobs, training_frames
from gasearch.dft.jobs.prepare import Workplace
from gasearch.run.folder import RunFolder
from gasearch.store import dft_jobs
from gasearch.training.data.labels import Labelling
from gasearch.training.data.reading import NoFramesError, read_frames


@pytest.fixture
def place(whole, tmp_path):
    run = RunFolder(shutil.copytree(whole, tmp_path / "run"))
    found = Workplace.of(run, run.open_store(read_only=False))
    yield found
    found.store.close()


def candidate(place, formula="Na2Fe4P4O16"):
    rows = place.store.evaluations()
    return min(row.candidate for row in rows if row.composition == formula)


def exported(place, *, relax=True, ferromagnetic=True, number=None):
    numbers = [number or candidate(place)]
    (job,) = export_jobs(place, numbers, "vasp", relax=relax, ferromagnetic=ferromagnetic)
    return job


@pytest.fixture
def job(place):
    return exported(place)


def refused(place, job, **flaws):
    """Return why an output is not collected; nothing of it is in the database."""
    (job.path / "OUTCAR").write_text(outcar(job.path, **flaws))
    with pytest.raises(RefusedOutputError) as error:
        collect_job(place, job)
    assert "\n" not in str(error.value)
    assert dft_jobs.dft_rows(place.store, job.status().level) == []
    return str(error.value)


class TestConverged:
    def test_one_that_is_as_the_level_wants_it_is_collected(self, place, job):
        (job.path / "OUTCAR").write_text(outcar(job.path))
        status = collect_job(place, job)
        assert (status.charge_order, status.energy_eV) == ("kept", -170.02)

    def test_a_last_step_of_nelm_iterations_did_not_converge(self, place, job):
        assert "the electrons did not converge" in refused(place, job, iterations=(9, 200))
        (job.path / "OUTCAR").write_text(outcar(job.path, iterations=(200, 199)))
        assert collect_job(place, job).state == "collected"

    def test_every_step_goes_on_as_a_frame_but_those_that_did_not_converge(self, place, job):
        (job.path / "OUTCAR").write_text(outcar(job.path, iterations=(9, 200, 12, 200, 8)))
        collect_job(place, job)
        found = training_frames(place, None)
        assert [frame.get_potential_energy() for frame in found.frames] == [
            -170.0, -170.02, -170.04,
        ]  # fmt: skip
        assert found.left_out == {"the electrons did not converge": 2}

    def test_the_command_says_how_many_steps_are_left_out(self, place, job, tmp_path):
        (job.path / "OUTCAR").write_text(outcar(job.path, iterations=(200, 8)))
        collect_job(place, job)
        place.store.close()
        words = ["dft", "export", str(place.folder.path), "--as-training", str(tmp_path / "a.xyz")]
        said = CliRunner().invoke(app, words).stdout
        assert "wrote 1 frames" in said
        assert "left out: 1 (the electrons did not converge)" in said

    def test_without_its_output_the_last_step_goes_on(self, place, job):
        (job.path / "OUTCAR").write_text(outcar(job.path))
        collect_job(place, job)
        (job.path / "OUTCAR").unlink()
        assert len(training_frames(place, None).frames) == 1

    @pytest.mark.parametrize("name", ["OUTCAR", "OUTCAR.gz"])
    def test_a_training_drops_and_counts_them(self, job, name):
        text = outcar(job.path, iterations=(200, 8, 200)).encode()
        (job.path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
        found = read_frames([job.path / name], Labelling(code="vasp"))
        assert [frame.energy for frame in found.frames] == [-170.01]
        assert found.dropped == {"electrons not converged": 2}

    def test_a_file_of_such_steps_alone_has_no_frames(self, job):
        (job.path / "OUTCAR").write_text(outcar(job.path, iterations=(200, 200, 200)))
        with pytest.raises(NoFramesError, match=r"electrons not converged \(3\)"):
            read_frames([job.path / "OUTCAR"], Labelling(code="vasp"))


class TestWhichFile:
    @pytest.mark.parametrize(
        ("others", "chosen"),
        [
            (["OUTCAR", "OUTCAR.bak", "OUTCAR~", "OUTCAR.old", "OUTCAR.3"], "OUTCAR"),
            (["OUTCAR.9", "OUTCAR.10", "OUTCAR.old"], "OUTCAR.10"),
            (["OUTCAR.relax1.gz", "OUTCAR.relax2.gz"], "OUTCAR.relax2.gz"),
            (["OUTCAR.gz", "OUTCAR.9"], "OUTCAR.gz"),
            (["OUTCAR", "OUTCAR.gz"], "OUTCAR"),
            (["vasprun.9.xml", "OUTCAR"], "OUTCAR"),
            (["OUTCAR", "vasprun_old.xml"], "OUTCAR"),
            (["vasprun.xml.9", "vasprun.xml.10", "OUTCAR.10"], "vasprun.xml.10"),
            (["gpaw-9.txt", "gpaw-10.txt"], "gpaw-10.txt"),
            (["mine.pwo"], "mine.pwo"),
        ],
    )
    def test_the_exact_name_comes_first_and_numbers_are_numbers(self, tmp_path, others, chosen):
        for name in others:
            (tmp_path / name).touch()
        assert find_output(tmp_path).name == chosen

    @pytest.mark.parametrize(
        ("others", "told"),
        [
            (["OUTCAR.bak", "OUTCAR.old2"], "only OUTCAR.bak, OUTCAR.old2; name the file itself"),
            (["one.pwo", "two.pwo"], r"several outputs in it \(one.pwo, two.pwo\): name one"),
        ],
    )
    def test_what_may_be_a_backup_is_not_taken(self, tmp_path, others, told):
        for name in others:
            (tmp_path / name).touch()
        with pytest.raises(NoOutputError, match=told):
            find_output(tmp_path)

    def test_stale_files_beside_a_good_one_do_no_harm(self, place, job):
        (job.path / "OUTCAR").write_text(outcar(job.path))
        for name in ("OUTCAR.old", "OUTCAR~", "OUTCAR.bak"):
            (job.path / name).write_text(outcar(job.path, energy=-999.0, ENCUT=300))
        (job.path / "vasprun_old.xml").write_text("<modeling>")
        assert collect_job(place, job).energy_eV == -170.02

    @pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress)])
    def test_compressed_files_are_read_like_others(self, place, job, ending, pack):
        (job.path / f"OUTCAR.{ending}").write_bytes(pack(outcar(job.path).encode()))
        xml = '<modeling><i name="ENCUT"> 520.0</i>\n</modeling>\n'
        (job.path / f"vasprun.xml.{ending}").write_bytes(pack(xml.encode()))
        assert read_output(job.path / f"vasprun.xml.{ending}").energy == -170.02
        assert collect_job(place, job).charge_order == "kept"
        assert len(training_frames(place, None).frames) == 3

    def test_one_that_is_cut_or_tells_of_another_cutoff_is_refused(self, place, job):
        whole = gzip.compress(outcar(job.path).encode())
        (job.path / "OUTCAR.gz").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RefusedOutputError, match="cannot be read whole"):
            collect_job(place, job)
        (job.path / "OUTCAR.gz").write_bytes(gzip.compress(outcar(job.path, ENCUT=400).encode()))
        with pytest.raises(RefusedOutputError, match="a cutoff of 400 eV"):
            collect_job(place, job)


def blocks(place, job, *of_iron):
    """Return blocks of which iron has several, each with its own U."""
    return [("Na", 2, 0.0), *(("Fe", 2, u) for u in of_iron), ("P", 4, 0.0), ("O", 16, 0.0)]


class TestLevel:
    @pytest.mark.parametrize(
        ("flaws", "told"),
        [
            ({"titles": {"Fe": "Fe"}}, "POTCAR PAW_PBE Fe on Fe, not the PAW_PBE Fe_pv"),
            ({"GGA": "PS"}, "GGA = PS, not the PE"),
            ({"METAGGA": "R2SCAN"}, "METAGGA = R2SCAN, not the --"),
            ({"LDAUJ": "0.0 1.0 0.0 0.0"}, "LDAUJ 1 on Fe, not the 0"),
            ({"NSW": 0}, "geometry = as given, not the relaxed"),
            ({"ISIF": 3}, "cell = free, not the fixed"),
            ({"LHFCALC": "T"}, "LHFCALC = T, not the F"),
            ({"LASPH": ".FALSE."}, "LASPH = F, not the T"),
            ({"SIGMA": 0.2}, "SIGMA = 0.2, not the 0.05"),
            ({"NUPDOWN": -1}, "NUPDOWN = -1, not the 18"),
            ({"IVDW": 12}, "IVDW = 12, not the 0"),
            ({"scale": 1.01}, r"(+3.0 % in volume)"),
        ],
    )
    def test_what_moves_an_energy_is_compared(self, place, job, flaws, told):
        assert told in refused(place, job, **flaws)

    def test_a_u_on_one_of_two_blocks_is_not_that_of_the_level(self, place, job):
        told = refused(place, job, blocks=blocks(place, job, 5.3, 0.0))
        assert "U = 0 and 5.3 eV on Fe, not the 5.3 eV on Fe" in told
        (job.path / "OUTCAR").write_text(outcar(job.path, blocks=blocks(place, job, 5.3, 5.3)))
        assert collect_job(place, job).charge_order == "kept"

    def test_moments_of_another_magnetic_order_are_refused(self, place, job):
        signs = np.ones(26)
        signs[[2, 3]] = -1
        told = refused(place, job, signs=signs)
        assert "2 of 4 moments are antiparallel" in told
        (job.path / "OUTCAR").write_text(outcar(job.path, signs=-np.ones(26)))
        assert collect_job(place, job).charge_order == "kept"  # turned round as a whole

    def test_an_antiferromagnetic_level_wants_its_own_order(self, place):
        job = exported(place, ferromagnetic=False)
        text = (job.path / "INCAR").read_text()
        words = next(line for line in text.splitlines() if "MAGMOM" in line).split(" = ")[1].split()
        moments = [float(m) for n, m in (w.split("*") for w in words) for _ in range(int(n))]
        (job.path / "INCAR").write_text(text.replace("*-", "*"))
        assert "antiparallel" in refused(place, job)
        signs = np.where(np.array(moments) < 0, -1, 1)
        (job.path / "OUTCAR").write_text(outcar(job.path, signs=signs))
        assert collect_job(place, job).charge_order == "kept"

    def test_a_level_of_geometries_as_given_wants_them_as_given(self, place):
        job = exported(place, relax=False)
        assert "geometry = relaxed, not the as given" in refused(place, job, NSW=60, IBRION=2)
        (job.path / "OUTCAR").write_text(outcar(job.path, iterations=(9,)))
        assert collect_job(place, job).charge_order == "kept"

    def test_a_vasprun_tells_its_settings_too(self, place, job):
        (job.path / "OUTCAR").write_text(outcar(job.path))
        types = "".join(
            f"<rc><c>1</c><c>{e:2}</c><c> 1.0</c><c> 1.0</c><c>PAW_PBE {title} 01Jan2001</c></rc>"
            for e, title in (("Na", "Na_pv"), ("Fe", "Fe"), ("P", "P"), ("O", "O"))
        )
        table = f'<atominfo><array name="atomtypes" ><set>{types}</set></array></atominfo>'
        xml = f'<modeling><i name="GGA" type="string">PE</i>{table}\n</modeling>\n'
        (job.path / "vasprun.xml").write_text(xml)
        with pytest.raises(RefusedOutputError, match="POTCAR PAW_PBE Fe on Fe"):
            collect_job(place, job)
        (job.path / "vasprun.xml").write_text(xml.replace("PAW_PBE Fe ", "PAW_PBE Fe_pv "))
        assert collect_job(place, job).charge_order == "kept"

    def test_results_from_elsewhere_are_of_one_level_among_themselves(self, place, job, tmp_path):
        first, second = candidate(place), candidate(place, "Na4Fe4P4O16")
        other = exported(place, number=second)
        for folder, number, flaws in (
            (job.path, first, {"ENCUT": 400, "METAGGA": "SCAN"}),
            (other.path, second, {"ENCUT": 400, "METAGGA": "SCAN"}),
        ):
            path = tmp_path / f"OUTCAR.{number}"
            path.write_text(outcar(folder, **flaws))
            assert collect_job(place, *adopt(place, path, number, "mine", "vasp")).found == number
        third = candidate(place, "Na3Fe4P4O16")
        path = tmp_path / "OUTCAR"
        for flaws, told in (
            ({"ENCUT": 400, "METAGGA": "R2SCAN"}, "METAGGA = R2SCAN, not the SCAN"),
            ({"ENCUT": 520, "METAGGA": "SCAN"}, "a cutoff of 520 eV, not the 400 eV"),
        ):
            path.write_text(outcar(exported(place, number=third).path, **flaws))
            with pytest.raises(RefusedOutputError) as refused:
                adopt(place, path, third, "mine", "vasp")
            assert told in str(refused.value)


def test_a_result_far_from_potential_and_neighbours_is_noted(place):
    model = {row.candidate: row.energy for row in place.store.evaluations()}
    formulas = ("Fe4P4O16", "NaFe4P4O16", "Na2Fe4P4O16", "Na3Fe4P4O16", "Na4Fe4P4O16")
    numbers = [candidate(place, formula) for formula in formulas]
    for n in numbers:
        job = exported(place, number=n)
        shift = -11.5 if n == numbers[2] else 0.0  # 2.875 eV per formula unit too low
        (job.path / "OUTCAR").write_text(outcar(job.path, energy=model[n] + shift))
    place.store.close()
    folder = str(place.folder.path)
    level = job.status().level
    for words in (["dft", "collect", folder], ["hull", folder, "--level", level]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        (note,) = [line for line in result.stderr.split("note: ") if "away from" in line]
        assert f"candidate {numbers[2]} (x = 0.5)" in " ".join(note.split())
        assert "-2875 meV/f.u." in " ".join(note.split())


def test_export_says_what_is_likely_to_be_wrong(place):
    number, folder = candidate(place), place.folder.path
    place.store.close()
    words = ["dft", "export", str(folder), str(number)]
    said = CliRunner().invoke(app, words).stderr
    assert "note" not in said
    assert "moments by label: Fe2+ 4 (high spin), Fe3+ 5 (high spin)\n" in said
    assert "Hubbard U: 5.3 eV on Fe\n" in said
    with (folder / "run.toml").open("a") as file:
        file.write("\n[dft]\nhubbard_u_eV = { Mn = 3.9 }\n")
    result = CliRunner().invoke(app, words)
    assert "note: there is no U on Fe (nor on others)" in " ".join(result.stderr.split())


def test_a_preset_of_run_toml_frees_the_cell_of_its_results(place):
    number, folder = candidate(place), place.folder.path
    with (folder / "run.toml").open("a") as file:
        file.write('\n[dft.vasp]\npreset = "petersen2026"\nmesh = [3, 4, 5]\n')
    other = Workplace.of(RunFolder(folder), place.store)
    job = exported(other, number=number)
    assert (job.path / "1-surrogate" / "POSCAR").is_file()
    assert "cell = fixed, not the free" in refused(other, job, ISIF=2)
    assert "LREAL = F, not the T" in refused(other, job, LREAL=".FALSE.")
    (job.path / "OUTCAR").write_text(outcar(job.path, scale=1.01))
    assert collect_job(other, job).charge_order == "kept"
    (found,) = training_frames(other, None).frames[:1]
    start = place.structure(number).cell.volume
    assert found.cell.volume == pytest.approx(1.01**3 * start, rel=1e-6)


def test_a_result_of_another_crystal_leaves_no_level_behind(place, job, tmp_path):
    (tmp_path / "OUTCAR").write_text(outcar(job.path))
    before = [level.name for level in dft_jobs.dft_levels(place.store)]
    with pytest.raises(RefusedOutputError, match="it holds"):
        adopt(place, tmp_path / "OUTCAR", candidate(place, "Na4Fe4P4O16"), "mine", "vasp")
    assert [level.name for level in dft_jobs.dft_levels(place.store)] == before
