"""Which row of a network's parameters belongs to which slot, for networks that list their slots."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gasearch.errors import UsageError

_LARGEST = 999


class SlotError(UsageError):
    """A slot that a network does not have, or a list of slots that makes no sense."""

    def __init__(self, problem: str, slots: Sequence[int]) -> None:
        super().__init__(problem, slots)
        self.problem = problem
        self.slots = tuple(slots)

    def __str__(self) -> str:
        known = ", ".join(map(str, self.slots)) or "none"
        return f"{self.problem}; the slots of this network: {known}."


class SlotTable(torch.nn.Module):
    """From slots to rows: 0, 1, 2 ... in the order of the list.

    Parameters
    ----------
    slots
        Distinct numbers from 1 to 999.
    """

    def __init__(self, slots: Sequence[int]) -> None:
        super().__init__()
        self.slots = tuple(int(slot) for slot in slots)
        if not self.slots or len(set(self.slots)) < len(self.slots):
            raise SlotError("a network needs slots, each once", self.slots)
        if min(self.slots) < 1 or max(self.slots) > _LARGEST:
            raise SlotError(f"a slot is a number from 1 to {_LARGEST}", self.slots)
        rows = torch.full((_LARGEST + 1,), -1, dtype=torch.int64)
        rows[list(self.slots)] = torch.arange(len(self.slots))
        self.register_buffer("rows", rows, persistent=False)
        self.rows: torch.Tensor

    def __len__(self) -> int:
        return len(self.slots)

    def forward(self, slots: torch.Tensor) -> torch.Tensor:
        """Return the rows (N,) of atoms in these slots (N,)."""
        rows = self.rows[slots]
        if bool((rows < 0).any()):
            missing = sorted(set(slots.tolist()) - set(self.slots))
            raise SlotError(f"no slot {', '.join(map(str, missing))}", self.slots)
        return rows
