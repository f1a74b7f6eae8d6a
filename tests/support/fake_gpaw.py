"""Stands for an interpreter with GPAW: `fake_gpaw.py gpaw_job.py`, in a job's folder.

It does what `behaviour.json` in the run folder says for this attempt of this job, the last
entry for all further ones: "done", "scf", "steps", "error", "killed" (while it writes), "lost":
done, with a charge order that is delocalised, or "slow": done, once the run folder has a file
`go_on`; until then it holds the lock of the folder as `gpaw_job.py` does.
"""

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

MOMENTS = {2: 3.66, 3: 4.29}
LOST = {2: 4.04, 3: 4.04}


def write_result(folder, values):
    import ase.io
    import numpy as np
    from ase.calculators.singlepoint import SinglePointCalculator

    frame = ase.io.read(folder / "start.traj")
    moments = [values.get(round(charge), 0.0) for charge in frame.get_initial_charges()]
    forces = np.full((len(frame), 3), 0.01)
    frame.calc = SinglePointCalculator(frame, energy=-170.0, forces=forces, magmoms=moments)
    ase.io.write(folder / "result.traj", frame)


def begin(folder):
    """Note the start of an attempt; return its job and what it shall do."""
    job = json.loads((folder / "job.json").read_text())
    behaviour = json.loads((folder / "../../behaviour.json").read_text())
    what = behaviour[min(job["attempt"], len(behaviour)) - 1]
    with (folder / "../../starts.txt").open("a") as file:
        file.write(f"{folder.name.split('-')[0]} {job['rung']} {job['mixer'][0]} {what}\n")
    progress = {"stage": "relax", "step": 0, "energy_eV": -1.0, "fmax": 0.5, "wall_s": 0.1}
    (folder / "progress.json").write_text(json.dumps(progress))
    return job, what


def end(folder, job, what):
    """Leave what an attempt leaves; return its exit status."""
    if what == "killed":
        (folder / "result.traj").write_bytes(b"- of UlmASE-Traj")
        return -signal.SIGKILL
    outcome = {"end": what, "reason": f"a fake {what}", "n_steps": 0, "wall_s": 1.0}
    if what in ("done", "lost", "slow"):
        write_result(folder, LOST if what == "lost" else MOMENTS)
        outcome["end"] = "done"
    (folder / "outcome.json").write_text(json.dumps(outcome | {"attempt": job["attempt"]}))
    return 0


def main():
    if sys.argv[1] == "-c":
        print("25.7.0")
        return 0
    folder = Path.cwd()
    job, what = begin(folder)
    if what == "slow":
        lock = (folder / ".computing").open("a")
        fcntl.flock(lock, fcntl.LOCK_EX)
        latest_s = time.monotonic() + 120
        while not (folder / "../../go_on").exists() and time.monotonic() < latest_s:
            time.sleep(0.02)
    status = end(folder, job, what)
    if status < 0:
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main())
