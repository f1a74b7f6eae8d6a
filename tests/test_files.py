"""Names made from data stay in their folder, and are told apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gasearch.dft.jobs.folders import JobFolder
from gasearch.files import OutsideError, inside, name_from

HOSTILE = [
    "../../escaped/autostart/x",
    "/etc/passwd",
    "..",
    ".",
    "",
    ".bashrc",
    "-rf",
    "a\nb",
    "a\0b",
    "\x1b]0;owned\x07",
    "$(touch owned)",
    "`id`; rm *",
    "C:\\x",
    "\udc80",
    "é",
    "a" * 5000,
]


@pytest.mark.parametrize("text", ["Na4Fe4P4O16_000071", "12-gpaw-pbeu450-0a1b2c3d", "PBE+U_450.2"])
def test_an_ordinary_name_is_kept(text: str) -> None:
    assert name_from(text) == text


def test_a_hostile_name_becomes_a_plain_one_of_its_own() -> None:
    names = [name_from(text) for text in HOSTILE]
    assert len(set(names)) == len(HOSTILE)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9_+=,.-]{8,130}", name)
        assert name[0] not in ".-"
        assert Path(name).name == name


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a\0", "dft/../../x"])
def test_a_path_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutsideError, match="leads out of"):
        inside(tmp_path, name)


def test_a_path_below_its_folder_is_given(tmp_path: Path) -> None:
    assert inside(tmp_path, "dft/12-a..b") == tmp_path / "dft" / "12-a..b"


def test_a_job_of_a_level_with_a_hostile_name_lies_in_the_run(tmp_path: Path) -> None:
    path = JobFolder.of(tmp_path, 7, "../../../x").path
    assert path.parent == tmp_path / "dft"
    assert path.name.startswith("7-")
