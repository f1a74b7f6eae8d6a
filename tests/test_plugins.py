import math
import pickle
import sys

import pytest

from gasearch import plugins
from gasearch.errors import UsageError
from gasearch.plugins import PluginError, load_plugin, nearest, registered


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    for name in [n for n in sys.modules if n.startswith("gasearch_plugin_")]:
        del sys.modules[name]


def test_a_name_in_a_file_beside_the_run_is_found(folder):
    (folder / "mine.py").write_text("class Swap:\n    n_parents = 1\n")
    assert load_plugin("operator", "./mine.py:Swap", folder).n_parents == 1


def test_a_file_is_executed_once_so_that_its_classes_stay_the_same(folder):
    (folder / "mine.py").write_text("class Swap: pass\n")
    first = load_plugin("operator", "./mine.py:Swap", folder)
    assert load_plugin("operator", "mine.py:Swap", folder) is first
    assert isinstance(pickle.loads(pickle.dumps(first())), first)


def test_files_of_equal_names_in_two_folders_do_not_mix(folder):
    for place in ("a", "b"):
        (folder / place).mkdir()
        (folder / place / "mine.py").write_text(f"WHERE = {place!r}\n")
    assert load_plugin("host", "./mine.py:WHERE", folder / "a") == "a"
    assert load_plugin("host", "./mine.py:WHERE", folder / "b") == "b"


def test_a_name_in_an_installed_module_is_found(folder):
    assert load_plugin("potential", "math:sqrt", folder) is math.sqrt


def test_registered_names_come_from_the_entry_points_in_alphabetical_order():
    names = list(registered("potential"))
    assert "pmmcs" in names
    assert names == sorted(names)
    assert registered("nothing of this kind") == {}


class Point:
    value = "broken.module:Name"

    def load(self):
        raise ImportError("cannot import name 'Name'")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("./none.py:Swap", "operator './none.py:Swap': there is no file .*none.py"),
        ("./mine.py:Swop", r"mine.py has no 'Swop' \(did you mean 'Swap'\?\)"),
        ("./broken.py:Swap", "broken.py cannot be imported: ZeroDivisionError: division by zero"),
        ("./needs.py:Swap", "no module named 'not_installed_here'; install it or correct the name"),
        ("not_installed_here:Swap", "no module named 'not_installed_here'"),
        ("math:sqrtt", r"math has no 'sqrtt' \(did you mean 'sqrt'\?\)"),
        (":Swap", "operator ':Swap': write './file.py:Name' or 'module:Name'"),
        ("./mine.py:", "operator './mine.py:': write './file.py:Name' or 'module:Name'"),
        ("swop", r"unknown \(did you mean 'swap'\?\)\. Known: swap; or name your own as"),
        ("else", r"unknown\. Known: swap; or name your own as './file.py:Name'"),
        ("swap", "broken.module:Name cannot be loaded: ImportError: cannot import name"),
    ],
)
def test_what_cannot_be_loaded_is_one_clear_line(folder, monkeypatch, text, line):
    (folder / "mine.py").write_text("class Swap: pass\n")
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "needs.py").write_text("import not_installed_here\n")
    monkeypatch.setattr(plugins, "registered", lambda kind: {"swap": Point()})
    with pytest.raises(PluginError, match=line) as caught:
        load_plugin("operator", text, folder)
    assert isinstance(caught.value, UsageError)
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_file_that_failed_can_be_corrected_and_loaded(folder):
    file = folder / "mine.py"
    file.write_text("1 / 0\n")
    with pytest.raises(PluginError):
        load_plugin("operator", "./mine.py:Swap", folder)
    file.write_text("class Swap: pass\n")
    assert load_plugin("operator", "./mine.py:Swap", folder).__name__ == "Swap"


def test_only_similar_words_are_suggested():
    assert nearest("na_vacancy_swop", ["na_vacancy_swap", "charge_swap"]) == (
        " (did you mean 'na_vacancy_swap'?)"
    )
    assert nearest("xyz", ["na_vacancy_swap"]) == ""
