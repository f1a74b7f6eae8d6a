"""Which device relaxations run on, in how many processes, and how many candidates at once."""

from __future__ import annotations

import math
from pathlib import Path

from gasearch.errors import UsageError

DEVICE_ATOMS = 8192
"""Meant as twice what saturates an accelerator; a guess that was not measured. Results are
committed in groups: while these are on their way, their places are empty, and the rest is busy."""
LEAST_ON_DEVICE = 16
_MOST_ON_CORE = 4
"""On one core four structures at once are up to twice as fast as one (MACE), or no faster at all
(CHGNet, one evaluation each); more gain little more."""
_PER_CORE = 8
"""Candidates in flight for each core of a cluster: what a worker computes goes to and fro in
batches, and while one is under way the next is made ready."""


class NoDeviceError(UsageError):
    """A device that is not there, or that the potential cannot use."""

    def __init__(self, device: str, problem: str) -> None:
        super().__init__(device, problem)
        self.device = device
        self.problem = problem

    def __str__(self) -> str:
        return f'execution.device = "{self.device}": {self.problem}; use "auto" or "cpu".'


def places_per_worker(device: str, workers: int, in_flight: int, *, alone: bool) -> int:
    """Return how many candidates a worker relaxes at once.

    An accelerator belongs to one process, which gets all that are in flight.

    Parameters
    ----------
    workers
        Processes; 0 where the search itself relaxes.
    alone
        Whether each structure is relaxed by itself on the CPU, so that rounding cannot depend on
        which others are in its batch.
    """
    if device != "cpu":
        return in_flight
    return 1 if alone else min(math.ceil(in_flight / max(1, workers)), _MOST_ON_CORE)


def enough_in_flight(device: str, workers: int, n_atoms: int) -> int:
    """Return how many candidates of so many atoms keep a device, or the workers, busy."""
    if device == "cpu":
        return max(1, workers)
    return max(LEAST_ON_DEVICE, math.ceil(DEVICE_ATOMS / n_atoms))


def choose_device(asked: str, potential: str, folder: Path) -> str:
    """Return the device for a potential: the CPU, unless an accelerator is there and of use to it.

    Parameters
    ----------
    asked
        As `execution.device` of a run.toml.
    potential
        Its name there; relative files are looked up in `folder`.
    """
    if asked == "cpu":
        return "cpu"
    import torch

    from gasearch.potentials.registry import takes_device

    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    is_usable = takes_device(potential, folder)
    if asked == "auto":
        return "cuda" if n_devices and is_usable else "cpu"
    if n_devices <= int(asked.partition(":")[2] or 0):
        found = f"{n_devices} of them" if n_devices else "none"
        raise NoDeviceError(asked, f"torch sees {found} here")
    if not is_usable:
        raise NoDeviceError(asked, f"potential {potential!r} takes no device")
    return asked


def enough_for_batches(device: str, workers: int, n_atoms: int) -> int:
    """Return how many candidates of so many atoms keep workers elsewhere busy with batches."""
    if device == "cpu":
        return _PER_CORE * max(1, workers)
    return max(1, workers) * enough_in_flight(device, 1, n_atoms)


def device_of_nodes(asked: str, potential: str, folder: Path, n_gpus: int) -> str:
    """Return the device for a potential on the nodes of a cluster, which are not looked at.

    Parameters
    ----------
    n_gpus
        Accelerators of a node.
    """
    if asked == "cpu" or not n_gpus:
        return "cpu"
    from gasearch.potentials.registry import takes_device

    if takes_device(potential, folder):
        return "cuda"
    if asked == "auto":
        return "cpu"
    raise NoDeviceError(asked, f"potential {potential!r} takes no device")
