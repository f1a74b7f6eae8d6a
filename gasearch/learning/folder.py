"""A learning folder: run.toml and learn.toml, and a folder of ordinary run folders for each round.

round-1/1x2x1/ is a run folder like any other. Beside the runs of a round lie what it has chosen
(`plan.json`), its labelled frames (`frames.xyz`), the model that came of them (`model/`) and, last
of all, what it found (`round.json`). Each is complete or not there: what is there is done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gasearch.analysis.joint_hull import cell_name
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import BUILTIN_HOSTS
from gasearch.errors import GasearchError, UsageError
from gasearch.files import written
from gasearch.learning.settings import LEARN_FILE, LearnSettings, read_learn_file
from gasearch.plugins import registered
from gasearch.run.config import read_document, run_settings
from gasearch.run.folder import RunFolder
from gasearch.run.host import build_host
from gasearch.run.location import RUN_FILE
from gasearch.settings import as_toml, bare_key

PLAN, FRAMES, MODEL, RESULT = "plan.json", "frames.xyz", "model", "round.json"
_IN_PLAN = frozenset(("level", "code", "chosen", "known", "expected_hull", "corrections"))
_IN_RESULT = frozenset(("number", "runs", "searched_with", "level", "n_jobs", "jobs", "agreement"))
_IN_RESULT |= {"expected_hull", "hull", "training", "model"}
_LISTS_OF_FILES = (("seeds", "structures"), ("seeds", "runs"), ("promote", "reference"))
Changes = Callable[[Path], Mapping[str, Mapping[str, Any]]]


class NoLearnFolderError(UsageError):
    """A folder without a learn.toml."""


class DamagedRoundError(GasearchError, ValueError):
    """A file of a round that cannot be used."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path} cannot be used ({self.problem}): restore it, or remove it to redo it."


@dataclass(frozen=True)
class Round:
    """The files of one round.

    Parameters
    ----------
    path
        The folder; it need not exist.
    number
        From 1.
    """

    path: Path
    number: int

    @property
    def plan_file(self) -> Path:
        """Which candidates of which runs go to DFT, with their predicted energies."""
        return self.path / PLAN

    @property
    def frames(self) -> Path:
        """All labelled frames up to this round."""
        return self.path / FRAMES

    @property
    def model(self) -> Path:
        """The network that was trained on them."""
        return self.path / MODEL

    @property
    def result_file(self) -> Path:
        """What the round found; its presence says that the round is over."""
        return self.path / RESULT

    def plan(self) -> dict[str, Any] | None:
        """Return what was chosen; None where nothing is yet."""
        return _read(self.plan_file, _IN_PLAN)

    def result(self) -> dict[str, Any] | None:
        """Return what the round found; None while it goes on."""
        return _read(self.result_file, _IN_RESULT)


@dataclass(frozen=True)
class LearnFolder:
    """The files of a learning loop.

    Parameters
    ----------
    path
        The folder; it need not exist.
    """

    path: Path

    @property
    def is_one(self) -> bool:
        """Whether it has a learn.toml."""
        return (self.path / LEARN_FILE).is_file()

    @property
    def quoted(self) -> str:
        """The path as it is typed in a shell."""
        return RunFolder(self.path).quoted

    def settings(self) -> LearnSettings:
        """Return the validated learn.toml."""
        if not self.is_one:
            raise NoLearnFolderError(
                f"{self.path} is no learning folder (it has no {LEARN_FILE}); make one with: "
                f"gasearch init {self.quoted} --learn"
            )
        return read_learn_file(self.path / LEARN_FILE)

    def name_of(self, path: Path) -> str:
        """Return how plans and results name a run folder or a model: its path from here."""
        return path.relative_to(self.path).as_posix()

    def round(self, number: int) -> Round:
        """Return a round, whether it was begun or not."""
        return Round(self.path / f"round-{number}", number)

    def rounds(self) -> list[Round]:
        """Return the rounds that are over, in their order."""
        found: list[Round] = []
        while self.round(len(found) + 1).result_file.is_file():
            found.append(self.round(len(found) + 1))
        return found

    def document(self) -> dict[str, Any]:
        """Return run.toml, validated, as it stands there."""
        path = self.path / RUN_FILE
        document = read_document(path)
        run_settings(document, str(path))
        return document

    def supercells(self) -> list[Any]:
        """Return the supercells that each round searches, as host.supercell has them."""
        return self.settings().rounds.supercells or [self.document()["host"]["supercell"]]

    def make_run(
        self, parent: Path, supercell: Any, changes: Changes, kept: Sequence[RunFolder] = ()
    ) -> RunFolder:
        """Return the run folder of a supercell in a round, made unless it is there.

        Parameters
        ----------
        changes
            Returns what its run.toml says otherwise, by section and key, of the new folder.
        kept
            Runs of the round before that go on in this one.
        """
        document = self.document()
        document["host"] = {**document["host"], "supercell": supercell}
        if "store" in document:  # each run has a schema of its own
            document["store"] = {k: v for k, v in document["store"].items() if k != "schema_name"}
        source = LEARN_FILE if self.settings().rounds.supercells else RUN_FILE
        settings = run_settings(document, str(self.path / source))
        name = _name(build_host(settings.host, self.path))
        folder = next((one for one in kept if one.path.name == name), RunFolder(parent / name))
        if not folder.run_file.exists():
            moved = _moved(document, self.path, folder.path)
            for section, values in changes(folder.path).items():
                moved[section] = {**moved.get(section, {}), **values}
            run_settings(moved, str(folder.run_file))
            with written(folder.run_file) as path:
                path.write_text(_as_text(moved), encoding="utf-8")
        return folder


