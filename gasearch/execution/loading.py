"""What a worker process loads, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gasearch.execution.contract import PotentialSource
    from gasearch.potentials.contract import Potential
    from gasearch.relax.conclusion import MomentReader


def load_source(source: PotentialSource) -> tuple[Potential, MomentReader | None]:
    """Return the potential and the reader of moments of a worker, which gets one thread."""
    import torch

    from gasearch.memory import keep_freed_memory
    from gasearch.potentials.registry import load_potential
    from gasearch.relax.moment_reader import load_reader

    torch.set_num_threads(1)
    if source.device == "cpu":
        keep_freed_memory()
    species = source.species or None
    potential = load_potential(source.name, source.folder, source.device, species)
    return potential, load_reader(source.reader, source.device)
