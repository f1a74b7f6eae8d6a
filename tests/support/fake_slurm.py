"""A scheduler for tests: sbatch, squeue, scancel and sacct, whose jobs are local processes.

FAKE_SLURM names its folder: `plan` there says what goes wrong, one word for each call, as
{"sbatch": ["error", "lose"]}: "error" answers as a scheduler that is down, "lose" takes a job and
forgets it.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ["FAKE_SLURM"])
JOBS = ROOT / "jobs"


def next_word(name):
    path = ROOT / "plan"
    plan = json.loads(path.read_text()) if path.exists() else {}
    words = plan.get(name, [])
    word = words.pop(0) if words else ""
    path.write_text(json.dumps(plan))
    return word


def sbatch(arguments, word):
    number = str(len(list(JOBS.glob("*.script"))) + 1000)
    script = Path(arguments[-1])
    (JOBS / f"{number}.script").write_text(script.read_text())
    if word != "lose":
        options = dict(
            line.removeprefix("#SBATCH --").split("=", 1)
            for line in script.read_text().splitlines()
            if line.startswith("#SBATCH --") and "=" in line
        )
        output, errors = Path(options["output"]), Path(options["error"])
        with output.open("ab") as out, errors.open("ab") as error:
            job = subprocess.Popen(
                ["/bin/bash", str(script)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=error,
                start_new_session=True,
            )
        (JOBS / f"{number}.pid").write_text(str(job.pid))
    print(f"Submitted batch job {number}")


def is_running(number):
    try:
        pid = int((JOBS / f"{number}.pid").read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return False
    return state not in "ZX"


def squeue(arguments, word):
    asked = arguments[arguments.index("--job") + 1].split(",")
    for number in asked:
        if is_running(number):
            print(number, "R")


def scancel(arguments, word):
    for number in arguments:
        if is_running(number):
            os.killpg(int((JOBS / f"{number}.pid").read_text()), signal.SIGTERM)


def main(name, arguments):
    if name == "sacct":
        print("Slurm accounting storage is disabled", file=sys.stderr)
        return 1
    JOBS.mkdir(exist_ok=True)
    with (ROOT / "calls").open("a") as calls:
        fcntl.flock(calls, fcntl.LOCK_EX)
        calls.write(f"{name} {' '.join(arguments)}\n")
        calls.flush()
        word = next_word(name)
        if word == "error":
            print(f"{name}: error: Unable to contact slurm controller", file=sys.stderr)
            return 1
        {"sbatch": sbatch, "squeue": squeue, "scancel": scancel}[name](arguments, word)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
