"""Results come into the run under the charge order that came out; and go on as training data."""

import json
import shutil
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from places import SHIPPED_FRAMES
from typer.testing import CliRunner

from gasearch.analysis.hull import formation_hull
from gasearch.cli.app import app
from gasearch.crystal.decoration import Decoration
from gasearch.dft.errors import NoOutputError, RefusedOutputError, UnknownJobError
from gasearch.dft.jobs.collect import adopt, collect_job, jobs_of
from gasearch.dft.jobs.export import export_jobs, training_frames, write_frames
from gasearch.dft.jobs.folders import JobFolder
from gasearch.dft.jobs.prepare import Workplace, prepare_job
from gasearch.errors import UsageError
from gasearch.run.folder import RunFolder
from gasearch.search.check import check_run
from gasearch.search.session import Session
from gasearch.store import dft_jobs
from gasearch.store.checks.check import check_store
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import FIRST_OUTSIDE
from gasearch.training.data.reading import read_frames

MOMENTS = {2: 3.66, 3: 4.29}


@pytest.fixture(scope="module")
def part(tmp_path_factory, make_run):
    """A run that knows eight decorations."""
    folder = make_run(tmp_path_factory.mktemp("run"), budget=8)
    Session(RunFolder(folder)).run()
    return folder


def opened(source, tmp_path):
    folder = tmp_path / "run"
    if not folder.exists():
        shutil.copytree(source, folder)
    run = RunFolder(folder)
    return Workplace.of(run, run.open_store(read_only=False))


@pytest.fixture
def place(whole, tmp_path):
    found = opened(whole, tmp_path)
    yield found
    found.store.close()


@pytest.fixture
def small(part, tmp_path):
    found = opened(part, tmp_path)
    yield found
    found.store.close()


def decoration_of(place, number):
    return Decoration.from_bytes(place.host, place.store.proposal(number).occupation)


def orders(place, formula):
    """Return the candidates of a composition by number."""
    rows = place.store.evaluations()
    return sorted(row.candidate for row in rows if row.composition == formula)


def unknown(place):
    """Return a decoration of x = 1/2 that the run does not know."""
    known = {row.fingerprint for row in place.store.evaluations(verdict=None)}
    every = place.host.fingerprints(place.host.composition_at(0.5))
    return Decoration.from_fingerprint(place.host, next(f for f in every if f not in known))


def result_of(decoration, moments=MOMENTS, energy=-170.0, forces=True, like=None):
    """Return what a code could have computed for a decoration, or for a structure like it."""
    atoms = decoration.to_atoms() if like is None else like.copy()
    if like is None:
        atoms.rattle(0.03, seed=4)
    values = [moments.get(round(charge), 0.02) for charge in atoms.get_initial_charges()]
    atoms.set_initial_charges(None)
    atoms.set_initial_magnetic_moments(None)
    results = {"energy": energy, "magmoms": np.array(values)}
    if forces:
        results["forces"] = np.full((len(atoms), 3), 0.01)
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def computed(place, number, atoms=None, *, steps=1, relax=True):
    """Leave in a job's folder what GPAW would have left; by default of the order asked for."""
    atoms = result_of(decoration_of(place, number)) if atoms is None else atoms
    job = prepare_job(place, number, "gpaw", relax=relax)
    ase.io.write(job.path / "relax.traj", [atoms] * steps)
    ase.io.write(job.path / "result.traj", atoms)
    outcome = {"end": "done", "reason": "", "n_steps": steps - 1, "wall_s": 12.0, "attempt": 1}
    job.write_json("outcome.json", outcome)
    return job


def level_of(place):
    return dft_jobs.dft_levels(place.store)[-1].name


def rows(place, level=None):
    return dft_jobs.dft_rows(place.store, level or level_of(place))


