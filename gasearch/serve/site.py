"""What the page asks for, and what it gets: without sockets, so that it can be tried directly."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any

from gasearch import __version__
from gasearch.errors import GasearchError
from gasearch.report.page import plotly_script
from gasearch.serve.candidate import candidate_document
from gasearch.serve.document import section_documents
from gasearch.serve.overview import run_document
from gasearch.serve.panels import panels
from gasearch.serve.watching import Watcher

_HTML, _JSON = "text/html; charset=utf-8", "application/json"
_SCRIPT, _STYLE = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
_MOST_KEPT = 32
_LONGEST_LEVEL = 300


@dataclass(frozen=True)
class Answer:
    """An answer to a request.

    Parameters
    ----------
    etag
        Another one whenever the body is another one; "" where that is not known.
    """

    body: bytes
    kind: str = _JSON
    status: int = 200
    etag: str = ""

    @cached_property
    def packed(self) -> bytes:
        """The body, compressed."""
        return gzip.compress(self.body, 5)


@dataclass(frozen=True)
class Site:
    """The page and its data.

    Parameters
    ----------
    watcher
        Of the runs that are shown.
    files
        By path, as `page_files` returns them.
    """

    watcher: Watcher
    files: Mapping[str, Answer]
    _kept: dict[Any, Answer] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, query: Mapping[str, Sequence[str]]) -> Answer:
        """Return what lies at a path, such as "api/run" with {"n": ["0"]}."""
        asked = {name: values[-1] for name, values in query.items()}
        try:
            if path == "api/runs":
                return self._runs()
            if path == "api/run":
                return self._run(asked)
            if path == "api/candidate":
                return self._candidate(asked)
        except GasearchError as error:
            return _json({"error": str(error)}, status=404)
        except (KeyError, ValueError, OverflowError):
            return _json({"error": "this page does not ask so; load it again"}, status=400)
        return self._file(path)

    def _runs(self) -> Answer:
        """Return where all runs stand, and have them looked at again for the next time."""
        self.watcher.ask()
        runs = [run_document(run, n) for n, run in enumerate(self.watcher.runs)]
        document = {"version": __version__, "now_s": time.time(), "runs": runs}
        return _json(document | {"every_s": self.watcher.every_s})

    def _run(self, asked: Mapping[str, str]) -> Answer:
        """Return the sections of a run; what was computed for a moment is kept."""
        number = int(asked["n"])
        moment = self.watcher.runs[_place(number, len(self.watcher.runs))].moment
        x = float(asked["x"]) if asked.get("x") else None
        key = number, moment.version, x
        with self._lock:
            if key not in self._kept:
                sections = section_documents(panels(moment, x))
                document = {"version": moment.version, "sections": sections}
                self._forget_old(number, moment.version)
                self._kept[key] = _json(document, etag=f"{number}-{moment.version}-{x}")
            return self._kept[key]

    def _forget_old(self, number: int, version: int) -> None:
        for key in [key for key in self._kept if key[0] == number and key[1] != version]:
            del self._kept[key]
        while len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]

    def _candidate(self, asked: Mapping[str, str]) -> Answer:
        runs = self.watcher.runs
        run = runs[_place(int(asked["n"]), len(runs))]
        level = asked.get("level", "")[:_LONGEST_LEVEL] or None
        document = candidate_document(run, int(asked["id"]), level)
        return _json(document | {"sections": section_documents(document["sections"])})

    def _file(self, path: str) -> Answer:
        return self.files.get(path) or _json({"error": "nothing here"}, status=404)


def _place(number: int, n: int) -> int:
    if not 0 <= number < n:
        raise ValueError(number)
    return number


def _json(document: object, status: int = 200, etag: str = "") -> Answer:
    text = json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Answer(text.encode(), status=status, etag=etag)


def page_files() -> dict[str, Answer]:
    """Return the page with its scripts; all of them come from here, none from a network.

    Raises
    ------
    NoPlotlyError
        Without the package whose javascript draws the figures.
    """
    texts = {
        "": (
            _own("live.html").replace(
                "%%VIEWER%%", _shared("viewer.html").replace("%%OPTIONS%%", "")
            ),
            _HTML,
        ),
        "live.js": (_own("live.js"), _SCRIPT),
        "viewer.js": (_shared("viewer.js"), _SCRIPT),
        "plotly.js": (plotly_script(), _SCRIPT),
        "style.css": (_shared("style.css") + _own("live.css"), _STYLE),
    }
    found = {}
    for path, (text, kind) in texts.items():
        body = text.encode()
        found[path] = Answer(body, kind, etag=hashlib.sha256(body).hexdigest()[:16])
    for one in found.values():
        _ = one.packed  # once and before anybody waits for it
    return found


def _own(name: str) -> str:
    return files("gasearch.serve").joinpath(name).read_text(encoding="utf-8")


def _shared(name: str) -> str:
    return files("gasearch.report").joinpath(name).read_text(encoding="utf-8")
