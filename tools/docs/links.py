"""Links between pages of the documentation and other files of the repository.

A page names a file as it lies in the repository, so that the link works where the repository is
looked at. On the site `docs/` is the root, and everything else lies under `repository/`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

OUTSIDE = "repository/"
_DOCS = "docs/"
_FENCED = re.compile(r"^(`{3,}).*?^\1`*\s*$", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")


def in_repository(uri: str) -> str:
    """Return where a file of the site lies in the repository."""
    return uri.removeprefix(OUTSIDE) if uri.startswith(OUTSIDE) else _DOCS + uri


def on_site(path: str) -> str:
    """Return where a file of the repository lies on the site."""
    return path.removeprefix(_DOCS) if path.startswith(_DOCS) else OUTSIDE + path


def outside(source: str, text: str) -> Iterator[str]:
    """Yield what a page of the site names outside `docs/`, as files of the site."""
    for match in _LINK.finditer(_FENCED.sub("", text)):
        target = _target(source, match[1])
        if target.startswith(OUTSIDE):
            yield target


def rewritten(source: str, text: str) -> str:
    """Return the text of a page with its links as they are on the site."""

    def relative(match: re.Match[str]) -> str:
        here = posixpath.dirname(source) or "."
        return posixpath.relpath(_target(source, match[1]), here) + (match[2] or "")

    parts, end = [], 0
    for block in _FENCED.finditer(text):
        parts += [_LINK.sub(relative, text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, _LINK.sub(relative, text[end:])])


def _target(source: str, link: str) -> str:
    here = posixpath.dirname(in_repository(source))
    return on_site(posixpath.normpath(posixpath.join(here, link)))
