"""What a loop needs, checked before anything is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gasearch.crystal.io.builtin import BUILTIN_HOSTS
from gasearch.dft.levels import DftLevel
from gasearch.errors import UsageError
from gasearch.learning.folder import LearnFolder
from gasearch.learning.settings import LEARN_FILE
from gasearch.run.folder import RunFolder
from gasearch.run.location import RUN_FILE


def refuse_other_hosts(folder: LearnFolder, earlier: Sequence[RunFolder]) -> None:
    """Refuse another crystal than that of the rounds before."""
    every = {"supercell": 1, "structure": ""}
    told = [
        (one.settings().host.model_copy(update=every), _structure(one))
        for one in (RunFolder(folder.path), *earlier[:1])
    ]
    if any(one != told[0] for one in told):
        raise UsageError(
            f"[host] of {folder.path / RUN_FILE} is not that of the rounds before: put it "
            "back; another crystal needs a loop of its own."
        )


def refuse_other_data(folder: LearnFolder, files: Sequence[Path], level: DftLevel) -> None:
    """Refuse labelled frames that name another level, before anything is computed."""
    if files:
        from gasearch.training.data.reading import read_frames

        found = Counter(frame.level for frame in read_frames(files).frames)
        others = sorted(set(found) - {"", level.name})
        if others:
            raise UsageError(
                f"rounds.data of {folder.path / LEARN_FILE}: its frames are of level "
                f"{', '.join(others)}, and the DFT of this loop is {level.name}: take frames "
                f"of that level, or write level={level.name} into all frames if these are "
                "names of the same."
            )


def _structure(run: RunFolder) -> str:
    """Return the structure of a run's host: a file by its full path."""
    name = run.settings().host.structure
    return name if name in BUILTIN_HOSTS else str((run.path / name).resolve())
