"""Memory that ran out: how much was needed for what, how much there was, and what to do."""

from __future__ import annotations

import contextlib
import errno
import re
import traceback
from pathlib import Path

_SIZE = re.compile(r"(?:allocate|allocating) (\d+(?:\.\d+)? (?:bytes|[KMGTPE]i?B))")
_NO_ROOM = ("failed to map segment", "cannot allocate memory", "can't allocate memory")
_OF_PACKAGES = re.compile(r"(?:site|dist)-packages/(\w+)")
_KIB = 1024


def is_shortage(error: BaseException) -> bool:
    """Return whether memory ran out, also where a library that is loaded finds no room."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    text = str(error).lower()
    return isinstance(error, ImportError | OSError | RuntimeError) and any(
        sign in text for sign in _NO_ROOM
    )


def shortage_line(error: BaseException) -> str:
    """Return the line of its user."""
    found = _SIZE.search(str(error))
    needed = f"{found[1]} were needed" if found else "more was needed"
    return f"memory ran out: {needed} {_what(error)}, and {_there_was()}"


def _what(error: BaseException) -> str:
    """Return in which package, or in which of our modules, it ran out."""
    frames = traceback.extract_tb(error.__traceback__)
    packages = [_OF_PACKAGES.findall(frame.filename) for frame in frames]
    ours = [n for n, frame in enumerate(frames) if "/gasearch/" in frame.filename]
    later = [names[-1] for names in packages[ours[-1] + 1 if ours else 0 :] if names]
    if isinstance(error, ImportError) or (ours and frames[ours[-1]].name == "<module>"):
        return f"to load {later[0] if later else 'a library'}"
    named = [n for n in ours if not frames[n].name.startswith("<")]
    if named:
        frame = frames[named[-1]]
        by = f" with {later[0]}" if later else ""
        return f"by {frame.name.strip('_')} of {Path(frame.filename).name}{by}"
    return "by this command"


def _there_was() -> str:
    import resource  # POSIX only; without it the command line says where it runs

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        used = f", of which {_gib(size)} are in use" if (size := _held()) else ""
        return (
            f"this process may have {_gib(limit)} of address space{used}: allow it more "
            "(ulimit -v unlimited, or the memory of the job)"
        )
    return (
        f"this process holds {_gib(_held())} already: give it more (the memory of the job, another "
        "machine), or take fewer workers or a smaller supercell"
    )


def _held() -> int:
    """Return the address space of this process, in bytes; 0 where nothing says it."""
    with contextlib.suppress(OSError, ValueError, IndexError, MemoryError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmSize:"):
                return int(line.split()[1]) * _KIB
    return 0


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / _KIB**3:.2f} GiB"
