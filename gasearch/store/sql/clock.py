"""The clock that leases go by: that of the database, so that it does not matter who looks."""

from __future__ import annotations

from sqlalchemy import Connection

_NOW = {
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)",
}


def now_s(connection: Connection) -> float:
    """Return the time in seconds since 1970, UTC: of the server, or of this machine by SQLite."""
    return float(connection.exec_driver_sql(_NOW[connection.dialect.name]).scalar_one())