class TestKept:
    def test_it_is_an_evaluation_of_the_candidate_at_a_level_of_its_own(self, place):
        number = orders(place, "Na2Fe4P4O16")[0]
        before = place.store.evaluations()
        shown = ase.io.read(f"{place.store.path}@relaxed=1")
        found = collect_job(place, computed(place, number, steps=3))
        assert (found.charge_order, found.found) == ("kept", number)
        (row,) = rows(place)
        assert (row.candidate, row.energy, row.verdict) == (number, -170.0, "ok")
        assert row.fmax == pytest.approx(0.01 * np.sqrt(3))
        assert (row.n_calls, row.wall_s, row.audit) == (3, 12.0, "dft-moments-1")
        relaxed = dft_jobs.dft_relaxed(place.store, number, level_of(place))
        assert relaxed.atoms.get_initial_charges().sum() == 0
        assert np.isnan(relaxed.stress).all()
        assert place.store.evaluations() == before
        assert check_store(place.store.path) == []
        again = ase.io.read(f"{place.store.path}@relaxed=1")  # ASE sees nothing of it
        energies = [[a.get_potential_energy() for a in frames] for frames in (shown, again)]
        assert energies[0] == energies[1]

    def test_the_moments_of_its_sites_lie_in_the_folder(self, place):
        number = orders(place, "Na3Fe4P4O16")[0]
        job = computed(place, number)
        collect_job(place, job)
        document = job.read_json("moments.json")
        assert sorted(site["species"] for site in document["sites"]) == ["Fe2+"] * 3 + ["Fe3+"]
        assert document["windows"]["Fe3+"] == [4.1, 4.7]

    def test_of_two_results_the_lower_one_stays(self, place):
        number = orders(place, "Na2Fe4P4O16")[0]
        decoration = decoration_of(place, number)
        for energy, lowest in ((-170.0, -170.0), (-171.0, -171.0), (-169.0, -171.0)):
            collect_job(place, computed(place, number, result_of(decoration, energy=energy)))
            (row,) = rows(place)
            assert row.energy == lowest
        assert check_store(place.store.path) == []

    def test_a_hull_of_dft_is_made_of_its_rows_alone(self, place):
        for formula, energy in (("Fe4P4O16", -165), ("Na2Fe4P4O16", -174), ("Na4Fe4P4O16", -182)):
            number = orders(place, formula)[0]
            collect_job(
                place,
                computed(place, number, result_of(decoration_of(place, number), energy=energy)),
            )
        found = rows(place)
        hull = formation_hull([r.x for r in found], [r.energy for r in found], 4, (0.0, 1.0))
        assert hull.formation_energy_per_fu == pytest.approx([0, -0.125, 0])


class TestMoved:
    def test_it_is_filed_under_the_candidate_that_came_out(self, place):
        asked, other = orders(place, "Na2Fe4P4O16")[:2]
        job = computed(place, asked, result_of(decoration_of(place, other)))
        found = collect_job(place, job)
        assert (found.charge_order, found.found) == ("moved", other)
        assert [row.candidate for row in rows(place)] == [other]
        (row,) = dft_jobs.jobs(place.store)
        assert (row.candidate, row.found, row.charge_order) == (asked, other, "moved")
        assert check_store(place.store.path) == []

    def test_a_decoration_that_nobody_proposed_is_outside_until_a_search_finds_it(self, small):
        decoration = unknown(small)
        asked = orders(small, "Na2Fe4P4O16")[0]
        n_before, n_calls = small.store.n_candidates, small.store.counts().n_calls
        found = collect_job(small, computed(small, asked, result_of(decoration)))
        assert found.found == FIRST_OUTSIDE
        proposal = small.store.proposal(FIRST_OUTSIDE)
        assert (proposal.number, proposal.origin) == (None, "dft")
        assert (proposal.fingerprint, proposal.parents) == (decoration.fingerprint, (asked,))
        assert (small.store.n_candidates, small.store.counts().n_calls) == (n_before, n_calls)
        assert small.store.queued() == []
        assert check_store(small.store.path) == []
        assert [row.candidate for row in rows(small)] == [FIRST_OUTSIDE]
        run_file = small.folder.run_file
        run_file.write_text(run_file.read_text().replace('"budget" = 8', '"budget" = 100'))
        Session(small.folder).run()
        assert small.store.outside() == []
        (row,) = rows(small)
        assert row.fingerprint == decoration.fingerprint
        assert 8 < row.candidate <= 16
        assert small.store.evaluation(row.candidate).verdict == "ok"
        assert dft_jobs.jobs(small.store)[0].found == row.candidate
        assert check_run(small.folder, replay=True) == []


