"""What several tests share: run folders with a quick potential."""

import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
TOYS = Path(__file__).parent / "data" / "toy_potentials.py"


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


@pytest.fixture(scope="session")
def make_run():
    """A function that writes run folders."""
    return write_run
