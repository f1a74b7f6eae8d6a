"""What goes into the population database and comes out of it, as plain immutable data.

A field of `Proposal` is a column of the table of candidates, and a field of
`gasearch.relax.relaxed.Relaxed` is one of the tables of results, if its type is in `PLAIN`: tables
are made, written, read, copied and checked by these fields. A new one has a default, which is what
older databases hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from ase import Atoms

from gasearch.crystal.decoration import Decoration
from gasearch.relax.audit import Verdict

JsonValue: TypeAlias = (
    "str | int | float | bool | list[JsonValue] | tuple[JsonValue, ...] "
    "| dict[str, JsonValue] | None"
)
AWARENESS = "potential.awareness"
"""Recorded beside the settings: whether the potential tells oxidation states apart.

{"change_eV": of the energy where two sites swap them, or None, "is_blind": whether it is too small}
"""
State = Literal["queued", "relaxing", "relaxed", "failed"]
STATES: tuple[State, ...] = get_args(State)
POTENTIAL_PLACE = "potential.place"
"""Operational key: where a potential is now that has moved since the search was started."""
BUDGET = "search.budget"
"""Operational key: candidates at the most."""
Purpose = Literal["search", "tight"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

T = TypeVar("T")
Wide: TypeAlias = int
"""A whole number of 64 bits."""
Details: TypeAlias = Mapping[str, JsonValue]
"""Stored as JSON; NULL where it is empty."""
PLAIN = ("int", "Wide", "float", "bool", "str", "bytes", "Verdict", "Details")
"""Types of fields that are columns, as they are written in the annotations."""
LATER = {"later": True}
"""Of a field of candidates that older databases lack; it is not in the events there."""

FIRST_OUTSIDE = 1_000_000_001
"""Candidates that the search did not propose are numbered from here on, far above its own."""


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What defines a search.

    Parameters
    ----------
    host
        Canonical JSON of the host's declaration.
    host_atoms
        The full supercell, all working-ion sites filled.
    settings
        Keys that define the search and cannot change, such as {"relax.fmax": 0.02}.
    operational
        Keys that may change on resume, such as {"budget": 500}.
    seed
        Of all random numbers of the run.
    n_formula_units
        In `host_atoms`; energies per formula unit are divided by it.
    versions
        Of the packages that the results depend on, by name.
    """

    host: str
    host_atoms: Atoms
    settings: Mapping[str, JsonValue]
    operational: Mapping[str, JsonValue]
    seed: int
    n_formula_units: int
    versions: Mapping[str, str]

    @property
    def is_charge_blind(self) -> bool | None:
        """Whether its potential tells no oxidation states apart; None where nobody recorded it."""
        found = self.settings.get(AWARENESS)
        return bool(found["is_blind"]) if isinstance(found, Mapping) else None

    @property
    def charge_awareness(self) -> float | None:
        """Change of energy where two sites swap oxidation states, in eV; None where not known."""
        found = self.settings.get(AWARENESS)
        value = found["change_eV"] if isinstance(found, Mapping) else None
        return float(value) if isinstance(value, int | float) else None


@dataclass(frozen=True)
class LevelRecord:
    """What computes the energies of a search.

    Parameters
    ----------
    name
        Shown to people; the key `level` in ASE.
    weights_hash
        sha256 of the weights, or "" for a potential without any.
    probe_energies
        Of two fixed decorations, in eV: a changed potential is noticed by them.
    ranks_only
        Whether its energies only rank structures and make no hull or voltage.
    """

    name: str
    potential: str
    weights_hash: str
    probe_energies: tuple[float, ...]
    ranks_only: bool

    @property
    def is_held(self) -> bool:
        """Whether a hold keeps its charge orders; told by its name."""
        return " held by " in self.name


