"""Our operators inside a stock `ase_ga` loop, and candidates that such a loop can hold.

The other direction, a stock operator in our search, is `gasearch.operators.lattice`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase_ga.offspring_creator import OffspringCreator

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.errors import DecorationError, UsageError
from gasearch.operators.contract import Operator
from gasearch.operators.lattice import LatticeOperator, StockOperatorError

__all__ = [
    "AseGaOperator",
    "LatticeOperator",
    "StockOperatorError",
    "from_candidate",
    "to_candidate",
]

_RECORD = "occupation"  # key in info["data"], which ase_ga keeps through its database


class AseGaOperator(OffspringCreator):  # type: ignore[misc]
    """One of our operators as a stock `ase_ga` operator, for `OperationSelector` and the like.

    Children are whole structures on the undistorted sites of the host, with formal charges and
    high-spin moments, ready to be relaxed. A mutation can be part of a `CombinationMutation`.
    """

    def __init__(
        self,
        operator: Operator,
        host: Host,
        rng: np.random.Generator | int,
        *,
        descriptor: str | None = None,
        verbose: bool = False,
    ) -> None:
        """Wrap an operator.

        Parameters
        ----------
        rng
            Source of all its random numbers, or a seed for one.
        descriptor
            What the database shows as `origin`; by default the name of the operator's class.
        """
        super().__init__(verbose=verbose, rng=np.random.default_rng(rng))
        self.operator = operator
        self.host = host
        self.descriptor = descriptor or str(getattr(operator, "name", type(operator).__name__))
        self.min_inputs = operator.n_parents

    def get_new_individual(self, parents: Sequence[Atoms]) -> tuple[Atoms | None, str]:
        """Return the child, or None where there is none, and what `ase_ga` stores of its making."""
        used = list(parents[: self.operator.n_parents])
        confids = [int(atoms.info["confid"]) for atoms in used]
        kind = "pairing" if len(used) > 1 else "mutation"
        description = f"{kind}: {self.descriptor} of {' '.join(map(str, confids))}"
        child = self.operator([from_candidate(self.host, atoms) for atoms in used], self.rng)
        if child is None:
            return None, description
        individual = to_candidate(child, self.descriptor)
        individual.info["data"]["parents"] = confids
        return individual, description

    def mutate(self, atoms: Atoms) -> Atoms | None:
        """Return the child of one structure, for `CombinationMutation`; None where there is none.

        Positions and charges decide, because another mutation may have changed the atoms since
        their decoration was recorded.
        """
        if self.operator.n_parents != 1:
            raise UsageError(
                f"{self.descriptor} takes {self.operator.n_parents} parents: it cannot be part of "
                "a CombinationMutation, which mutates one structure."
            )
        child = self.operator([Decoration.from_atoms(self.host, atoms)], self.rng)
        return None if child is None else to_candidate(child, self.descriptor)


def to_candidate(decoration: Decoration, origin: str = "StartingCandidate") -> Atoms:
    """Return the structure of a decoration with all that an `ase_ga` database wants to know.

    `key_value_pairs` has the fingerprint, for `StringComparator("fingerprint")`, and x.
    """
    atoms = decoration.to_atoms()
    pairs: dict[str, Any] = {"extinct": 0, "origin": origin, "x": decoration.x}
    # ase.db refuses strings that look like numbers
    pairs["fingerprint"] = f"fingerprint {decoration.fingerprint}"
    record = {_RECORD: decoration.occupation.tobytes().hex()}
    atoms.info = {"key_value_pairs": pairs, "data": record}
    return atoms


def from_candidate(host: Host, atoms: Atoms) -> Decoration:
    """Return the decoration of a candidate, relaxed or not.

    As recorded by `to_candidate` if the atoms still carry that record and do not contradict it,
    else from positions and `initial_charges`.
    """
    record = atoms.info.get("data", {}).get(_RECORD)
    if isinstance(record, str):
        decoration = Decoration.from_bytes(host, bytes.fromhex(record))
        if _agrees(decoration, atoms):
            return decoration
    try:
        return Decoration.from_atoms(host, atoms)
    except DecorationError as error:
        raise DecorationError(
            f"candidate {atoms.info.get('confid', '')} has no decoration on record, and {error} "
            "Some stock operators drop charges; use those that gasearch wraps."
        ) from error


def _agrees(decoration: Decoration, atoms: Atoms) -> bool:
    """Return whether elements, and charges unless they were dropped, are those of a decoration."""
    expected = decoration.to_atoms()
    if not np.array_equal(expected.numbers, atoms.numbers):
        return False
    charges = atoms.get_initial_charges()
    return not charges.any() or np.allclose(charges, expected.get_initial_charges())
