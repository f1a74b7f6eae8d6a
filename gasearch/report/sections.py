"""What a report is made of: sections of text, tables and charts, as plain data."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from gasearch.display.plotting import BLUE, COLOURS, GREEN, MARKERS, ORANGE, PURPLE, SKY, VERMILION
from gasearch.errors import GasearchError

T = TypeVar("T")
Kind = Literal["points", "line", "steps", "bars"]
SPECIES_COLOURS = {"Fe2+": BLUE, "Fe3+": ORANGE}
_LONGEST_NAME = 100
_OTHERS = (GREEN, PURPLE, SKY, VERMILION)


class NothingToReportError(GasearchError, LookupError):
    """Run folders without anything to show."""

    def __str__(self) -> str:
        return "nothing to report: name at least one run folder."


@dataclass(frozen=True)
class Series:
    """One set of data of a chart.

    Parameters
    ----------
    x, y
        (n,) numbers; x may be names, in a chart of bars.
    texts
        (n,) what is shown of each point under the pointer, or ().
    targets
        (n,) keys of structures that a click shows, or (); None for a point without one.
    name
        In the legend; "" for none.
    hovers
        Whether it answers to the pointer; what lies under points that do must not.
    """

    x: Sequence[float | str]
    y: Sequence[float]
    kind: Kind = "points"
    name: str = ""
    colour: str = BLUE
    symbol: str = "o"
    texts: Sequence[str] = ()
    targets: Sequence[str | None] = ()
    dash: bool = False
    opacity: float = 1.0
    width: float = 1.5
    size: float = 7.0
    filled: bool = True
    hovers: bool = True


@dataclass(frozen=True)
class Band:
    """A shaded range of one axis; a line where both ends are equal."""

    axis: Literal["x", "y"]
    low: float
    high: float
    name: str


@dataclass(frozen=True)
class Chart:
    """A figure with one pair of axes.

    Parameters
    ----------
    name
        Of its file, without an ending; no two of a report are alike.
    bar_width
        In the units of x; None where the bars are named.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    bands: Sequence[Band] = ()
    stacked: bool = False
    log_y: bool = False
    equal_axes: bool = False
    whole_x: bool = False
    bar_width: float | None = None
    show_y_ticks: bool = True
    height: int = 380


@dataclass(frozen=True)
class Cell:
    """A cell of a table that a click turns into a structure on show."""

    text: str
    target: str | None = None


@dataclass(frozen=True)
class Table:
    """Rows under names; numbers come as text, with their digits chosen."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph; a warning stands out."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class StructureView:
    """Structures that can be turned, as `gasearch.report.chapters.structures` makes them."""

    structures: Sequence[dict[str, Any]]


Block = Text | Table | Chart | StructureView


@dataclass(frozen=True)
class Section:
    """A chapter of a report.

    Parameters
    ----------
    key
        Its anchor.
    blocks
        In their order; a section without data has one text, which says why.
    numbers
        What it adds to the numbers of the report, as the commands print them.
    """

    key: str
    title: str
    blocks: Sequence[Block]
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def charts(self) -> list[Chart]:
        """Its figures."""
        return [block for block in self.blocks if isinstance(block, Chart)]


def species_colour(species: str, n: int = 0) -> str:
    """Return the colour of a species; n chooses one for those without their own."""
    return SPECIES_COLOURS.get(species, _OTHERS[n % len(_OTHERS)])


def styled(items: Iterable[T]) -> Iterator[tuple[T, str, str]]:
    """Yield each item with a colour and a marker, which repeat after all were used."""
    styles = itertools.cycle(COLOURS), itertools.cycle(MARKERS)
    yield from zip(items, *styles, strict=False)


def file_name(*parts: str) -> str:
    """Return the name of a figure, of letters, digits and hyphens; the last of long ones."""
    text = "-".join(parts[1:]).lower()
    rest = "-".join("".join(c if c.isalnum() else " " for c in text).split())
    return f"{parts[0]}-{rest[-_LONGEST_NAME:].lstrip('-')}"
