"""HTTP for the live page: on 127.0.0.1 alone, for reading alone, for this page alone.

Of the standard library: the page is one person's, and asks for a few documents now and then. A
secret in the address keeps other users of the machine out. A request that was sent by a page of
another origin, or under another name of this machine, is refused, so that no web page of a stranger
can read what is shown here.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from gasearch.errors import GasearchError, UsageError
from gasearch.run.folder import NoRunError, RunFolder
from gasearch.serve.site import Answer, Site, page_files
from gasearch.serve.watching import LiveRun, Watcher

ADDRESS = "127.0.0.1"
PORT = 8427
_LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}
_WORTH_PACKING = 2_000  # bytes


class PortInUseError(GasearchError, OSError):
    """A port on which the server cannot listen."""

    def __init__(self, port: int, cause: str) -> None:
        super().__init__(port, cause)
        self.port = port
        self.cause = cause

    def __str__(self) -> str:
        return (
            f"cannot listen on {ADDRESS}:{self.port} ({self.cause}): choose another port with "
            "--port, or any that is free with --port 0."
        )


class LiveServer(ThreadingHTTPServer):
    """The server of a site.

    Parameters
    ----------
    port
        0 for any that is free.
    secret
        The first part of all paths.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, site: Site, port: int, secret: str) -> None:
        self.site = site
        self.secret = secret
        try:
            super().__init__((ADDRESS, port), Handler)
        except OverflowError as error:
            raise UsageError(f"--port {port}: expected 0 to 65535.") from error
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise PortInUseError(port, error.strerror or str(error)) from error
            raise

    @property
    def address(self) -> str:
        """What is typed into a browser."""
        return f"http://{ADDRESS}:{self.server_port}/{self.secret}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Let a browser go that has gone."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request after another of a browser."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "gasearch", ""
    timeout: ClassVar[float] = 60.0  # of a connection on which nothing is asked
    server: LiveServer

    def do_GET(self) -> None:
        """Answer with a body."""
        self._send(self._answer(), has_body=True)

    def do_HEAD(self) -> None:
        """Answer without one."""
        self._send(self._answer(), has_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- theirs
        """Keep the terminal quiet."""

    def _answer(self) -> Answer:
        refusal = refusal_of(self.headers)
        if refusal:
            return _plain(refusal, HTTPStatus.FORBIDDEN)
        parts = urlsplit(self.path)
        secret, _, path = parts.path.removeprefix("/").partition("/")
        if not secrets.compare_digest(secret.encode(), self.server.secret.encode()):
            text = "Not this address: use the one that gasearch serve printed when it was started."
            return _plain(text, HTTPStatus.NOT_FOUND)
        try:
            return self.server.site.answer(path, parse_qs(parts.query, max_num_fields=8))
        except ValueError:  # too many fields
            return _plain("Not a question of this page.", HTTPStatus.BAD_REQUEST)

    def _send(self, answer: Answer, *, has_body: bool) -> None:
        etag = f'"{answer.etag}"' if answer.etag else ""
        if etag and self.headers.get("If-None-Match") == etag:
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self._send_headers(etag, 0)
            return
        is_packed = len(answer.body) > _WORTH_PACKING and "gzip" in self.headers.get(
            "Accept-Encoding", ""
        )
        body = answer.packed if is_packed else answer.body
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        if is_packed:
            self.send_header("Content-Encoding", "gzip")
        self._send_headers(etag, len(body))
        if has_body:
            self.wfile.write(body)

    def _send_headers(self, etag: str, n_bytes: int) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if etag:
            self.send_header("ETag", etag)
        self.send_header("Content-Length", str(n_bytes))
        self.end_headers()


def refusal_of(headers: object) -> str:
    """Return why a request is refused, or "".

    The host may have any port, as one has that an ssh tunnel forwards.

    Parameters
    ----------
    headers
        With a method `get`.
    """
    get = headers.get  # type: ignore[attr-defined]
    host, origin = get("Host", ""), get("Origin")
    if _name(f"http://{host}") not in _LOCAL_NAMES:
        return "Refused: this page is asked for as 127.0.0.1 or localhost, by no other name."
    if origin is not None and origin.partition("://")[2] != host:
        return "Refused: another page asked for this."
    if get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return "Refused: another site asked for this."
    return ""


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _plain(text: str, status: HTTPStatus) -> Answer:
    return Answer(text.encode(), "text/plain; charset=utf-8", status)


def open_server(folders: Sequence[Path], port: int, every_s: float) -> tuple[LiveServer, Watcher]:
    """Return a server that listens, and what watches its runs, which is started.

    Raises
    ------
    UsageError
        Where a folder holds no run; one that was not started yet is waited for.
    """
    runs = [LiveRun(_folder(folder)) for folder in folders]
    names = [run.folder.path.resolve() for run in runs]
    for run, name in zip(runs, names, strict=True):
        if names.count(name) > 1:
            raise UsageError(f"{run.name} is named twice: name each run once.")
    watcher = Watcher(runs, every_s)
    server = LiveServer(Site(watcher, page_files()), port, secrets.token_urlsafe(16))
    watcher.start()
    return server, watcher


def _folder(path: Path) -> RunFolder:
    folder = RunFolder(path)
    if not path.is_dir() or not (folder.run_file.exists() or folder.is_started):
        folder.open_store().close()  # says what is missing
        raise NoRunError(f"{path} holds no run.")
    return folder
