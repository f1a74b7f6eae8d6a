"""A seed: a decoration that comes from outside of the search, as it is shown and recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.errors import UsageError
from gasearch.store.records import JsonValue

AS_IN_THE_FILE = "charge order as in the file"
BY_MOMENTS = "charge order by the magnetic moments in the file"
BY_COULOMB = "charge order chosen by Coulomb energy"
THE_ONLY_ONE = "the only charge order at this x"
TILED = "tiled over this cell"


class SeedError(UsageError):
    """A seed that this search cannot start from."""


@dataclass(frozen=True)
class Seed:
    """A decoration to start from. Only its order counts: relaxations start from the host's sites.

    Parameters
    ----------
    occupation
        The decoration, as the store keeps it.
    origin
        "boucher.cif", "my.extxyz@2" (counted from 0, as ASE does) or "../small, candidate 12".
    largest_shift, mean_shift
        Of the atoms from the host's sites, in Å; strain and a rigid shift are taken out. 0 for
        tilings.
    note
        Where the charge order comes from.
    """

    occupation: bytes
    origin: str
    largest_shift: float = 0.0
    mean_shift: float = 0.0
    note: str = ""

    def line(self, host: Host) -> str:
        """Return it as one line for the user."""
        x = Decoration.from_bytes(host, self.occupation).x
        parts = [f"seed {self.origin}: x = {x:.3f}"]
        if self.note != TILED:
            parts.append(
                f", atoms within {self.largest_shift:.2f} Å of the host's sites, "
                f"mean {self.mean_shift:.2f}"
            )
        return "".join([*parts, f"; {self.note}" if self.note else ""])


def seeds_to_record(seeds: Sequence[Seed]) -> list[JsonValue]:
    """Return seeds as JSON values: occupation in hexadecimal, origin, shifts in Å, note."""
    return [[s.occupation.hex(), s.origin, s.largest_shift, s.mean_shift, s.note] for s in seeds]


def seeds_from_record(record: Any) -> tuple[Seed, ...]:
    """Return the seeds that `seeds_to_record` wrote; none for a run without a record of them."""
    return tuple(Seed(bytes.fromhex(text), *rest) for text, *rest in record or ())
