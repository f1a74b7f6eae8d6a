"""The base of all errors that gasearch raises on purpose, and those that several modules share."""


class GasearchError(Exception):
    """Base of every expected error; its text says what was found, expected, and what to do."""


class UsageError(GasearchError, ValueError):
    """Wrong input of the user: the command line ends with exit status 2."""


class DecorationError(GasearchError, ValueError):
    """An occupation that its host cannot hold, or atoms that do not fit the host."""
