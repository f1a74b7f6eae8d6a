"""From the record of a search back to its state: to resume it, and to prove the record true."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    for outcome in outcomes:
        visibility.add(outcome)
    for proposal in proposals:
        number = _number(proposal)
        for outcome in visibility.release(number, proposal.known):
            proposer.add_outcome(outcome)
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
    for outcome in outcomes:
        visibility.add(outcome)
    for proposal in proposals:
        number = _number(proposal)
        for outcome in visibility.release(number, proposal.known):
            proposer.add_outcome(outcome)
        draw = proposer.propose_neighbour if proposal.operator == NEIGHBOUR else proposer.propose
        derived = draw(number, proposal.budget)
        if derived is None:
            yield f"candidate {number} is recorded, but every decoration was proposed before it"
            return
        again = derived.as_record(proposal.known)
        if again != proposal:
            yield (
                f"candidate {number} is recorded as {proposal.operator} {proposal.parents} -> "
                f"{proposal.fingerprint}, but follows as {again.operator} {again.parents} -> "
                f"{again.fingerprint}"
            )
            return


def _number(proposal: Proposal) -> int:
    if proposal.number is None:
        raise ValueError("only the numbered stream can be replayed")
    return proposal.number
