"""learn.toml: how a learning loop goes on, what is worth DFT, and when it is done.

What is searched, with which potential at first and at which DFT level, is the run.toml beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from gasearch.files import written
from gasearch.run.config import read_document, validated
from gasearch.run.template import section_tables
from gasearch.settings import (
    AtLeastOne,
    Count,
    NotNegative,
    Positive,
    Section,
    Share,
    Switch,
    key,
    section_in,
)

LEARN_FILE = "learn.toml"
SHARES = ("lowest", "uncertain", "different")
_HEAD = """\
# A learning loop, by gasearch: search, DFT, training, and again. Start it, or go on, with:
# gasearch learn FOLDER. The run.toml beside this file says what is searched, with which potential
# at first, and at which DFT level. Lines that begin with "# " and a key show what holds without it.
"""


class RoundsSection(Section):
    """[rounds]: what one round is."""

    supercells: list[Any] = key(
        [], "those that each round searches, as host.supercell has them; []: that of run.toml"
    )
    most: AtLeastOne = key(6, "rounds at the most")
    jobs: AtLeastOne = key(8, "candidates that go to DFT in a round, at the most")
    external: Literal["", "vasp", "espresso", "abinit"] = key(
        "", 'inputs of this code are exported, and results waited for; "": [dft] code is run here'
    )
    data: list[str] = key([], "labelled frames of the same DFT level, known from the beginning")
    lowest_again: AtLeastOne = key(
        3, "of each composition: how many of the lowest a new potential relaxes anew first"
    )


class ChoiceSection(Section):
    """[choice]: which candidates are worth a DFT job, as shares of a round's jobs."""

    lowest: Share = key(0.625, "the lowest of each composition, nearest to the hull first")
    uncertain: Share = key(0.25, "the most uncertain of those near the hull")
    different: Share = key(0.125, "those most unlike all that have a result")
    window_per_fu: Positive = key(0.1, "what counts as near the hull", "eV/f.u.")
    correction: Switch = key(
        True,
        "energies are corrected by the DFT results of the round's own potential, where that "
        "predicts better than nothing",
    )


class GeometriesSection(Section):
    """[geometries]: what is computed beside the relaxed structure of a candidate."""

    halfway: Count = key(1, "on the way from the unrelaxed structure to the relaxed one")
    strained: Count = key(
        2, "with axes stretched or compressed, in pairs of opposites: they teach the cell"
    )
    rattled: Count = key(1, "with random displacements and strains")
    swapped: Count = key(
        1, "half-way to other charge orders of the same ion order, the nearest in energy first"
    )
    stretch: Positive = key(0.015, "of strained ones, of each axis")
    displacement: Positive = key(0.04, "of rattled ones, standard deviation", "Å")
    strain: NotNegative = key(0.012, "of rattled ones, standard deviation of each component")


class DoneSection(Section):
    """[done]: when predictions are good enough; they must be so twice in a row."""

    energy_per_fu: Positive = key(0.01, "mean error of formation energies", "eV/f.u.")
    forces: Positive = key(0.1, "mean error of the components of forces", "eV/Å")
    cells: Positive = key(0.01, "mean strain between axes and where the energy of DFT is lowest")
    order: Share = key(0.9, "Kendall's tau of the orders of one composition, at the least")
    in_a_row: AtLeastOne = key(
        2, "rounds, in which the hull keeps its members, or others within 1 meV/f.u."
    )


class TrainSection(Section):
    """[train]: how the network of the next round is made."""

    architecture: str = key("chgnet", "a name of `gasearch potential list`")
    start: str = key(
        "", 'of the first training: "ga", a model\'s folder ...; "": the best there is'
    )
    held_out: Share = key(0.25, "of the new decorations of a round: they judge the new model")
    settings: dict[str, Any] = key(
        {"learning_rate": 2e-3, "anchor": 0.2, "keep_best": False},
        "as in the settings file of a training; without epochs there as many as read 2000 frames, "
        "and 24 at the least",
    )
    network: dict[str, Any] = key({}, "arguments of a fresh network")


class LearnSettings(Section):
    """A whole learn.toml."""

    rounds: RoundsSection = RoundsSection()
    choice: ChoiceSection = ChoiceSection()
    geometries: GeometriesSection = GeometriesSection()
    done: DoneSection = DoneSection()
    train: TrainSection = TrainSection()

    @field_validator("choice")
    @classmethod
    def _shares_of_one(cls, choice: ChoiceSection) -> ChoiceSection:
        total = sum(getattr(choice, name) for name in SHARES)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"{', '.join(SHARES)} add up to {total:g}; expected 1")
        return choice


def read_learn_file(path: Path) -> LearnSettings:
    """Return the settings of a learn.toml; every error is one line that names the key."""
    return validated(read_document(path, " --learn"), str(path), LearnSettings)


def learn_file_text(written: Mapping[str, Any]) -> str:
    """Return a commented learn.toml.

    Parameters
    ----------
    written
        Values that stand there, such as {"rounds.jobs": 12}; all other keys are comments with their
        defaults.
    """
    found = [_HEAD]
    for name, field in LearnSettings.model_fields.items():
        section = section_in(field.annotation)
        if section is not None:
            found += section_tables(section, name, written)
    return "\n".join(found)


def write_learn_file(folder: Path) -> Path:
    """Write a learn.toml of defaults into a folder that has none, and return where it is."""
    path = folder / LEARN_FILE
    with written(path) as partial:
        partial.write_text(learn_file_text({}), encoding="utf-8")
    return path
