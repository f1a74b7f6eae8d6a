"""Runs a search and kills it with SIGKILL at chosen commits; used by test_search_faults.py.

usage: kill_driver.py FOLDER ...   for each folder, a JSON list of kill points is read from
FOLDER/kills.json: [n, "before" | "after"] kills the process at its n-th commit. The attempt that is
not killed, at the latest that after the last kill, is the last and has to end the search. Each
attempt is a forked child, so that imports are paid once.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)

from sqlalchemy import event  # noqa: E402
from sqlalchemy.engine import Engine  # noqa: E402

import gasearch.potentials.registry  # noqa: E402
import gasearch.relax.batched.relaxer  # noqa: E402, F401
from gasearch.run.folder import RunFolder  # noqa: E402
from gasearch.search.session import Session  # noqa: E402


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def arm(number, moment):
    """Die before or after the n-th commit of a changing transaction."""
    count = 0

    def executed(connection, cursor, statement, parameters, context, many):
        if statement.strip().startswith(("BEGIN IMMEDIATE", "SELECT pg_advisory_xact_lock")):
            connection.info["writes"] = True

    def before(connection):
        nonlocal count
        if connection.info.pop("writes", False):
            count += 1
            if count == number and moment == "before":
                die()
            if count == number + 1 and moment == "after":
                die()  # the one before it was acknowledged, nothing was committed since

    event.listen(Engine, "before_cursor_execute", executed)
    event.listen(Engine, "commit", before)


def attempt(folder, kill):
    child = os.fork()
    if child == 0:
        if kill is not None:
            arm(*kill)
        try:
            ending = Session(RunFolder(folder)).run()
        except BaseException as error:  # noqa: BLE001 -- a child must not return into the loop
            print(f"{folder}: {type(error).__name__}: {error}", file=sys.stderr)
            os._exit(3)
        os._exit(0 if ending in ("budget", "exhausted") else 4)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def attempts(folder, kills):
    """Return the exit codes of attempts until one ends by itself."""
    codes = []
    for kill in kills:
        codes.append(attempt(folder, kill))
        if codes[-1] != -signal.SIGKILL:
            break
    return codes


def main():
    report = {}
    for name in sys.argv[1:]:
        folder = Path(name)
        kills = json.loads((folder / "kills.json").read_text())
        report[name] = attempts(folder, [*kills, None])
    print(json.dumps(report))


if __name__ == "__main__":
    main()
