"""What the potential commands show: tables and JSON. Nothing is computed here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from gasearch.display.tables import make_table

if TYPE_CHECKING:  # a list of names shall not take the seconds that torch does
    from gasearch.potentials.listing import Listed
    from gasearch.training.evaluation.embedding import Embedding
    from gasearch.training.evaluation.errors import Report


def report_table(reports: Mapping[str, Report]) -> Table:
    """Return errors: a column per model, or per part of the data."""
    from gasearch.training.evaluation.errors import COLUMNS, number

    heads = {"n_frames": "frames", **COLUMNS}
    cells = ((head, *(number(one[key]) for one in reports.values())) for key, head in heads.items())
    table = make_table(["", *reports], cells, texts=("", *reports))
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def plain(document: Any) -> Any:
    """Return reports as JSON has them: null for what is no number."""
    if isinstance(document, Mapping):
        return {key: plain(value) for key, value in document.items()}
    return None if _is_bad(document) else document


def has_bad_number(report: Report) -> bool:
    """Return whether a potential gave something that is not finite."""
    return any(_is_bad(value) for value in report.values())


def _is_bad(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def embedding_table(embeddings: Mapping[str, Embedding]) -> Table:
    """Return how far apart each model keeps the species."""
    heads = ("model", "sites", "species", "separation", "1st axis", "2nd axis")
    rows = []
    for name, one in embeddings.items():
        species = " ".join(sorted({str(label) for label in one.species}))
        shares = [f"{100 * share:.0f} %" for share in one.shares]
        rows.append([name, str(len(one.species)), species, f"{one.separation:.3g}", *shares])
    return make_table(heads, rows, texts=("model", "species"))


def embedding_document(embedding: Embedding) -> dict[str, Any]:
    """Return an embedding as JSON has it."""
    rows = zip(embedding.points.tolist(), embedding.species, embedding.structures, strict=True)
    return {
        "separation": embedding.separation,
        "variance_shares": list(embedding.shares),
        "sites": [
            {"species": str(species), "structure": structure, "x": x, "y": y}
            for (x, y), species, structure in rows
        ],
    }


def listed_table(rows: Sequence[Listed]) -> Table:
    """Return names with whether they can be used here, and what brings them."""
    heads = ("name", "here", "is", "comes with")
    cells = (
        (row.name, "yes" if row.available else "no", row.about or row.place, row.install or "-")
        for row in rows
    )
    return make_table(heads, cells, texts=heads)