class TestDelocalised:
    def test_it_is_recorded_and_flagged_and_no_evaluation(self, place):
        number = orders(place, "Na2Fe4P4O16")[0]
        atoms = result_of(decoration_of(place, number), {2: 4.04, 3: 4.04})
        found = collect_job(place, computed(place, number, atoms))
        assert (found.charge_order, found.found) == ("delocalised", None)
        assert "moment 4.04" in found.reason
        assert rows(place) == []
        (row,) = dft_jobs.jobs(place.store)
        assert (row.state, row.charge_order, row.evaluation) == ("collected", "delocalised", None)
        events = [e for e in place.store.events(kind="dft_job") if "data" in e.data]
        assert events[-1].data["data"]["energy_eV"] == -170.0
        assert check_store(place.store.path) == []


class TestRefused:
    def test_nothing_half_written_is_collected(self, place):
        number = orders(place, "Na2Fe4P4O16")[0]
        atoms = result_of(decoration_of(place, number))
        job = computed(place, number, atoms)
        whole = (job.path / "result.traj").read_bytes()
        (job.path / "outcome.json").unlink()
        with pytest.raises(NoOutputError, match="gasearch dft run"):
            collect_job(place, job)
        job.write_json("outcome.json", {"end": "scf", "reason": "the electrons did not converge"})
        with pytest.raises(RefusedOutputError, match="the electrons did not converge"):
            collect_job(place, job)
        job.write_json("outcome.json", {"end": "done"})
        (job.path / "result.traj").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RefusedOutputError):
            collect_job(place, job)
        assert rows(place) == []
        assert job.status().state == "prepared"

    def test_another_crystal_is_refused(self, place):
        number, other = orders(place, "Na2Fe4P4O16")[0], orders(place, "Na3Fe4P4O16")[0]
        job = computed(place, number, result_of(decoration_of(place, other)))
        with pytest.raises(RefusedOutputError, match="it holds"):
            collect_job(place, job)

    def test_a_job_of_another_run_is_refused(self, place, part, tmp_path):
        other = opened(part, tmp_path / "other")
        number = orders(other, "Na4Fe4P4O16")[0]
        job = computed(other, number)
        other.store.close()
        with pytest.raises(UnknownJobError, match="no job of the run"):
            collect_job(place, job)

    def test_a_job_that_the_database_forgot_is_collected_all_the_same(self, place):
        number = orders(place, "Na2Fe4P4O16")[0]
        before = place.store.path.read_bytes()
        job = computed(place, number)
        place.store.path.write_bytes(before)  # as from a backup
        with PopulationStore.open(place.store.path) as store:
            later = replace(place, store=store)  # of another command
            (found,) = jobs_of(later, [job.path.resolve()])
            assert collect_job(later, *found).found == number
        assert check_store(place.store.path) == []

    def test_a_path_without_a_job_needs_to_be_told_whose_it_is(self, place, tmp_path):
        ase.io.write(tmp_path / "a.extxyz", result_of(decoration_of(place, 1)))
        with pytest.raises(UnknownJobError, match="--candidate"):
            jobs_of(place, [tmp_path / "a.extxyz"])


