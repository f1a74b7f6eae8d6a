"""The pages of the documentation, README among them, and the blocks of code on them."""

import re
from dataclasses import dataclass
from pathlib import Path

from places import ROOT

README = ROOT / "README.md"
DOCS = ROOT / "docs"
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]+?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    flags=re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with the comment that stands right above it."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def name(self):
        return f"{name_of(self.page)}:{self.line}"

    @property
    def runs(self):
        return self.mark.startswith("runs")

    @property
    def commands(self):
        """The lines of a shell block without comments, as words."""
        lines = (line.partition(" #")[0].strip() for line in self.text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]


def pages():
    return [README, *sorted(DOCS.rglob("*.md"))]


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text[: match.start("text")].count("\n"),
            match["language"],
            match["mark"] or "",
            match["text"],
        )
        for match in _BLOCK.finditer(text)
    ]


def block(page, inside):
    """Return the one block of a page that has some text."""
    (found,) = [one for one in blocks(page) if inside in one.text]
    return found
