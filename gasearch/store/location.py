"""Where a population lives: a SQLite file, or a schema of a PostgreSQL database."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from gasearch.errors import UsageError

_DRIVERS = ("postgresql", "postgresql+psycopg")
_SECRETS = frozenset(("password", "sslpassword"))
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_EXAMPLE = '"postgresql+psycopg://user@host/database"'


class StoreUrlError(UsageError):
    """An address of a server that is not used as it is; its text never repeats the address."""


@dataclass(frozen=True)
class ServerPlace:
    """A schema of a PostgreSQL database, which holds one run.

    Parameters
    ----------
    url
        As `checked_url` returns it: without a password.
    schema
        Small letters, digits and underscores.
    """

    url: str
    schema: str

    def __post_init__(self) -> None:
        checked_schema(self.schema)

    def __str__(self) -> str:
        return f"schema {self.schema} of {self.url}"


Place: TypeAlias = Path | ServerPlace


def checked_schema(name: str) -> str:
    """Return the name of a schema, or raise `StoreUrlError`."""
    if not _SCHEMA.fullmatch(name) or name.startswith("pg_"):
        raise StoreUrlError("expected small letters, digits and underscores, such as run_1.")
    return name


def checked_url(url: str) -> str:
    """Return a URL in its canonical form, or raise `StoreUrlError`.

    A password in it is refused: run.toml is copied, recorded and shown.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StoreUrlError(f"no address of a server; expected such as {_EXAMPLE}.") from error
    if parsed.password is not None or _SECRETS & {key.lower() for key in parsed.query}:
        raise StoreUrlError(
            "the address holds a password: take it out, and give it by the variable PGPASSWORD, "
            "by ~/.pgpass, or by a service file."
        )
    if parsed.drivername not in _DRIVERS:
        raise StoreUrlError(f"the address is not one of PostgreSQL; expected such as {_EXAMPLE}.")
    return parsed.set(drivername=_DRIVERS[1]).render_as_string(hide_password=True)
