"""Stands for an interpreter with GPAW: `fake_gpaw.py gpaw_job.py`, in a job's folder.

It does what `behaviour.json` in the run folder says for this attempt of this job, the last
entry for all further ones: "done", "scf", "steps", "error", "killed" (while it writes),
"hang", "lost": done, with a charge order that is delocalised, or "slow": done, after seconds in
which it holds the lock of the folder as `gpaw_job.py` does.
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


def write_result(values):
    import ase.io
    import numpy as np
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = ase.io.read("start.traj")
    charges = atoms.get_initial_charges()
    moments = [
        values[round(q)] if e == "Fe" else 0 for e, q in zip(atoms.symbols, charges, strict=True)
    ]
    frame = atoms.copy()
    forces = np.full((len(atoms), 3), 0.01)
    frame.calc = SinglePointCalculator(frame, energy=-170.0, forces=forces, magmoms=moments)
    ase.io.write("result.traj", frame)


def main():
    if sys.argv[1] == "-c":
        print("25.7.0")
        return 0
    job = json.loads(Path("job.json").read_text())
    behaviour = json.loads(Path("../../behaviour.json").read_text())
    what = behaviour[min(job["attempt"], len(behaviour)) - 1]
    with Path("../../starts.txt").open("a") as file:
        file.write(f"{Path.cwd().name.split('-')[0]} {job['rung']} {job['mixer'][0]} {what}\n")
    progress = {"stage": "relax", "step": 0, "energy_eV": -1.0, "fmax": 0.5, "wall_s": 0.1}
    Path("progress.json").write_text(json.dumps(progress))
    if what == "hang":
        time.sleep(600)
    if what == "killed":
        Path("result.traj").write_bytes(b"- of UlmASE-Traj")
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "slow":
        lock = Path(".computing").open("a")  # noqa: SIM115 -- until the process ends
        fcntl.flock(lock, fcntl.LOCK_EX)
        time.sleep(float(os.environ.get("FAKE_GPAW_S", "3")))
        what = "done"
    outcome = {"end": what, "reason": f"a fake {what}", "n_steps": 0, "wall_s": 1.0}
    if what in ("done", "lost"):
        write_result(MOMENTS if what == "done" else LOST)
        outcome["end"] = "done"
    Path("outcome.json").write_text(json.dumps(outcome | {"attempt": job["attempt"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