@dataclass(frozen=True)
class Proposal:
    """A decoration that enters the database.

    Parameters
    ----------
    number
        1, 2, 3 ... without gaps for what the search proposes. None for a candidate from elsewhere,
        which the commit numbers from `FIRST_OUTSIDE` on.
    occupation
        The decoration; the store does not look into it.
    fingerprint
        Equal for equal crystals; a run holds each once.
    orbit_size
        Number of equivalent decorations.
    composition
        Its name, such as "Na2Fe4P4O16".
    x
        Filled share of the working-ion sites.
    operator
        What made it: of the search "end_member", "seed", "coulomb", "random", "screened",
        "neighbour", "surrogate_descent", or the name of an operator.
    parents
        Candidates that it was made from, in the order of the operator.
    known
        Number of the last result that the proposal used.
    n_rejected
        Draws before this one that repeated known decorations.
    origin
        "search", or where it comes from.
    generation
        1 + the largest generation of its parents; 0 without parents.
    budget
        Of the search when this candidate was drawn; 0 where it does not matter.
    details
        How it was chosen, for people: never used by the search, and not compared, because
        the last digits of its numbers may differ between machines.
    """

    number: int | None
    occupation: bytes
    fingerprint: str
    orbit_size: Wide
    composition: str
    x: float
    operator: str
    parents: tuple[int, ...] = ()
    known: int = 0
    n_rejected: int = 0
    origin: str = "search"
    generation: int = 0
    budget: int = field(default=0, metadata=LATER)
    details: Details = field(default_factory=dict, compare=False, metadata=LATER)

    @classmethod
    def of(
        cls, number: int | None, decoration: Decoration, operator: str, **others: Any
    ) -> Proposal:
        """Return the record of a decoration; `others` are further fields by name."""
        return cls(
            number=number,
            occupation=decoration.occupation.tobytes(),
            fingerprint=decoration.fingerprint,
            orbit_size=decoration.orbit_size,
            composition=decoration.formula,
            x=decoration.x,
            operator=operator,
            **others,
        )


@dataclass(frozen=True)
class Lease:
    """The right to relax a candidate, until a later lease of the same candidate replaces it.

    Parameters
    ----------
    attempt
        The fencing token: a result counts only while no later attempt has begun.
    purpose
        "search", or "tight" for the second relaxation of candidates near the hull.
    n_crashes
        How many earlier attempts took their worker down.
    """

    candidate: int
    attempt: int
    purpose: Purpose = "search"
    n_crashes: int = 0


@dataclass(frozen=True)
class Queued:
    """An evaluation that waits for its relaxation."""

    candidate: int
    purpose: Purpose
    n_crashes: int


@dataclass(frozen=True)
class Outcome:
    """What steers the search: the result of one candidate.

    Parameters
    ----------
    result
        1, 2, 3 ... in the order of commit; 0 for a tight relaxation, which does not steer.
    energy
        Of the whole cell, in eV; NaN where the verdict is "failed".
    n_calls
        Evaluations of the potential that it took.
    """

    result: int
    candidate: int
    composition: str
    energy: float
    verdict: Verdict
    n_calls: int
    purpose: Purpose = "search"


