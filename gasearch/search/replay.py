"""From the record of a search back to its state: to resume it, and to prove the record true."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from gasearch.search.proposer import Proposer
from gasearch.search.screening.hull_neighbours import NEIGHBOUR
from gasearch.search.visibility import Visibility
from gasearch.store.records import Outcome, Proposal


def restore(
    proposer: Proposer,
    visibility: Visibility,
    proposals: Sequence[Proposal],
    outcomes: Sequence[Outcome],
) -> None:
    """Bring a fresh proposer to where it was after these proposals, without drawing anything."""
    for proposal, _ in _as_then(proposer, visibility, proposals, outcomes):
        proposer.register(proposal)


def differences(
    proposer: Proposer,
    visibility: Visibility,
    proposals: Sequence[Proposal],
    outcomes: Sequence[Outcome],
) -> Iterator[str]:
    """Derive every proposal again with a fresh proposer; yield a line for each that differs.

    A difference ends the replay: what follows would differ for that reason alone.
    """
    for proposal, number in _as_then(proposer, visibility, proposals, outcomes):
        is_neighbour = proposal.operator == NEIGHBOUR
        draw = proposer.propose_neighbour if is_neighbour else proposer.propose
        derived = draw(number, proposal.budget)
        if derived is None:
            yield f"candidate {number} is recorded, but every decoration was proposed before it"
            return
        if replace(derived, known=proposal.known) != proposal:
            yield (
                f"candidate {number} is recorded as {proposal.operator} {proposal.parents} -> "
                f"{proposal.fingerprint}, but follows as {derived.operator} {derived.parents} -> "
                f"{derived.fingerprint}"
            )
            return


def _as_then(
    proposer: Proposer,
    visibility: Visibility,
    proposals: Sequence[Proposal],
    outcomes: Sequence[Outcome],
) -> Iterator[tuple[Proposal, int]]:
    """Yield recorded proposals and their numbers; the proposer knows what it knew before each."""
    for outcome in outcomes:
        visibility.add(outcome)
    for proposal in proposals:
        if proposal.number is None:
            raise ValueError("only the numbered stream can be replayed")
        for outcome in visibility.release(proposal.number, proposal.known):
            proposer.add_outcome(outcome)
        yield proposal, proposal.number
