"""learn.toml: what is written, read and refused."""

import tomllib

import pytest
from typer.testing import CliRunner

from gasearch.cli.app import app
from gasearch.learning.folder import LearnFolder
from gasearch.learning.settings import (
    LearnSettings,
    learn_file_text,
    read_learn_file,
)
from gasearch.learning.training import epochs
from gasearch.run.sections import RunFileError


def written(tmp_path, text):
    path = tmp_path / "learn.toml"
    path.write_text(text)
    return path


def test_the_commented_file_says_the_defaults_and_can_be_read(tmp_path):
    text = learn_file_text({"rounds.jobs": 12})
    assert read_learn_file(written(tmp_path, text)).rounds.jobs == 12
    uncommented = "\n".join(
        line.removeprefix("# ") if line.startswith("# ") and " = " in line.split("  ")[0] else line
        for line in text.splitlines()
        if not line.startswith("#  ")
    )
    document = tomllib.loads(uncommented.partition("holds without it.\n")[2])
    assert document.pop("rounds")["jobs"] == 12
    defaults = LearnSettings().model_dump(mode="json")
    del defaults["rounds"]
    assert {name: {**defaults[name], **document[name]} for name in document} == defaults


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[rounds]\nmsot = 3", "unknown key 'rounds.msot' (did you mean 'most'?)"),
        ("[choice]\nlowest = 0.9", "lowest, uncertain, different add up to 1.275; expected 1"),
        ('[rounds]\nexternal = "orca"', "rounds.external = 'orca'"),
        ("[rounds]\njobs = 0", "rounds.jobs = 0: it should be greater than or equal to 1"),
        ("rounds = ", "is not TOML"),
    ],
)
def test_mistakes_are_one_line(tmp_path, text, told):
    with pytest.raises(RunFileError) as caught:
        read_learn_file(written(tmp_path, text))
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_init_makes_a_learning_folder(tmp_path):
    folder = tmp_path / "loop"
    words = ["init", str(folder), "--learn", "--potential", "pmmcs", "--supercell", "1 1 1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert f"gasearch learn {folder}" in result.output
    place = LearnFolder(folder)
    assert place.settings() == LearnSettings()
    assert place.supercells() == [[1, 1, 1]]
    assert place.rounds() == []


def test_a_run_of_a_round_has_the_same_files_as_the_loop(tmp_path):
    """Paths of run.toml are seen from its own folder: they are led to the same places."""
    folder = tmp_path / "loop"
    (folder / "inputs").mkdir(parents=True)
    (folder / "toy.py").write_text("def Toy(): ...\n")
    (folder / "boucher.cif").write_text("")
    (folder / "run.toml").write_text(
        '[host]\nstructure = "nafepo4-olivine"\nsupercell = [1, 1, 1]\n'
        '[potential]\nname = "./toy.py:Toy"\n'
        '[seeds]\nstructures = ["boucher.cif"]\n'
        '[operators]\nna_vacancy_swap = 2\n"./toy.py:Swap" = { weight = 1, n_swaps = 2 }\n'
        "[dft]\nhubbard_u_eV = { Fe = 5.0 }\n"
    )
    (folder / "learn.toml").write_text("")
    place = LearnFolder(folder)
    run = place.make_run(folder / "round-1", [1, 2, 1], lambda path: {"search": {"budget": 7}})
    assert run.path == folder / "round-1" / "1x2x1"
    found = tomllib.loads(run.run_file.read_text())
    assert found["potential"]["name"] == "../../toy.py:Toy"
    assert found["seeds"]["structures"] == ["../../boucher.cif"]
    assert found["operators"] == {
        "na_vacancy_swap": 2, "../../toy.py:Swap": {"weight": 1, "n_swaps": 2}
    }  # fmt: skip
    assert found["host"] == {"structure": "nafepo4-olivine", "supercell": [1, 2, 1]}
    assert run.settings().search.budget == 7
    assert run.settings().dft.hubbard_u_eV == {"Fe": 5.0}
    text = run.run_file.read_text()
    assert (
        place.make_run(folder / "round-1", [1, 2, 1], lambda path: {}).run_file.read_text() == text
    )


def test_few_frames_are_read_more_often():
    assert [epochs(n) for n in (27, 66, 500)] == [75, 31, 24]
