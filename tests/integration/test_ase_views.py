"""The database of a search, read with stock `ase.db`, `ase_ga`, `ase db` and ASE GUI."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase.cli.main import main
from ase.db.core import now
from ase.db.sqlite import SQLite3Database
from ase_ga.data import DataConnection
from ase_ga.population import RankFitnessPopulation
from places import STORE_PROCESS

from gasearch.store.population_store import PopulationStore
from gasearch.testing.store import (
    create,
    example_proposal,
    example_run,
    fill,
    propose_and_lease,
    record,
)

N = 24
N_FORMULA_UNITS = 2
ASE = Path(sys.executable).with_name("ase")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "search.db"
    with create(path, N_FORMULA_UNITS) as store:
        fill(store, N, N_FORMULA_UNITS)
    return path


@pytest.fixture(scope="module")
def store(path: Path) -> Iterator[PopulationStore]:
    with PopulationStore.open(path, read_only=True) as store:
        yield store


@pytest.fixture
def db(path: Path) -> SQLite3Database:
    return ase.db.connect(path)


# --- ase.db


def test_each_relaxed_candidate_is_there_exactly_once(
    db: SQLite3Database, store: PopulationStore
) -> None:
    ok = sorted(row.candidate for row in store.evaluations("ok"))
    assert len(ok) > N / 2
    assert sorted(row.id for row in db.select("relaxed=1")) == ok
    assert sorted(row.gaid for row in db.select(relaxed=1)) == ok
    assert db.count("relaxed=1") == len(ok)


def test_a_row_is_the_evaluation_that_counts_bit_by_bit(
    db: SQLite3Database, store: PopulationStore
) -> None:
    purposes = set()
    for row in db.select("relaxed=1"):
        expected = store.relaxed(row.id)
        atoms = row.toatoms()
        assert atoms == expected.atoms
        assert np.array_equal(atoms.cell, expected.atoms.cell)
        assert np.array_equal(atoms.get_initial_charges(), expected.atoms.get_initial_charges())
        initial = expected.atoms.get_initial_magnetic_moments()
        assert np.array_equal(atoms.get_initial_magnetic_moments(), initial)
        assert atoms.get_potential_energy() == expected.energy
        assert np.array_equal(atoms.get_forces(), expected.forces)
        assert np.array_equal(atoms.get_stress(voigt=False), expected.stress)
        assert np.array_equal(atoms.get_magnetic_moments(), expected.moments)
        assert atoms.get_forces().dtype == np.float64
        assert row.charge == pytest.approx(atoms.get_initial_charges().sum())
        assert row.volume == pytest.approx(atoms.get_volume())
        assert row.mass == pytest.approx(atoms.get_masses().sum())
        assert row.magmom == pytest.approx(np.sum(expected.moments))
        assert row.raw_score == -expected.energy / N_FORMULA_UNITS
        assert row.calculator == "pmmcs"
        assert row.level == "made-up"
        assert 0 < now() - row.mtime < 1e-4  # years
        purposes.add(row.purpose)
    assert purposes == {"search", "tight"}


def test_the_order_and_sign_of_the_stress_are_those_of_ase(
    tmp_path: Path, store: PopulationStore
) -> None:
    stress = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
    with create(tmp_path / "search.db") as other:
        record(other, propose_and_lease(other, 1), stress=stress)
    (row,) = ase.db.connect(tmp_path / "search.db").select("relaxed=1")
    assert np.array_equal(row.stress, [1, 2, 3, 4, 5, 6])


def test_others_show_what_became_of_them(db: SQLite3Database, store: PopulationStore) -> None:
    others = {row.candidate: row.verdict for row in store.evaluations(None) if row.verdict != "ok"}
    assert set(others.values()) == {"order_lost", "broken", "unconverged", "failed"}
    rows = list(db.select("relaxed=0,gaid>0"))
    assert {row.gaid: row.verdict for row in rows} == others
    assert not any("raw_score" in row for row in rows)
    for row in rows:
        assert row.toatoms() == store.relaxed(row.gaid).atoms
        assert ("energy" in row) is (row.verdict != "failed")


def test_keys_can_be_asked_for(db: SQLite3Database, store: PopulationStore) -> None:
    def ids(*selection: str, **keys: object) -> list[int]:
        return [row.id for row in db.select(*selection, **keys)]

    rows = {row.candidate: row for row in store.evaluations(None)}

    def expect(condition: object) -> list[int]:
        return sorted(number for number, row in rows.items() if condition(row))

    assert ids(7) == [7]
    assert ids("gaid=7") == [7]
    assert ids(gaid=7, relaxed=1) == []
    assert sorted(ids("verdict=order_lost")) == expect(lambda row: row.verdict == "order_lost")
    assert sorted(ids("x>=0.5,relaxed=1")) == expect(
        lambda row: row.x >= 0.5 and row.verdict == "ok"
    )
    assert sorted(ids(composition="Na1Fe4")) == expect(lambda row: row.composition == "Na1Fe4")
    assert ids("fingerprint=fp9") == [9]
    assert sorted(ids("purpose=tight")) == expect(lambda row: row.purpose == "tight")
    assert sorted(ids("energy<-20,relaxed=1")) == expect(
        lambda row: row.energy < -20 and row.verdict == "ok"
    )
    assert sorted(ids("raw_score>10")) == expect(
        lambda row: row.energy < -20 and row.verdict == "ok"
    )
    everything = sorted(rows)
    for selection in ("origin=swap", "level=made-up", "Fe=2", "Na=2,O=8", "natoms=14,gaid>0"):
        assert sorted(ids(selection)) == everything, selection
    assert ids("Fe=3") == []
    assert ids("Mn") == []
    assert sorted(ids("user=gasearch,fmax<0.1,gaid>0,forces")) == expect(
        lambda row: row.verdict != "failed"
    )
    assert sorted(ids("-simulation_cell")) == everything
    best = ids("relaxed=1", sort="-raw_score", limit=3)
    assert (
        best == [row.candidate for row in sorted(store.evaluations(), key=lambda r: r.energy)][:3]
    )
    assert ids("relaxed=1", sort="energy", limit=3) == best


def test_every_key_is_found_by_its_value(db: SQLite3Database) -> None:
    for row in db.select("gaid>0"):
        for key, value in row.key_value_pairs.items():
            assert db.count(f"id={row.id}", **{key: value}) == 1, (row.id, key, value)
            assert db.count(f"id={row.id},{key}") == 1, (row.id, key)


def test_the_data_of_a_row_tell_where_it_comes_from(
    db: SQLite3Database, store: PopulationStore
) -> None:
    for row in db.select("gaid>0"):
        assert tuple(row.data["parents"]) == store.proposal(row.gaid).parents
        assert row.data["audit"] == "moments-1"
        assert ("pairing" in row) is (len(row.data["parents"]) == 2)


def test_identifiers_are_unique(db: SQLite3Database, tmp_path: Path) -> None:
    with create(tmp_path / "other.db") as other:
        fill(other, 3)
    rows = [*db.select(), *ase.db.connect(tmp_path / "other.db").select()]
    identifiers = {row.unique_id for row in rows}
    assert len(identifiers) == len(rows) == N + 1 + 3 + 1
    assert all(re.fullmatch("[0-9a-f]{32}", identifier) for identifier in identifiers)


@pytest.mark.parametrize("fingerprint", ["0123", "12e45", "00ff", "-1.5"])
def test_a_fingerprint_that_reads_as_a_number_can_be_copied(
    tmp_path: Path, fingerprint: str
) -> None:
    with create(tmp_path / "search.db") as store:
        record(
            store,
            (store.batch().propose([example_proposal(1, fingerprint=fingerprint)]).lease([1]))
            .commit()
            .leases,
        )
    (row,) = ase.db.connect(tmp_path / "search.db").select("relaxed=1")
    copy = ase.db.connect(tmp_path / "copy.db")
    copy.write(row, key_value_pairs=row.key_value_pairs, data=row.data)
    assert ase.db.connect(tmp_path / "search.db").count(fingerprint=row.fingerprint) == 1
    assert row.fingerprint.removeprefix("fp") == fingerprint


def test_a_new_search_is_an_ase_database_without_candidates(tmp_path: Path) -> None:
    with create(tmp_path / "search.db") as store:
        propose_and_lease(store, 2)
    db = ase.db.connect(tmp_path / "search.db")
    assert [row.id for row in db.select()] == [0]
    assert list(db.select("relaxed=1")) == []
    data = DataConnection(tmp_path / "search.db")
    assert data.get_all_relaxed_candidates() == []
    assert len(data.get_slab()) == 7


def test_reading_changes_nothing(path: Path, db: SQLite3Database) -> None:
    before = path.read_bytes()
    assert len(list(db.select())) == N + 1
    assert db.metadata == {}
    assert path.read_bytes() == before
    assert [p for p in path.parent.iterdir() if p.name.startswith("search.db")] == [path]


WRITES = {
    "write": lambda db, row: db.write(row.toatoms(), relaxed=1),
    "overwrite": lambda db, row: db.write(row.toatoms(), id=row.id),
    "update": lambda db, row: db.update(row.id, extinct=1),
    "delete": lambda db, row: db.delete([row.id]),
    "reserve": lambda db, row: db.reserve(gaid=99),
    "metadata": lambda db, row: setattr(db, "metadata", {"title": "mine"}),
    "kill_candidate": lambda db, row: DataConnection(db.filename).kill_candidate(row.id),
}


@pytest.mark.parametrize("way", WRITES)
def test_ase_cannot_write(path: Path, tmp_path: Path, way: str) -> None:
    copy = Path(shutil.copy(path, tmp_path / "search.db"))
    before = copy.read_bytes()
    db = ase.db.connect(copy)
    row = db.get(2)
    with pytest.raises(sqlite3.OperationalError, match="because it is a view"):
        WRITES[way](db, row)
    assert copy.read_bytes() == before
    assert list(tmp_path.iterdir()) == [copy]  # no lock is left either


# --- the plan of queries: what makes them quick at any size


def plan_of(path: Path, selection: str, **options: object) -> str:
    db = ase.db.connect(path)
    lines = db._select(*ase.db.core.parse_selection(selection), explain=True, **options)
    return "\n".join(line["explain"][-1] for line in lines)


def test_one_row_is_found_through_indices(path: Path) -> None:
    plan = plan_of(path, "id=7")
    assert re.findall("(?:SCAN|MATERIALIZE) (?!run)", plan) == []  # there is one run
    assert "SEARCH s USING INDEX" in plan


@pytest.mark.parametrize("selection", ["relaxed=1", "verdict=ok", "gaid=7", "raw_score>1", "Fe=2"])
def test_queries_by_key_do_not_walk_through_structures(path: Path, selection: str) -> None:
    plan = plan_of(path, selection, sort="-raw_score")
    walks = re.findall(
        r"(?:SCAN|MATERIALIZE) (?:structure|systems|s|e|c)\b(?! USING COVERING)", plan
    )
    # `s` is also the name that ASE gives to the sorted keys, which are few bytes each.
    assert [walk for walk in walks if walk != "SCAN s"] == [], plan


# --- ase.io


def test_ase_io_reads_queries_and_indices(path: Path, store: PopulationStore) -> None:
    images = ase.io.read(f"{path}@relaxed=1")
    assert len(images) == len(store.evaluations("ok"))
    assert ase.io.read(f"{path}@gaid=2") == [store.relaxed(2).atoms]
    assert len(ase.io.read(path, ":")) == N + 1
    assert len(ase.io.read(path, "2:5")) == 3
    assert ase.io.read(path) == store.relaxed(N).atoms


# --- ase_ga


def test_ase_ga_gets_every_relaxed_candidate_once_best_first(
    path: Path, store: PopulationStore
) -> None:
    data = DataConnection(path)
    candidates = data.get_all_relaxed_candidates()
    expected = sorted(store.evaluations("ok"), key=lambda row: row.energy)
    assert [atoms.info["confid"] for atoms in candidates] == [row.candidate for row in expected]
    scores = [atoms.info["key_value_pairs"]["raw_score"] for atoms in candidates]
    assert scores == [-row.energy / N_FORMULA_UNITS for row in expected]
    assert data.get_all_relaxed_candidates(only_new=True) == []
    assert len(data.get_all_relaxed_candidates(use_extinct=True)) == len(expected)
    assert len(data.get_all_relaxed_candidates_after_generation(0)) == len(expected)


def test_ase_ga_reads_slab_generation_and_pairings(path: Path, store: PopulationStore) -> None:
    data = DataConnection(path)
    assert data.get_slab() == example_run(N_FORMULA_UNITS).host_atoms
    assert np.array_equal(
        data.get_slab().get_initial_charges(),
        example_run(N_FORMULA_UNITS).host_atoms.get_initial_charges(),
    )
    n_ok = len(store.evaluations("ok"))
    assert data.get_generation_number() == 0
    assert data.get_generation_number(size=n_ok) == 1
    assert data.get_generation_number(size=n_ok + 1) == 0
    assert data.get_largest_in_db("raw_score") == max(
        -row.energy / N_FORMULA_UNITS for row in store.evaluations("ok")
    )
    assert data.get_param("population_size") is None
    frequency, pairs = data.get_participation_in_pairing()
    expected = [p.parents for p in store.proposals() if len(p.parents) == 2]
    assert sorted(pairs) == sorted(expected)
    assert sum(frequency.values()) == 2 * len(expected)
    assert data.is_duplicate(fingerprint="fp9")
    assert not data.is_duplicate(fingerprint="fp99")


def test_a_population_of_ase_ga_stands_on_it(path: Path, store: PopulationStore) -> None:
    population = RankFitnessPopulation(
        DataConnection(path),
        population_size=8,
        variable_function=lambda atoms: atoms.info["key_value_pairs"]["composition"],
    )
    population.update()
    assert len(population.pop) == 8
    compositions = [a.info["key_value_pairs"]["composition"] for a in population.pop]
    assert set(compositions) == {row.composition for row in store.by_composition() if row.best}
    mother, father = population.get_two_candidates()
    assert mother.info["confid"] != father.info["confid"]


# --- while a search is running


def test_readers_see_each_candidate_once_while_a_search_writes(tmp_path: Path) -> None:
    path = tmp_path / "search.db"
    create(path, 4).close()
    command = [sys.executable, STORE_PROCESS, "write", path, tmp_path / "acknowledged", "4", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as search:
        try:
            seen, end = [0], time.monotonic() + 30
            while seen[-1] < 24 and time.monotonic() < end and search.poll() is None:
                rows = [row.gaid for row in ase.db.connect(path).select("relaxed=1")]
                assert len(rows) == len(set(rows)) >= seen[-1]
                assert sorted(rows) == list(range(1, len(rows) + 1))  # whole commits only
                candidates = DataConnection(path).get_all_relaxed_candidates()
                numbers = [atoms.info["confid"] for atoms in candidates]
                assert len(numbers) == len(set(numbers)) >= len(rows)
                assert len(ase.io.read(f"{path}@relaxed=1")) >= len(numbers)
                seen.append(len(rows))
            assert search.poll() is None
            assert len(set(seen)) > 3  # it did write meanwhile
        finally:
            search.kill()


# --- the command `ase`


@pytest.fixture
def ase_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        main(args=arguments)
        return capsys.readouterr().out

    return run


def test_ase_db_lists_searches_and_copies(
    path: Path, tmp_path: Path, store: PopulationStore, ase_command: Callable[..., str]
) -> None:
    n_ok = len(store.evaluations("ok"))
    table = ase_command(
        "db", str(path), "relaxed=1", "-c", "id,formula,energy,x,verdict", "-L", "0"
    )
    assert f"Rows: {n_ok}" in table
    assert table.count("ok") == n_ok
    assert ase_command("db", str(path), "relaxed=1", "-n").split()[0] == str(n_ok)
    assert "made-up" in ase_command("db", str(path), "gaid=2", "-l")
    copy = tmp_path / "copy.db"
    ase_command("db", str(path), "relaxed=1", "--insert-into", str(copy))
    rows = list(ase.db.connect(copy).select("relaxed=1", sort="gaid"))
    assert [row.gaid for row in rows] == sorted(row.candidate for row in store.evaluations())
    assert rows[0].toatoms() == store.relaxed(rows[0].gaid).atoms


# --- ASE GUI


def missing_for_gui() -> str:
    """Return what an ASE GUI under a virtual screen lacks here."""
    missing = [name for name in ("Xvfb", "xwininfo", "xdotool") if shutil.which(name) is None]
    try:
        import tkinter  # noqa: F401
    except ImportError:
        missing.append("tkinter")
    return ", ".join(missing)


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    missing = missing_for_gui()
    if missing and os.environ.get("CI"):
        pytest.fail(f"not installed: {missing}")
    if missing:
        pytest.skip(f"not installed: {missing}")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1000x800x24"]
    with subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL) as server:
        os.close(writing)
        with os.fdopen(reading) as pipe:
            number = pipe.readline().strip()
        try:
            yield f":{number}"
        finally:
            server.terminate()


def titles(display: str) -> str:
    done = subprocess.run(
        ["xwininfo", "-root", "-tree", "-display", display], capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.parametrize("query", ["relaxed=1", "gaid=2"])
def test_ase_gui_opens_it(
    path: Path, tmp_path: Path, display: str, query: str, store: PopulationStore
) -> None:
    command = [ASE, "gui", f"{path.name}@{query}"]
    environment = os.environ | {"DISPLAY": display, "MPLBACKEND": "TkAgg"}
    expected = [f"search.db@{query}"]
    if query == "relaxed=1":
        expected += [f"{len(store.evaluations('ok'))} images loaded", "Movie"]
    errors = tmp_path / "errors"
    with (
        errors.open("w") as file,
        subprocess.Popen(command, cwd=path.parent, env=environment, stderr=file) as gui,
    ):
        try:
            end = time.monotonic() + 60
            while not all(title in titles(display) for title in expected):
                assert gui.poll() is None, errors.read_text()
                assert time.monotonic() < end, titles(display)
                time.sleep(0.1)
            assert errors.read_text() == ""
        finally:
            gui.kill()