def runs_of(path: Path) -> list[Path]:
    """Return the run folders that a folder stands for: of a learning loop those of its last round.

    Any other folder stands for itself.
    """
    folder = LearnFolder(path)
    if not folder.is_one:
        return [path]
    over = folder.rounds()
    under_way = sorted(folder.round(len(over) + 1).path.glob(f"*/{RUN_FILE}"))
    started = [file.parent for file in under_way if RunFolder(file.parent).is_started]
    if started:
        return started
    if not over:
        raise UsageError(
            f"{path} has no round yet; start the loop with: gasearch learn {folder.quoted}"
        )
    return [path / name for name in (over[-1].result() or {})["runs"]]


def _read(path: Path, keys: Collection[str]) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DamagedRoundError(path, str(error)) from error
    if not isinstance(document, dict):
        raise DamagedRoundError(path, "it is no table")
    missing = sorted(set(keys).difference(document))
    if missing:
        raise DamagedRoundError(path, f"it lacks {', '.join(missing)}")
    return document


def _moved(document: Mapping[str, Any], source: Path, target: Path) -> dict[str, Any]:
    """Return a run.toml whose paths lead from another folder to the same files."""

    def path(text: str) -> str:
        file, colon, name = text.partition(":")
        if Path(file).is_absolute() or not (source / file).exists():
            return text
        return os.path.relpath(source / file, target) + colon + name

    def with_slash(value: Any) -> Any:
        """Return all texts that are paths, in tables and lists too: a name has no slash."""
        if isinstance(value, str):
            return path(value) if "/" in value else value
        if isinstance(value, list):
            return [with_slash(one) for one in value]
        if isinstance(value, dict):
            return {with_slash(name): with_slash(one) for name, one in value.items()}
        return value

    moved: dict[str, Any] = with_slash(dict(document))
    for section, name in _LISTS_OF_FILES:
        if name in document.get(section, {}):
            moved[section][name] = [path(one) for one in document[section][name]]
    # a model may lie in a folder beside run.toml: its name has no slash
    for table in (moved["potential"], moved.get("dft", {}).get("potential", {})):
        name = table.get("name", "")
        if (
            name and ":" not in name and name not in registered("potential")
        ):  # a model's folder beside it
            table["name"] = path(name)
    if document["host"]["structure"] not in BUILTIN_HOSTS:
        moved["host"]["structure"] = path(document["host"]["structure"])
    return moved


def _name(host: Host) -> str:
    """Return the folder of a supercell: 1x2x1, or the rows of its matrix as 1,0,0_0,1,1_0,-1,1."""
    if np.array_equal(host.matrix, np.diag(np.diag(host.matrix))):
        return cell_name(host)
    return "_".join(",".join(map(str, row)) for row in host.matrix.tolist())


def _as_text(document: Mapping[str, Any]) -> str:
    """Return a run.toml: one table for each section, what is inside of one inline."""
    lines = ["# Written by gasearch learn: a run folder like any other."]
    for name, section in document.items():
        written_keys = {key: value for key, value in section.items() if value not in ({}, [])}
        if written_keys:
            lines.append(f"\n[{name}]")
        lines += [f"{bare_key(key)} = {as_toml(value)}" for key, value in written_keys.items()]
    return "\n".join(lines) + "\n"
