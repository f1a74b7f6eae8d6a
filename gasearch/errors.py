"""The base of all errors that gasearch raises on purpose, and those that several modules share."""

import sys
from importlib.util import find_spec


class GasearchError(Exception):
    """Base of every expected error; its text says what was found, expected, and what to do."""


class UsageError(GasearchError, ValueError):
    """Wrong input of the user: the command line ends with exit status 2."""


class DecorationError(GasearchError, ValueError):
    """An occupation that its host cannot hold, or atoms that do not fit the host."""


class OtherSystemError(UsageError, ImportError):
    """A system without the file locks of POSIX."""

    def __str__(self) -> str:
        return (
            f"gasearch runs on Linux and macOS, this is {sys.platform}: the locks of its database "
            "(fcntl) are not there; on Windows use WSL."
        )


def refuse_other_systems() -> None:
    """Raise `OtherSystemError` where a search could not lock its database."""
    if find_spec("fcntl") is None:
        raise OtherSystemError
