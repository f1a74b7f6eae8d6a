"""What several tests share: run folders with a quick potential."""

import os
import shutil
import sys
from pathlib import Path

import hypothesis
import pytest
from places import FAKE_SLURM, TOYS

os.environ.setdefault("OMP_NUM_THREADS", "1")
hypothesis.settings.register_profile("any machine", deadline=None)  # no test of wall time
hypothesis.settings.load_profile("any machine")
MEMORY = Path("/dev/shm")


def pytest_configure():
    """Let the folders of tests lie in memory where there is room: no commit waits for a disk."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4e9:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def write_run(folder, potential="./toy.py:LabelEnergy", supercell=(1, 1, 1), budget=16, **sections):
    """Write a run.toml that uses a potential of tests/data/toy_potentials.py; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(TOYS, folder / "toy.py")
    search = {"budget": budget, "initial": 4, "seed": 3} | sections.pop("search", {})
    execution = {"workers": 0, "device": "cpu"} | sections.pop("execution", {})
    blind = {"allow_charge_blind": True} if potential.endswith("Blind") else {}
    document = {
        "host": {"structure": "nafepo4-olivine", "supercell": list(supercell)},
        "potential": {"name": potential} | blind | sections.pop("potential_keys", {}),
        "search": search,
        "execution": execution,
        "store": {"backups": 0},
    } | sections
    (folder / "run.toml").write_text(as_toml(document))
    return folder


def as_toml(document):
    lines = []
    for section, values in document.items():
        lines.append(f"[{section}]")
        lines += [f'"{key}" = {_toml_value(value)}' for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _toml_value(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{k}" = {_toml_value(v)}' for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


LONGEST = (
    "test_notebooks",
    "integration/test_parsl",
    "docs/test_code",
    "integration/test_search_faults",
    "learning/test_loop",
    "potentials/test_shipped",
    "training/test_train",
    "integration/test_gpaw",
    "integration/test_postgresql_search",
    "search/test_session",
    "dft/jobs/test_run",
    "cli/test_app",
    "cli/potentials",
    "serve/test_server",
    "docs/test_site",
    "cli/test_run",
    "benchmarks",
    "integration",
    "potentials",
    "search",
    "training",
    "execution",
    "relax",
)
"""Files and folders of tests that take minutes, and then tens of seconds: those of most first."""


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, so that no core waits for one at the end."""
    items.sort(
        key=lambda item: next((n for n, w in enumerate(LONGEST) if w in item.nodeid), len(LONGEST))
    )


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Put sbatch, squeue and scancel on PATH, whose jobs are processes; return their folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = FAKE_SLURM
    for name in ("sbatch", "squeue", "scancel", "sacct"):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {script} {name} "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "slurm"))
    (tmp_path / "slurm").mkdir()
    return tmp_path / "slurm"


@pytest.fixture(scope="session")
def report_runs(tmp_path_factory):
    """Searched run folders: `one` and `two` of one level, `one` with DFT, and `ranks` of pmmcs."""
    folder = tmp_path_factory.mktemp("report")
    relax = {"rattle": 0.0}
    write_run(folder / "one", budget=16, relax=relax)
    write_run(folder / "two", supercell=(1, 2, 1), budget=24, relax=relax)
    write_run(folder / "ranks", "pmmcs", budget=16, relax={"fmax": 5.0, "smax": 5.0})
    from gasearch.run.folder import RunFolder
    from gasearch.search.session import Session

    for name in ("one", "two", "ranks"):
        Session(RunFolder(folder / name)).run()
    _compute(RunFolder(folder / "one"))
    return folder


def _compute(folder):
    """Collect what DFT could have found of all candidates: two orders of x = 1/2 are lost."""
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    from gasearch.crystal.decoration import Decoration
    from gasearch.dft.jobs.collect import collect_job
    from gasearch.dft.jobs.prepare import Workplace, prepare_job

    with folder.open_store(read_only=False) as store:
        place = Workplace.of(folder, store)
        rows = store.evaluations()
        half = [row.candidate for row in rows if row.composition == "Na2Fe4P4O16"]
        for n, row in enumerate(rows):
            came_out = half[0] if row.candidate == half[-1] else row.candidate
            atoms = Decoration.from_bytes(
                place.host, store.proposal(came_out).occupation
            ).to_atoms()
            atoms.rattle(0.03, seed=n)
            moments = [{2: 3.66, 3: 4.29}.get(round(q), 0.0) for q in atoms.get_initial_charges()]
            if row.candidate == half[-2]:
                moments = [4.04 if moment else 0.0 for moment in moments]
            atoms.set_initial_charges(None)
            atoms.set_initial_magnetic_moments(None)
            energy = -100 + 0.5 * row.energy + 0.02 * (n % 3)
            atoms.calc = SinglePointCalculator(
                atoms, energy=energy, magmoms=moments, forces=[[0.01] * 3] * len(atoms)
            )
            job = prepare_job(place, row.candidate, "gpaw", relax=True)
            write(job.path / "result.traj", atoms)
            job.write_json("outcome.json", {"end": "done", "reason": "", "n_steps": 0})
            collect_job(place, job)


@pytest.fixture(scope="session")
def make_run():
    """A function that writes run folders."""
    return write_run


@pytest.fixture
def forked_workers(monkeypatch):
    """Let workers of the local engine be forked from one process that has loaded torch."""
    from tasks import forked_worker

    from gasearch.execution.local import process

    monkeypatch.setattr(process, "start_process", forked_worker)


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL server of the tests' own."""
    from gasearch.testing.postgresql import NoServerError, test_server

    try:
        import psycopg  # noqa: F401

        with test_server() as server:
            yield server
    except (ImportError, NoServerError) as error:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"no PostgreSQL: {error}")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """Where a population is to be made: a file, and a schema of a server."""
    if request.param == "sqlite":
        return tmp_path / "search.db"
    return request.getfixturevalue("postgresql").place()
