"""Compute one DFT job with GPAW. `gasearch dft run` starts a copy of this file in the job's folder.

    python gpaw_job.py          in the folder, with job.json and start.traj

It needs GPAW and ASE alone, so a folder can be computed on another machine, under MPI too. It goes
on from relax.traj where there is one. What it leaves: progress.json while it runs; result.traj,
and last of all outcome.json, each complete or not there.
"""

from __future__ import annotations

import fcntl
import importlib
import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ALREADY_RUNNING = 3
_STRETCH = 4  # by which the smearing rung broadens the occupations, to begin with
_SURROGATE_FMAX = 0.15  # eV/Å; the true species relax the rest
_SURROGATE_STEPS = 20


class _NotConvergedError(Exception):
    """Electrons or geometry that do not converge; `end` says which."""

    def __init__(self, end: str, reason: str) -> None:
        super().__init__(end, reason)
        self.end = end
        self.reason = reason


def main() -> int:
    """Compute the job of the current folder, and return the exit status."""
    world = _gpaw("gpaw.mpi").world
    is_first = world.rank == 0
    start_s = time.time()
    job = json.loads(Path("job.json").read_text(encoding="utf-8"))
    if is_first:
        file = os.open(".computing", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return ALREADY_RUNNING
        for name in ("outcome.json", "progress.json"):
            Path(name).unlink(missing_ok=True)
    world.barrier()
    try:
        told = _compute(job, start_s, is_first)
    except _NotConvergedError as error:
        told = {"end": error.end, "reason": error.reason}
    except Exception as error:  # noqa: BLE001 -- told to whoever started this process
        import traceback

        traceback.print_exc()
        told = {"end": "error", "reason": f"{type(error).__name__}: {error}"[:500]}
    told |= {"wall_s": time.time() - start_s, "versions": _versions(), "attempt": job["attempt"]}
    if is_first:
        _replace("outcome.json", json.dumps(told, indent=2))
    return 0 if told["end"] == "done" else 1


def _compute(job: dict[str, Any], start_s: float, is_first: bool) -> dict[str, Any]:
    from ase.io import read

    atoms: Any = read("start.traj")
    if job["rung"] == "surrogate":
        atoms.positions = _surrogate_positions(job, atoms, start_s, is_first)
    newest = _last_frame("relax.traj")
    if job["task"] == "relax" and newest is not None and len(newest) == len(atoms):
        atoms.positions = newest.positions
    atoms.set_initial_magnetic_moments(job["moments"])
    atoms.calc = _calculator(job, spinpol=True)
    if job["rung"] == "smearing":
        _begin_broad(job, atoms)
    task = job if job["task"] == "relax" else {**job, "max_steps": 0, "fmax": float("inf")}
    n_steps = _relax(atoms, task, "relax", start_s, is_first)
    if is_first:
        _write_frames("result.traj", [_frozen(atoms)])
    return {"end": "done", "reason": "", "n_steps": n_steps}


def _relax(atoms: Any, task: dict[str, Any], name: str, start_s: float, is_first: bool) -> int:
    """Relax at fixed cell; each step is appended to a trajectory. Return how many there were."""
    import numpy as np
    from ase.io import Trajectory
    from ase.optimize import BFGS

    memory = _readable_json(f"{name}.bfgs.json") if task["max_steps"] else None
    optimizer = BFGS(atoms, logfile=None, restart=memory, maxstep=task["max_step_length"])
    n_steps, fmax = 0, float("inf")
    try:
        for n_steps, _ in enumerate(optimizer.irun(fmax=task["fmax"], steps=task["max_steps"])):
            frame = _frozen(atoms)
            fmax = float(np.linalg.norm(frame.get_forces(), axis=1).max())
            energy = frame.get_potential_energy()
            if is_first:
                last = _last_frame(f"{name}.traj")
                if last is None or not np.array_equal(last.positions, frame.positions):
                    with Trajectory(f"{name}.traj", "a") as trajectory:
                        trajectory.write(frame)
                told = {"stage": name, "step": n_steps, "energy_eV": energy, "fmax": fmax}
                _replace("progress.json", json.dumps(told | {"wall_s": time.time() - start_s}))
    except _convergence_error() as error:
        reason = f"the electrons did not converge in {task['max_scf']} iterations"
        raise _NotConvergedError("scf", f"{reason} ({name}, step {n_steps})") from error
    if fmax > task["fmax"]:
        reason = f"the largest force is {fmax:.3f} eV/Å after {n_steps} steps, not {task['fmax']:g}"
        raise _NotConvergedError("steps", reason)
    return n_steps


def _surrogate_positions(job: dict[str, Any], atoms: Any, start_s: float, is_first: bool) -> Any:
    """Return positions relaxed with surrogate elements, such as Ga in place of Fe3+."""
    before = Path("relax-before-surrogate.traj")
    if is_first and Path("relax.traj").exists() and not before.exists():
        Path("relax.traj").rename(before)
        Path("relax.bfgs.json").unlink(missing_ok=True)
    _gpaw("gpaw.mpi").world.barrier()
    stand_in = atoms.copy()
    for index, element in job["surrogates"].items():
        stand_in.symbols[int(index)] = element
    stand_in.set_initial_magnetic_moments(job["surrogate_moments"])
    newest = _last_frame("surrogate.traj")
    if newest is not None:
        stand_in.positions = newest.positions
    stand_in.calc = _calculator(job, spinpol=any(job["surrogate_moments"]))
    task = {**job, "fmax": _SURROGATE_FMAX, "max_steps": _SURROGATE_STEPS}
    try:
        _relax(stand_in, task, "surrogate", start_s, is_first)
    except _NotConvergedError as error:
        if error.end != "steps":
            raise
    return stand_in.positions


def _calculator(job: dict[str, Any], spinpol: bool) -> Any:
    gpaw = _gpaw()
    beta, history, weight = job["mixer"]
    return gpaw.GPAW(
        mode=gpaw.PW(job["cutoff_eV"]),
        xc=job["xc"],
        kpts=job["kpoints"],
        spinpol=spinpol,
        setups={e: f":{orbital},{u}" for e, (orbital, u) in job["hubbard"].items()},
        occupations=_occupations(job["smearing_eV"]),
        symmetry={"point_group": False},
        maxiter=job["max_scf"],
        convergence=job["convergence"],
        mixer=gpaw.MixerDif(beta, history, weight),
        txt=f"gpaw-{job['attempt']}.txt",
    )


def _occupations(width_eV: float) -> Any:
    return _gpaw().FermiDirac(width_eV, fixmagmom=True)


def _begin_broad(job: dict[str, Any], atoms: Any) -> None:
    """Converge roughly with broad occupations; the density stays, the level does not change."""
    atoms.calc.set(
        occupations=_occupations(_STRETCH * job["smearing_eV"]),
        convergence={"energy": 1e-3, "density": 3e-3, "eigenstates": 1e-4},
    )
    try:
        atoms.get_potential_energy()
    except _convergence_error() as error:
        reason = "the electrons did not converge even with broad occupations"
        raise _NotConvergedError("scf", reason) from error
    atoms.calc.set(occupations=_occupations(job["smearing_eV"]), convergence=job["convergence"])


def _convergence_error() -> type[Exception]:
    found: type[Exception] = _gpaw().KohnShamConvergenceError
    return found


def _gpaw(name: str = "gpaw") -> Any:
    return importlib.import_module(name)


def _frozen(atoms: Any) -> Any:
    """Return a copy with the results of this moment and no calculator of a code."""
    from ase.calculators.singlepoint import SinglePointCalculator

    copy = atoms.copy()
    copy.calc = SinglePointCalculator(
        copy,
        energy=float(atoms.get_potential_energy()),
        forces=atoms.get_forces().copy(),
        magmoms=atoms.get_magnetic_moments().copy(),
        magmom=float(atoms.get_magnetic_moment()),
    )
    return copy


def _last_frame(name: str) -> Any:
    """Return the last whole frame of a trajectory, or None."""
    from ase.io import Trajectory

    try:
        with Trajectory(name) as trajectory:
            return trajectory[-1] if len(trajectory) else None
    except Exception:  # noqa: BLE001 -- of a process that was killed while it wrote
        return None


def _readable_json(name: str) -> str:
    """Return a restart file's name, after removing one that was cut off."""
    try:
        json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        Path(name).unlink(missing_ok=True)
    return name


def _write_frames(name: str, frames: list[Any]) -> None:
    from ase.io import write

    write(f".{name}", frames, format="traj")
    Path(f".{name}").replace(name)


def _replace(name: str, text: str) -> None:
    partial = Path(f".{name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(name)


def _versions() -> dict[str, str]:
    found = {}
    for name in ("gpaw", "gpaw-data", "ase", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
