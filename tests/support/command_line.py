"""The command line as tests call it: in this process, or in one of its own."""

import json
import subprocess
import sys

import pytest

from gasearch.cli import app as cli


class Told:
    """What a command answered."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    @property
    def json(self):
        """The one document on stdout."""
        return json.loads(self.out)

    @property
    def line(self):
        """The one line that a user gets for an error, and nothing besides."""
        assert not self.out
        return self.error

    @property
    def error(self):
        """The one line on stderr."""
        (line,) = self.err.splitlines()
        assert line.startswith("gasearch: ")
        assert "Traceback" not in line
        return line


def told_here(monkeypatch, capsys, words):
    """Run the command line in this process."""
    monkeypatch.setattr(sys, "argv", ["gasearch", *map(str, words)])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    captured = capsys.readouterr()
    return Told(ending.value.code, captured.out, captured.err)


def told_by(command, **keywords):
    """Run a command in a process of its own."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **keywords)
    return Told(done.returncode, done.stdout, done.stderr)
