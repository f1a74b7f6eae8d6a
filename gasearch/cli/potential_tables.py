"""What the potential commands show: tables and JSON. Nothing is computed here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:  # a list of names shall not take the seconds that torch does
    from gasearch.potentials.listing import Listed
    from gasearch.training.evaluation.embedding import Embedding
    from gasearch.training.evaluation.errors import Report


def report_table(reports: Mapping[str, Report]) -> Table:
    """Return errors: a column per model, or per part of the data."""
    from gasearch.training.evaluation.errors import COLUMNS, number

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for name in reports:
        table.add_column(name, justify="right", overflow="fold")
    for key, head in {"n_frames": "frames", **COLUMNS}.items():
        table.add_row(head, *(number(report[key]) for report in reports.values()))
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
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model", overflow="fold")
    for head in ("sites", "species", "separation", "1st axis", "2nd axis"):
        table.add_column(head, justify="right")
    for name, one in embeddings.items():
        species = " ".join(sorted({str(label) for label in one.species}))
        shares = [f"{100 * share:.0f} %" for share in one.shares]
        table.add_row(name, str(len(one.species)), species, f"{one.separation:.3g}", *shares)
    return table


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
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in ("name", "here", "is", "comes with"):
        table.add_column(head, overflow="fold")
    for row in rows:
        is_here = "yes" if row.available else "no"
        table.add_row(row.name, is_here, row.about or row.place, row.install or "-")
    return table
