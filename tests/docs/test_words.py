"""The words of the documentation: spelt right, and one for one thing."""

import re
import subprocess
import sys

import pytest
from pages import README, name_of, pages
from places import ROOT

from gasearch.plugins import registered

OTHERS = [ROOT / f"{name}.md" for name in ("CONTRIBUTING", "CODE_OF_CONDUCT", "SECURITY")]
EVERY = [*pages(), *OTHERS]
OURS = "mater,commun"
"""What codespell takes for a slip: of Chem. Mater."""
INSTEAD_OF = {
    r"\b(?:GASearch|Gasearch|GAsearch|ga-search)\b": "gasearch",
    r"\brun-toml\b(?!\.)|\bconfig\.toml\b": "run.toml",
    r"\bOptimi[sz]ation level\b": "level of theory",
    r"\bconvex-hull\b": "convex hull",
    r"\bsuper-cell|\bsuper cell": "supercell",
    r"\bmachine-learnt\b": "machine-learned",
    r"\b(?:structure )?relaxion\b": "relaxation",
    r"\bfitness value\b": "rank",
    r"\bSchnet[Pp]ack\b|\bSchNetpack\b": "SchNetPack",
    r"\bCHGnet\b|\bChgnet\b|\bPainn\b|\bCPaiNN\b": "CHGNet, PaiNN, cPaiNN",
    r"\bvacancies? order(?:ing)?s\b": "vacancy orders",
    r"\bformation energy per atom\b": "per formula unit",
}


@pytest.mark.parametrize("page", EVERY, ids=name_of)
def test_one_word_for_one_thing(page):
    text = page.read_text(encoding="utf-8")
    for pattern, right in INSTEAD_OF.items():
        found = re.search(pattern, text)
        assert not found, f"{found[0]!r} on {name_of(page)}: here it is {right!r}"


def test_the_spelling_is_right():
    pytest.importorskip("codespell_lib", reason="no codespell here: pip install '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib", "--ignore-words-list", OURS, *map(str, EVERY)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    assert done.returncode == 0


def test_no_page_names_a_path_of_a_machine():
    folders = "home|root|tmp|usr|var|opt|mnt|private|Users"
    for page in EVERY:
        found = re.search(rf"(?<![\w.~])/(?:{folders})/\w+", page.read_text(encoding="utf-8"))
        assert not found, f"{found and found[0]} on {name_of(page)}"


def test_readme_is_one_page():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 160
    assert max(len(line) for line in lines if not line.startswith("|")) <= 130


def test_every_registered_operator_is_named():
    text = (ROOT / "docs" / "how-to" / "operators.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in registered("operator"))
