"""One setting of the C library that makes training, and relaxing in batches, a tenth faster."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt
_LARGE = 1 << 30


def keep_freed_memory() -> bool:
    """Let the process keep freed memory for its next step; return whether that can be set here.

    glibc gives large blocks back to the system at once and gets them page by page again, for every
    tensor of every step. Elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _LARGE), (_TOP_PAD, _LARGE // 16))
    return all(bool(mallopt(name, value)) for name, value in wanted)
