"""The population database: a file, or a schema of a server, that holds a whole search."""

from gasearch.store.errors import StoreError
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import (
    FIRST_OUTSIDE,
    Committed,
    CompositionRow,
    Counts,
    EvaluationRow,
    Event,
    ExtraRow,
    JsonValue,
    Lease,
    LevelRecord,
    Outcome,
    Proposal,
    Purpose,
    Queued,
    RunRecord,
)
from gasearch.store.sqlite.lock import DriverLock

__all__ = [
    "FIRST_OUTSIDE",
    "Committed",
    "CompositionRow",
    "Counts",
    "DriverLock",
    "EvaluationRow",
    "Event",
    "ExtraRow",
    "JsonValue",
    "Lease",
    "LevelRecord",
    "Outcome",
    "PopulationStore",
    "Proposal",
    "Purpose",
    "Queued",
    "RunRecord",
    "StoreError",
]
