"""What a training starts from: a package's own weights, a model on disk, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gasearch.crystal.species import Species
from gasearch.errors import UsageError
from gasearch.potentials.contract import Batch
from gasearch.potentials.networks.architectures import ARCHITECTURES, architecture
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import Network, find_edges
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.training.data.frames import Frame, all_species

STARTS = ("ga", "clone", "blind", "fresh")
"""Words for a start; anything else is the folder of a model, or a trusted file of its package.

"ga" and "clone" need an architecture with weights of its own; "fresh" begins with random weights;
"blind", the control, gives all oxidation states of an element one slot.
"""
_OWN_WEIGHTS = ("chgnet",)
_SURROGATE = 31  # the slot of Ga: the field's convention for Fe3+
_FIRST_SPARE = 95  # slots beyond those of CHGNet's elements
_SAMPLE = 16  # frames that the mean number of neighbours is taken from


_Opener = Callable[[Path, Mapping[Species, int]], tuple[Network, ModelCard]]


class StartError(UsageError):
    """A start that an architecture does not have."""

    def __init__(self, name: str, start: str, problem: str) -> None:
        super().__init__(name, start, problem)
        self.name = name
        self.start = start
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.name} cannot start from {self.start!r}: {self.problem}."


def starting_model(
    name: str,
    frames: Sequence[Frame],
    start: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> tuple[Network, ModelCard]:
    """Return the network to train and its card, whose reference and domain are still to come.

    Parameters
    ----------
    name
        Of the architecture.
    frames
        Whose species need slots.
    start
        One of `STARTS`, the folder of a model, or a file of the architecture's own package that the
        user trusts; the best that the architecture has if None.
    arguments
        Of a fresh network, such as {"n_features": 48}.
    seed
        Of random weights.
    """
    if name not in ARCHITECTURES:
        architecture(name)  # raises, with the names that there are
    has_weights = name in _OWN_WEIGHTS
    if start is None:
        start = "ga" if has_weights else "fresh"
    if start not in STARTS:
        return _from_path(name, Path(start), frames)
    if has_weights and start != "fresh":
        return _from_chgnet(start, frames)
    if start not in ("fresh", "blind"):
        raise StartError(name, start, "it has no weights of its own; take 'fresh' or a model")
    return fresh(name, frames, arguments or {}, is_blind=start == "blind", seed=seed)


def fresh(
    name: str,
    frames: Sequence[Frame],
    arguments: Mapping[str, Any],
    *,
    is_blind: bool = False,
    seed: int = 0,
) -> tuple[Network, ModelCard]:
    """Return a network with random weights, with a slot for every species of the frames."""
    slots = slots_for(all_species(frames), is_blind=is_blind)
    own: dict[str, Any] = {"slots": sorted(set(slots.values()))}
    kind = architecture(name)
    if name == "mace":
        own["n_neighbours"] = _mean_neighbours(frames, float(arguments.get("cutoff", 5.0)))
        own["numbers"] = _numbers(own["slots"], slots)
    if name == "cpainn":
        own["charges"] = any(frame.partial_charges is not None for frame in frames)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = kind(**{**own, **arguments})
        except TypeError as error:
            raise StartError(name, "fresh", str(error)) from error
    card = ModelCard(name, SpeciesMap(slots), notes={"start": "random weights", "seed": seed})
    return network, card


def slots_for(species: Sequence[Species], *, is_blind: bool = False) -> dict[Species, int]:
    """Return a slot for each species: the element's for its lowest state, spare ones for others.

    The first spare slot is Ga's where no Ga occurs. A blind map gives all states the element's.
    """
    spare = [_SURROGATE] if all(one.number != _SURROGATE for one in species) else []
    spare += range(_FIRST_SPARE, _FIRST_SPARE + len(species))
    slots: dict[Species, int] = {}
    taken: set[int] = set()
    for one in sorted(species):
        has_own = one.number not in taken
        slots[one] = one.number if has_own or is_blind else spare.pop(0)
        taken.add(one.number)
    return slots


def _from_chgnet(start: str, frames: Sequence[Frame]) -> tuple[Network, ModelCard]:
    from gasearch.potentials.chgnet.weights import from_pretrained

    slots = slots_for(all_species(frames))
    surrogates = {str(one): slot for one, slot in slots.items() if slot != one.number}
    if start == "ga" and any(slot >= _FIRST_SPARE for slot in surrogates.values()):
        raise StartError("chgnet", start, "one species only can take Ga's place; take 'clone'")
    chosen: Any = start
    return from_pretrained(chosen, surrogates or {"Fe3+": "Ga"})


def _from_path(name: str, path: Path, frames: Sequence[Frame]) -> tuple[Network, ModelCard]:
    """Return the model in a folder, or in a file of the architecture's own package."""
    if path.is_file() and name in _OWN_FILES:
        return _OWN_FILES[name](path, slots_for(all_species(frames)))
    if not path.is_dir():
        raise StartError(name, str(path), f"expected a folder or one of {', '.join(STARTS)}")
    from gasearch.potentials.networks.checkpoint import read_checkpoint

    network, card = read_checkpoint(path)
    if network.architecture != name:
        raise StartError(name, str(path), f"that is a {network.architecture} model")
    for one in all_species(frames):
        card.species_map.slot(one)  # raises where there is none
    return network, card


def _from_mace_file(path: Path, slots: Mapping[Species, int]) -> tuple[Network, ModelCard]:
    """Return a foundation model, with the higher oxidation states as clones of their element."""
    from gasearch.potentials.mace.weights import from_foundation
    from gasearch.potentials.trust import read_trusted

    return from_foundation(read_trusted(path), slots, "clone")


def _from_chgnet_file(path: Path, slots: Mapping[Species, int]) -> tuple[Network, ModelCard]:
    """Return what CHGNet's own trainer wrote; its slots keep what they know."""
    from gasearch.potentials.chgnet.weights import from_trainer_file
    from gasearch.potentials.trust import read_trusted

    found = from_trainer_file(read_trusted(path), SpeciesMap(slots, is_open=True), "chgnet")
    return found.network, found.card


_OWN_FILES: Mapping[str, _Opener] = {"mace": _from_mace_file, "chgnet": _from_chgnet_file}


def _numbers(slots: Sequence[int], by_species: Mapping[Species, int]) -> list[int]:
    """Return the atomic number of each slot."""
    owner = {slot: one.number for one, slot in by_species.items()}
    return [owner[slot] for slot in slots]


def _mean_neighbours(frames: Sequence[Frame], cutoff: float) -> float:
    step = max(1, len(frames) // _SAMPLE)
    batch = Batch.from_atoms([frame.atoms for frame in frames[::step]])
    return round(len(find_edges(batch, cutoff).i) / len(batch.positions), 2)