class TestFromElsewhere:
    def test_a_result_from_a_workflow_of_ones_own_is_adopted(self, place, tmp_path):
        number = orders(place, "Na2Fe4P4O16")[0]
        path = tmp_path / "mine.extxyz"
        ase.io.write(path, result_of(decoration_of(place, number), forces=False))
        job, output = adopt(place, path, number, "vasp-mine", "vasp")
        found = collect_job(place, job, output)
        assert found.charge_order == "kept"
        (row,) = rows(place, "vasp-mine")
        assert np.isnan(row.fmax)
        relaxed = dft_jobs.dft_relaxed(place.store, number, "vasp-mine")
        assert np.isnan(relaxed.forces).all()
        assert check_store(place.store.path) == []

    @pytest.mark.parametrize("name", ["", "../x", "a b"])
    def test_the_name_of_its_level_fits_a_folder(self, place, tmp_path, name):
        ase.io.write(tmp_path / "a.extxyz", result_of(decoration_of(place, 1)))
        with pytest.raises(UsageError, match="--level"):
            adopt(place, tmp_path / "a.extxyz", 1, name, "vasp")

    def test_an_exported_job_is_collected_from_a_file_in_its_folder(self, place):
        number = orders(place, "Na3Fe4P4O16")[1]
        (job,) = export_jobs(place, [number], "vasp", relax=True, ferromagnetic=True)
        atoms = result_of(decoration_of(place, number))
        order = np.argsort(atoms.numbers, kind="stable")
        calc = atoms.calc.results
        shuffled = atoms[order]
        shuffled.calc = SinglePointCalculator(
            shuffled, energy=-1.0, magmoms=calc["magmoms"][order], forces=calc["forces"]
        )
        ase.io.write(job.path / "final.extxyz", shuffled)
        ((found, output),) = jobs_of(place, [job.path / "final.extxyz"])
        collected = collect_job(place, found, output)
        assert (collected.charge_order, collected.found) == ("kept", number)
        assert job.status().state == "collected"


class TestOtherSettings:
    def test_a_job_whose_text_tells_of_another_cutoff_is_not_collected(self, place):
        number = orders(place, "Na2Fe4P4O16")[0]
        job = computed(place, number)
        text = "Input parameters:\n  h: 0.16\n\n"
        text += "Wave functions: Plane wave expansion\n  Cutoff energy: {} eV\n"
        (job.path / "gpaw-1.txt").write_text(text.format(300))
        with pytest.raises(RefusedOutputError, match="a cutoff of 300 eV, not the 450 eV"):
            collect_job(place, job)
        assert rows(place, job.status().level) == []
        (job.path / "gpaw-1.txt").write_text(text.format(450))
        assert collect_job(place, job).found == number


class TestTrainingFrames:
    def test_they_are_read_with_the_shipped_data(self, whole, tmp_path):
        run_file = shutil.copytree(whole, tmp_path / "run") / "run.toml"
        text = run_file.read_text()
        run_file.write_text(text.replace("[dft.gpaw]\n", "[dft.gpaw]\ngrid_spacing = 0.0\n"))
        place = opened(whole, tmp_path)
        number = orders(place, "Na2Fe4P4O16")[0]
        collect_job(place, computed(place, number, steps=2))
        write_frames(training_frames(place, None).frames, tmp_path / "new.xyz")
        alone = read_frames([tmp_path / "new.xyz"])
        assert len(alone.frames) == 2
        assert not alone.dropped
        frame = alone.frames[0]
        assert frame.energy == -170.0
        assert frame.forces == pytest.approx(0.01)
        charges = frame.charges[[e == "Fe" for e in frame.atoms.symbols]]
        assert sorted(charges) == [2, 2, 3, 3]
        assert frame.moments[frame.redox_sites].max() == pytest.approx(4.29)
        both = read_frames([SHIPPED_FRAMES, tmp_path / "new.xyz"])
        assert len(both.frames) == 249
        # The shipped data call this decoration otherwise: it has one name, theirs.
        assert len({one.decoration for one in both.frames}) == 16
        place.store.close()

    def test_frames_on_either_side_of_a_jump_have_their_own_labels(self, place):
        asked, other = orders(place, "Na2Fe4P4O16")[:2]
        job = computed(place, asked, result_of(decoration_of(place, other)))
        steps = [
            result_of(decoration_of(place, asked)),
            result_of(decoration_of(place, asked), {2: 4.04, 3: 4.04}),
            result_of(decoration_of(place, other)),
        ]
        ase.io.write(job.path / "relax.traj", steps)
        collect_job(place, job)
        first, second = training_frames(place, None).frames
        assert first.info["decoration"] != second.info["decoration"]

    def test_levels_are_not_mixed(self, place, tmp_path):
        number = orders(place, "Na2Fe4P4O16")[0]
        atoms = result_of(decoration_of(place, number))
        collect_job(place, computed(place, number, atoms))
        still = result_of(decoration_of(place, number), like=place.structure(number))
        collect_job(place, computed(place, number, still, relax=False))
        alike = training_frames(place, None).frames  # the electrons are treated alike
        assert len(alike) == 2
        write_frames(alike, tmp_path / "alike.xyz")
        assert len(read_frames([tmp_path / "alike.xyz"]).frames) == 2
        ase.io.write(tmp_path / "mine.extxyz", atoms)
        collect_job(place, *adopt(place, tmp_path / "mine.extxyz", number, "mine", "vasp"))
        with pytest.raises(UnknownJobError, match="several DFT levels"):
            training_frames(place, None)
        assert len(training_frames(place, "mine").frames) == 1

    def test_without_results_there_is_nothing_to_write(self, place):
        with pytest.raises(UnknownJobError, match="no DFT result was collected"):
            training_frames(place, None)


