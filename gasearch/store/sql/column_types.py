"""Column types that mean the same in SQLite and in PostgreSQL."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, Text

TEXT = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared and sorted by its code points, as SQLite does, whatever the language of the server."""

WIDE = Integer().with_variant(BigInteger(), "postgresql")
"""A whole number of 64 bits."""
