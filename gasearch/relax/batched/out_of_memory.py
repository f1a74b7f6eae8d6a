"""Memory that runs out, on an accelerator or in the machine."""

from __future__ import annotations

import gc

import torch

_ERRORS = (torch.OutOfMemoryError, MemoryError)
_ON_CPU = "can't allocate memory"
"""What torch says on the CPU, in a plain RuntimeError."""


def is_out_of_memory(error: Exception) -> bool:
    """Return whether less at once may help against an error."""
    return isinstance(error, _ERRORS) or (isinstance(error, RuntimeError) and _ON_CPU in str(error))


def free_memory() -> None:
    """Give back what nothing refers to; the traceback of an error may still refer to much."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
