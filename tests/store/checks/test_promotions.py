"""Promotions and the record of them are compared by `gasearch check`."""

import sqlite3

import pytest

from gasearch.run.folder import RunFolder
from gasearch.search.check import check_run
from gasearch.search.session import Session
from gasearch.store.promotions import NewPromotion, add_promotions


@pytest.fixture
def folder(tmp_path, make_run):
    """A searched run folder with two promotions."""
    run = RunFolder(make_run(tmp_path / "run", budget=4))
    Session(run).run()
    with run.open_store(read_only=False) as store:
        numbers = [row.candidate for row in store.evaluations()][:2]
        assert add_promotions(store, [NewPromotion(n, "lowest", f"for {n}") for n in numbers]) == 2
    assert check_run(run) == []
    return run


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DELETE FROM promotion WHERE id = 1", "has an event but no row"),
        ("UPDATE promotion SET rule = 'highest' WHERE id = 1", "by 'highest' has no event"),
        ("UPDATE promotion SET reason = 'other' WHERE id = 2", "differs from its event"),
        ("UPDATE promotion SET promoted = promoted + 1 WHERE id = 2", "differs from its event"),
    ],
)
def test_what_the_record_does_not_tell_is_found(folder, change, told):
    connection = sqlite3.connect(folder.database)
    with connection:
        connection.execute(change)
    connection.close()
    problems = [problem for problem in check_run(folder) if problem.check == "promotions"]
    assert problems
    assert told in problems[0].detail
