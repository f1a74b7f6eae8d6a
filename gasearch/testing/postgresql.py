"""A PostgreSQL server of one's own, for the tests of whatever uses a population on one."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from gasearch.store.errors import StoreError
from gasearch.store.location import ServerPlace

_DATABASE = "postgres"
_UNPRIVILEGED = "postgres"
_SETTINGS = {
    "fsync": "off",  # the tests kill processes, not the machine
    "full_page_writes": "off",
    "autovacuum": "off",
    "jit": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "log_min_messages": "warning",
}


# Ends the server and removes its folder once its standard input ends, as it does with its parent.
_WATCH = """
read -r _
pid=$(head -n 1 "$1/data/postmaster.pid") && kill -QUIT "$pid"
rm -rf "$1"
"""


class NoServerError(StoreError):
    """There is no PostgreSQL here that could be started; the text says why."""


@dataclass(frozen=True)
class TestServer:
    """A running server.

    Parameters
    ----------
    folder
        Its data and its socket.
    user
        To whom its processes belong, and its superuser.
    """

    __test__ = False

    folder: Path
    programs: Path
    port: int
    user: str

    @property
    def url(self) -> str:
        """For connections through the loopback interface."""
        return f"postgresql+psycopg://{self.user}@127.0.0.1:{self.port}/{_DATABASE}"

    @property
    def socket_url(self) -> str:
        """For connections through the Unix socket."""
        where = f"host={self.folder}&port={self.port}"
        return f"postgresql+psycopg://{self.user}@/{_DATABASE}?{where}"

    def place(self) -> ServerPlace:
        """Return a schema that nobody has used yet."""
        return ServerPlace(self.url, f"test_{uuid4().hex[:12]}")

    def control(self, *arguments: str) -> None:
        """Run pg_ctl, such as ("restart", "-m", "immediate"), and wait for it."""
        log = str(self.folder / "log")
        data = str(self.folder / "data")
        command = [str(self.programs / "pg_ctl"), "-D", data, "-w", "-s", "-l", log, *arguments]
        _run(self.user, command)

    def sql(self, statement: str) -> str:
        """Run a statement by psql; return what it prints, without heads."""
        options = ["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder)]
        command = [str(self.programs / "psql"), *options, "-p", str(self.port), "-d", _DATABASE]
        return _run(self.user, [*command, "-c", statement]).strip()


@contextmanager
def test_server() -> Iterator[TestServer]:
    """Make and start a server, and end and remove it; raises `NoServerError` where there is none.

    It ends with this process, however that dies. PostgreSQL refuses to run as root: there, its
    processes belong to the user "postgres".
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="gasearch-postgresql-"))
    watch = subprocess.Popen(
        ["sh", "-c", _WATCH, "sh", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        server = TestServer(folder, programs, _free_port(), _owner())
        shutil.chown(folder, server.user)
        data = str(folder / "data")
        _run(
            server.user,
            [str(programs / "initdb"), "-D", data, "-N", "-A", "trust", "-E", "UTF8", "--locale=C"],
        )
        settings = _SETTINGS | {
            "port": str(server.port),
            "listen_addresses": "'127.0.0.1'",
            "unix_socket_directories": f"'{folder}'",
        }
        with (folder / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())
        server.control("start")
        try:
            yield server
        finally:
            server.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        watch.communicate()


test_server.__test__ = False  # type: ignore[attr-defined]


def _programs() -> Path:
    """Return the folder of initdb, newest version first where Debian keeps several."""
    named = shutil.which("initdb")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    for folder in [*installed, *([Path(named).resolve().parent] if named else [])]:
        if all((folder / name).exists() for name in ("initdb", "pg_ctl", "psql")):
            return folder
    raise NoServerError("PostgreSQL is not installed")


def _version(folder: Path) -> float:
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0.0


def _owner() -> str:
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid()).pw_name
    try:
        pwd.getpwnam(_UNPRIVILEGED)
    except KeyError as error:
        raise NoServerError(f"root may not start it, and no user is {_UNPRIVILEGED!r}") from error
    return _UNPRIVILEGED


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(user: str, command: Sequence[str]) -> str:
    as_user = ["runuser", "-u", user, "--"] if os.getuid() == 0 else []
    done = subprocess.run(
        [*as_user, *command],
        cwd="/",
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        raise NoServerError(f"{Path(command[0]).name} failed: {done.stderr.strip()}")
    return done.stdout
