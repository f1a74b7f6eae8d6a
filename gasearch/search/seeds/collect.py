"""All seeds that run.toml names, in its order, equal crystals once."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from pathlib import Path

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition, Host
from gasearch.run.sections import SeedsSection
from gasearch.search.seeds.seed import Seed, SeedError
from gasearch.search.seeds.structures import structure_seeds
from gasearch.search.seeds.tilings import tiled_seeds


def collect_seeds(
    section: SeedsSection, host: Host, folder: Path, compositions: Collection[Composition]
) -> tuple[Seed, ...]:
    """Return the seeds from structures, then those from other runs; of equal crystals the first.

    Parameters
    ----------
    folder
        Where file names start from.
    compositions
        Those that are searched. A structure of another one is refused; of other runs only what
        fits is taken.
    """
    structures = chain.from_iterable(
        structure_seeds(host, name, folder) for name in section.structures
    )
    found: dict[str, Seed] = {}
    for seed in structures:
        decoration = Decoration.from_bytes(host, seed.occupation)
        if decoration.composition not in compositions:
            searched = ", ".join(f"{c.x:.4g}" for c in sorted(compositions))
            raise SeedError(
                f"seed {seed.origin} has x = {decoration.x:.4g}, but this search is at x = "
                f"{searched}: add it to search.x, or take it out of seeds.structures."
            )
        found.setdefault(decoration.fingerprint, seed)
    for name in section.runs:
        per_composition = section.tilings_per_composition
        for seed in tiled_seeds(host, name, folder, compositions, per_composition):
            found.setdefault(Decoration.from_bytes(host, seed.occupation).fingerprint, seed)
    return tuple(found.values())