class TestCommands:
    def run(self, *words):
        return CliRunner().invoke(app, ["dft", *map(str, words)])

    def test_export_status_collect_and_training(self, whole, tmp_path):
        place = opened(whole, tmp_path)
        folder = place.folder.path
        number = orders(place, "Na2Fe4P4O16")[0]
        decoration = decoration_of(place, number)
        place.store.close()
        exported = self.run("export", folder, number)
        assert exported.exit_code == 0, exported.output
        job = JobFolder(next((folder / "dft").iterdir()))
        assert str(job.path) in exported.stdout
        assert "exported" in self.run("status", folder).stdout
        assert "1 jobs have no output yet" in self.run("collect", folder).stdout
        ase.io.write(job.path / "result.traj", result_of(decoration))
        document = json.loads(self.run("collect", folder, "--json").stdout)
        assert document["collected"][0]["charge_order"] == "kept"
        assert document["refused"] == []
        (line,) = json.loads(self.run("status", folder, "--json").stdout)
        assert (line["state"], line["energy_eV"]) == ("collected", -170.0)
        assert self.run("export", folder, "--as-training", tmp_path / "t.xyz").exit_code == 0
        assert len(ase.io.read(tmp_path / "t.xyz", ":")) == 1
        assert "nothing to collect" in self.run("collect", folder).stdout

    def test_promoted_candidates_are_the_default(self, whole, tmp_path):
        from gasearch.store.promotions import NewPromotion, add_promotions

        place = opened(whole, tmp_path)
        number = orders(place, "Na2Fe4P4O16")[0]
        assert place.chosen(()) == []
        add_promotions(place.store, [NewPromotion(number, "lowest", "a test")])
        assert place.chosen(()) == [number]
        place.store.close()
        assert self.run("export", place.folder.path).stdout.count("vasp-pbeu520") == 1
        assert "nothing to do" in self.run("export", place.folder.path).stdout

    def test_bad_input_is_one_clear_line(self, whole, tmp_path):
        place = opened(whole, tmp_path)
        folder = place.folder.path
        place.store.close()
        for words, told in (
            (("export", folder, 99), "candidate 99 has no relaxed structure"),
            (("export", folder, 1, "--code", "castep"), "expected one of vasp"),
            (("export", folder, 1, "--level", "x"), "--level is for --as-training"),
            (("collect", folder, tmp_path / "nothing"), "there is no"),
            (("collect", folder, "--level", "x"), "belong together"),
            (("status", tmp_path / "none"), "there is no folder"),
        ):
            result = self.run(*words)
            assert told in str(result.exception), words
            assert isinstance(result.exception, UsageError), words
