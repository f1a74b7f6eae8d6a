"""The same file as an ASE database: views that stock `ase.db` and `ase_ga` read, and cannot write.

One row per candidate, its evaluation that counts, with the candidate's number for its `id`; and the
host as row 0, which `ase_ga` calls the simulation cell. `relaxed=1` is a candidate whose verdict is
"ok"; the others show what became of them under `relaxed=0`.

Names and order of the columns are those of version 9 of ASE's schema, which goes by position. ASE
connects anew for every row that it reads, and each connection parses the schema: the text is short.
A view that is no compound is merged into ASE's queries, so that these use the indices: hence the
host is a row of `structure` like any other.
"""

from __future__ import annotations

from sqlalchemy import Connection

NAMES = ("systems", "species", "number_key_values", "text_key_values", "keys", "information")

_YEARS = "(coalesce(finished,(SELECT created FROM run))-946681200)/31557600"

_SYSTEMS = {
    "id": "counts_for",
    "unique_id": "printf('%.20s%012x',(SELECT uuid FROM run),s.id)",
    "ctime": _YEARS,
    "mtime": _YEARS,
    "username": "'gasearch'",
    "numbers": "numbers",
    "positions": "positions",
    "cell": "cell",
    "pbc": "pbc",
    "initial_magmoms": "initial_magmoms",
    "initial_charges": "initial_charges",
    "masses": "NULL",
    "tags": "tags",
    "momenta": "NULL",
    "constraints": "NULL",
    "calculator": "(SELECT potential FROM level AS l WHERE l.id=e.level)",
    "calculator_parameters": "'{}'",
    "energy": "energy",
    "free_energy": "energy",
    "forces": "forces",
    "stress": "stress",
    "dipole": "NULL",
    "magmoms": "moments",
    "magmom": "total_moment",
    "charges": "NULL",
    "key_value_pairs": "key_value_pairs",
    "data": "data",
    "natoms": "n_atoms",
    "fmax": "fmax",
    "smax": "smax",
    "volume": "volume",
    "mass": "mass",
    "charge": "charge",
}

# The keys of `gasearch.store.sql.ase_rows`, in tables.
_NUMBERS = {
    "gaid": "counts_for",
    "relaxed": "verdict='ok'",
    "extinct": "0",
    "generation": "generation",
    "raw_score": "-energy/n_formula_units",
    "x": "x",
    "orbit_size": "orbit_size",
    "n_calls": "n_calls",
    "pairing": "1",
}
_HAS_NUMBER = (
    "(k.column1<>'raw_score' OR verdict='ok') AND "
    "(k.column1<>'pairing' OR (SELECT count(*) FROM parent WHERE child=counts_for)=2)"
)
_TEXTS = {
    "origin": "CASE origin WHEN 'search' THEN operator ELSE origin END",
    "composition": "composition",
    "verdict": "verdict",
    "purpose": "purpose",
    "fingerprint": (
        "CASE WHEN fingerprint GLOB '*[^0-9eE+._-]*' THEN '' ELSE 'fp' END||fingerprint"
    ),
    "level": "(SELECT name FROM level AS l WHERE l.id=e.level)",
}


def create_views(connection: Connection) -> None:
    """Make the views of a file that has none."""
    for name, query in _queries().items():
        connection.exec_driver_sql(f"CREATE VIEW {name} AS {query}")


def drop_views(connection: Connection) -> None:
    """Remove the views, which hold no data and stand in the way of changes to the tables."""
    for name in NAMES:
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")


def _queries() -> dict[str, str]:
    columns = ",".join(
        column if column == name else f"{column} AS {name}" for name, column in _SYSTEMS.items()
    )
    return {
        "systems": (
            f"SELECT {columns} FROM structure AS s LEFT JOIN evaluation AS e ON e.id=s.id "
            "WHERE counts_for>=0"
        ),
        "species": (
            "SELECT CAST(j.key AS INTEGER) AS Z,j.value AS n,counts_for AS id "
            "FROM structure AS s JOIN evaluation AS e ON e.id=s.id JOIN json_each(elements) AS j "
            "WHERE counts_for>0"
        ),
        "number_key_values": (
            "SELECT 'simulation_cell' AS key,1 AS value,0 AS id FROM run "
            "UNION ALL SELECT 'relaxed',0,0 FROM run "
            f"UNION ALL {_key_values(_NUMBERS)} AND {_HAS_NUMBER}"
        ),
        "text_key_values": _key_values(_TEXTS),
        "keys": (
            "SELECT key,id FROM number_key_values UNION ALL SELECT key,id FROM text_key_values"
        ),
        "information": "SELECT 'version' AS name,'9' AS value",
    }


def _key_values(values: dict[str, str]) -> str:
    keys = ",".join(f"('{key}')" for key in values)
    cases = " ".join(f"WHEN '{key}' THEN {value}" for key, value in values.items())
    return (
        f"SELECT k.column1 AS key,CASE k.column1 {cases} END AS value,counts_for AS id "
        "FROM structure AS s JOIN evaluation AS e ON e.id=s.id "
        f"JOIN candidate AS c ON c.id=counts_for JOIN run JOIN (VALUES {keys}) AS k "
        "WHERE counts_for>0"
    )
