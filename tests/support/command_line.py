"""The command line as tests call it: in this process, or in one of its own."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from gasearch.cli import app as cli


class Answer:
    """What a command printed, and its exit status."""

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


def run_here(*words):
    """Run the command line in this process."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["gasearch", *map(str, words)]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ending:
            cli.main()
    finally:
        sys.argv = before
    return Answer(ending.value.code, out.getvalue(), err.getvalue())


def run_process(command, **keywords):
    """Run a command in a process of its own."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **keywords)
    return Answer(done.returncode, done.stdout, done.stderr)