@dataclass(frozen=True)
class Committed:
    """What one commit made true.

    Parameters
    ----------
    leases
        In the order in which they were asked for.
    outcomes
        Results that count, in the order of their number.
    tight
        Tight relaxations that count, in the order of recording.
    refused
        Leases whose result or return came too late, and so did not count.
    late
        Those of the refused whose result is kept as an extra evaluation: all but returns, and
        repetitions of what is stored already.
    outside
        Candidates given to proposals without a number, in their order.
    """

    leases: tuple[Lease, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    tight: tuple[Outcome, ...] = ()
    refused: tuple[Lease, ...] = ()
    late: tuple[Lease, ...] = ()
    outside: tuple[int, ...] = ()


@dataclass(frozen=True)
class EvaluationRow:
    """One relaxed candidate, without its structure.

    Parameters
    ----------
    energy
        Of the whole cell, in eV; NaN where the verdict is "failed".
    fmax
        Largest force on any atom, in eV/Å; NaN where the verdict is "failed".
    result
        Its number among the results of the search; None for a tight relaxation.
    penalty
        What is left of a hold, in eV per cell.
    energy_sigma, force_sigma
        Standard deviations by the committee of the potential, in eV per cell and eV/Å; NaN where
        it has none.
    """

    candidate: int
    composition: str
    x: float
    energy: float
    verdict: Verdict
    fingerprint: str
    orbit_size: int
    operator: str
    origin: str
    generation: int
    purpose: Purpose
    n_calls: int
    fmax: float
    smax: float
    reason: str
    audit: str
    wall_s: float
    penalty: float
    energy_sigma: float
    force_sigma: float
    result: int | None


@dataclass(frozen=True)
class ExtraRow:
    """A result that came after its lease was over; it counts nowhere.

    Parameters
    ----------
    id
        1, 2, 3 ... in the order in which they came.
    attempt
        That it belongs to.
    energy
        Of the whole cell, in eV; NaN where the verdict is "failed".
    finished
        When it came, in seconds since 1970, UTC.
    """

    id: int
    candidate: int
    attempt: int
    purpose: Purpose
    verdict: Verdict
    energy: float
    n_calls: int
    reason: str
    audit: str
    wall_s: float
    finished: float


@dataclass(frozen=True)
class Counts:
    """Where a search stands.

    Parameters
    ----------
    candidates
        All of them, those from elsewhere included.
    relaxed, failed
        Candidates whose search relaxation ended so.
    duplicates
        Draws that repeated a known decoration.
    in_flight, queued
        Relaxations of either purpose under way, and waiting.
    n_calls
        Evaluations of the potential by all recorded relaxations.
    by_verdict
        Candidates by the verdict of their search relaxation.
    extra
        Late results, which are in none of the other numbers.
    """

    candidates: int
    relaxed: int
    failed: int
    duplicates: int
    in_flight: int
    queued: int
    n_calls: int
    by_verdict: Mapping[Verdict, int] = field(default_factory=dict)
    extra: int = 0


@dataclass(frozen=True)
class CompositionRow:
    """What is known of one composition.

    Parameters
    ----------
    best
        The candidate of lowest energy with verdict "ok", or None.
    best_energy
        Of the whole cell, in eV; NaN where there is no `best`.
    valid
        Candidates whose search relaxation ended with verdict "ok".
    not_valid
        (candidate, verdict) of those whose search relaxation ended with another one, in order.
    """

    composition: str
    x: float
    candidates: int
    relaxed: int
    failed: int
    best: int | None
    best_energy: float
    valid: int
    not_valid: tuple[tuple[int, Verdict], ...]


@dataclass(frozen=True)
class Event:
    """One line of the append-only record.

    Parameters
    ----------
    number
        1, 2, 3 ... without gaps.
    time_s
        Seconds since 1970, UTC.
    """

    number: int
    time_s: float
    kind: str
    candidate: int | None
    data: Mapping[str, JsonValue]


def plain_fields(record: type) -> list[Field[Any]]:
    """Return the fields of a record that are columns."""
    return [one for one in fields(record) if one.type in PLAIN]


def _default(one: Field[Any]) -> Any:
    """Return what stands for a NULL in the column of a field: its default, or NaN for a number."""
    if one.default is not MISSING:
        return one.default
    if one.default_factory is not MISSING:
        return one.default_factory()
    return float("nan") if one.type == "float" else None


def of_older(record: type) -> dict[str, Any]:
    """Return what the columns of later fields hold in databases that are older than they."""
    later = [one for one in plain_fields(record) if "later" in one.metadata]
    return {one.name: None if one.type == "Details" else one.default for one in later}


def from_columns(record: type[T], columns: Mapping[str, Any], **others: Any) -> T:
    """Return a record of the columns that are called as its fields; `others` are not plain."""
    values = dict(others)
    for one in fields(record):  # type: ignore[arg-type]
        if one.name in others:
            continue
        value = columns[one.name]
        if value is None:
            value = _default(one)
        elif one.type == "Details":
            value = json.loads(value)
        values[one.name] = value
    return record(**values)
