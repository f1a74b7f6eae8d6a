"""Where a search may start from: user structures, and ground states of smaller cells."""

from gasearch.search.seeds.collect import collect_seeds
from gasearch.search.seeds.seed import Seed, SeedError, seeds_from_record, seeds_to_record

__all__ = ["Seed", "SeedError", "collect_seeds", "seeds_from_record", "seeds_to_record"]
