"""Where run.toml says that a search lives, and what its folder remembers."""

import sys
import threading

import pytest

from gasearch.run.config import read_run_file
from gasearch.run.folder import RunFolder
from gasearch.run.location import (
    OtherPlaceError,
    PlaceRecord,
    claim_schema,
    new_schema,
    read_record,
    write_record,
)
from gasearch.run.sections import RunFileError
from gasearch.store.errors import NoDriverError, ServerError
from gasearch.store.location import ServerPlace, checked_schema

URL = "postgresql+psycopg://me@127.0.0.1:1/db"
SECRET = "geheim"
BASE = '[host]\nstructure = "nafepo4-olivine"\nsupercell = [1, 1, 1]\n[potential]\nname = "pmmcs"\n'


def run_file(folder, text=""):
    (folder / "run.toml").write_text(text)
    return folder / "run.toml"


def test_a_file_is_the_default(tmp_path):
    run_file(tmp_path, BASE)
    assert RunFolder(tmp_path).place == tmp_path / "search.db"
    assert not RunFolder(tmp_path).is_started


@pytest.mark.parametrize(
    "text", [f'store = "{URL}"\n{BASE}', f'{BASE}[store]\nurl = "{URL.replace("+psycopg", "")}"']
)
def test_a_server_is_named_by_store_or_by_its_url(tmp_path, text):
    assert read_run_file(run_file(tmp_path, text)).store.url == URL


@pytest.mark.parametrize(
    "text",
    [
        f'store = "postgresql+psycopg://me:{SECRET}@host/db"\n{BASE}',
        f'store = ["postgresql+psycopg://me:{SECRET}@host/db"]\n{BASE}',
        f'{BASE}[store]\nurl = "postgresql+psycopg://me:{SECRET}@host/db"',
        f'{BASE}[store]\nurl = ["postgresql://me:{SECRET}@host/db"]',
        f'{BASE}[store]\nurl = "host:{SECRET}"',
        f'{BASE}[store]\npassword = "{SECRET}"',
    ],
)
def test_a_password_in_run_toml_is_refused_and_not_repeated(tmp_path, text):
    path = run_file(tmp_path, text)
    for attempt in (lambda: read_run_file(path), lambda: RunFolder(tmp_path).place):
        with pytest.raises(RunFileError, match="store") as raised:
            attempt()
        assert SECRET not in str(raised.value)
        assert "\n" not in str(raised.value)


def test_other_mistakes_of_run_toml_do_not_hide_where_the_search_is(tmp_path):
    place = PlaceRecord(URL, "run_1", "1234")
    write_record(tmp_path, place)
    run_file(tmp_path, f'[serch]\na = 1\n[store]\nurl = "{URL}"')
    assert RunFolder(tmp_path).place == ServerPlace(URL, "run_1")
    run_file(tmp_path, "not TOML")
    with pytest.raises(RunFileError, match="is not TOML"):
        _ = RunFolder(tmp_path).place


def test_a_file_is_looked_at_whatever_run_toml_says(tmp_path):
    (tmp_path / "search.db").touch()
    run_file(tmp_path, "not TOML")
    assert RunFolder(tmp_path).place == tmp_path / "search.db"


def test_looking_writes_nothing_and_starting_claims_a_schema(tmp_path):
    folder = RunFolder(tmp_path)
    run_file(tmp_path, f'{BASE}[store]\nurl = "{URL}"')
    assert (folder.place, folder.is_started, folder.driver()) == (None, False, None)
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]
    claimed = folder.claim_place()
    assert isinstance(claimed, ServerPlace)
    assert claimed.url == URL
    assert folder.claim_place() == claimed == RunFolder(tmp_path).place


def test_drivers_that_claim_at_once_agree(tmp_path):
    claimed = []
    barrier = threading.Barrier(4)

    def claim():
        barrier.wait()
        claimed.append(claim_schema(tmp_path, URL))

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(claimed) == {read_record(tmp_path)}


@pytest.mark.parametrize("name", ["run", "My Run (2)", "ß", "_", "1", "x" * 200])
def test_a_schema_is_named_after_its_folder(tmp_path, name):
    folder = tmp_path / name
    first, second = new_schema(folder), new_schema(folder)
    assert first != second
    assert checked_schema(first).startswith("run_")
    if name == "My Run (2)":
        assert first.startswith("run_my_run_2_")


@pytest.mark.parametrize("text", ["", "[]", '{"url": "a"}', '{"url": "a", "schema": "b", "c": 1}'])
def test_a_damaged_record_is_one_line(tmp_path, text):
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(RunFileError, match=r"store\.json cannot be read"):
        read_record(tmp_path)


def test_a_url_that_was_lost_does_not_begin_another_search(tmp_path):
    run_file(tmp_path, BASE)
    write_record(tmp_path, PlaceRecord(URL, "run_1", "1234"))
    with pytest.raises(OtherPlaceError, match=r"put url = .* back into \[store\]"):
        RunFolder(tmp_path).claim_place()
    (tmp_path / "search.db").touch()
    assert RunFolder(tmp_path).place == tmp_path / "search.db"  # a copy that nothing followed
    write_record(tmp_path, PlaceRecord(URL, "run_1", "1234", is_ahead=True))
    with pytest.raises(OtherPlaceError, match="gasearch store copy"):
        RunFolder(tmp_path).claim_place()


def test_a_server_that_is_away_and_a_missing_package_are_one_line(tmp_path, monkeypatch):
    run_file(tmp_path, f'{BASE}[store]\nurl = "{URL}"\nschema_name = "run_1"')
    with pytest.raises(ServerError, match=r"schema run_1 of .*127\.0\.0\.1.* cannot be used"):
        RunFolder(tmp_path).open_store()
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(NoDriverError, match=r"pip install 'gasearch\[postgresql\]'"):
        RunFolder(tmp_path).open_store()
