"""Compute one DFT job with GPAW. `gasearch dft run` starts a copy of this file in the job's folder.

    python gpaw_job.py          in the folder, with job.json and start.traj

It needs GPAW and ASE alone, so a folder can be computed on another machine, under MPI too. It goes
on from relax.traj where there is one. What it leaves: progress.json while it runs; result.traj,
and last of all outcome.json, each complete or not there. Where there is a samples.traj, its
geometries are computed after the job itself, one by one into samples-result.traj. orbitals.json
says which d orbitals are occupied; whatever begins from free atoms again begins with these.
basis.json says how the energy falls with the number of plane waves, by which all energies are those
of the number that a cell has on average (Francis and Payne, J. Phys.: Condens. Matter 2, 4395); it
is measured where there is none, and later jobs of a run begin with that of an earlier one.
"""

from __future__ import annotations

import fcntl
import importlib
import importlib.metadata
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

ALREADY_RUNNING = 3
_LEFT_OUT = "samples-left-out.json"
_ORBITALS = "orbitals.json"
_BASIS = "basis.json"
_LARGER_CUTOFFS = (1.01, 1.02, 1.04, 1.08, 1.16)  # one shows how the energy falls: the first with
_MORE_WAVES = 0.01  # so many more plane waves, as a logarithm
_STRETCH = 4  # by which the retry "smearing" broadens the occupations, to begin with
_SURROGATE_FMAX = 0.15  # eV/Å; the true species relax the rest
_SURROGATE_STEPS = 20
_RISE_EV = 0.02  # of the cell above its lowest energy: more than the noise of two runs
_LEAST_LENGTH = 0.01  # Å, of a step after many that were taken back
_GAIN_EV = 1e-3  # what counts as a gain in energy of the cell
_IDLE_STEPS = 6  # without one, after which a relaxation has arrived at the noise of the forces
_STALLED_FMAX = 0.15  # eV/Å, that its lowest geometry may have then
_OCCUPIED = 0.5  # electrons in an orbital of one spin: more is occupied, less is empty
_OTHERS_PER_SITE = 2  # occupations that are tried for one atom


class NotConvergedError(Exception):
    """Electrons or geometry that do not converge; `end` says which."""

    def __init__(self, end: str, reason: str) -> None:
        super().__init__(end, reason)
        self.end = end
        self.reason = reason


def main() -> int:
    """Compute the job of the current folder, and return the exit status."""
    world = load_gpaw("gpaw.mpi").world
    return carry_out(_compute, ("gpaw", "gpaw-data", "ase", "numpy"), world)


def carry_out(compute: Any, packages: Sequence[str], world: Any = None) -> int:
    """Compute the job of the current folder, with the lock that says so; return the exit status.

    Parameters
    ----------
    compute
        Returns what outcome.json says of a job that is done, from (job, start_s, is_first).
    packages
        Whose versions it says.
    world
        Of the MPI ranks; None where there are none.
    """
    is_first = world is None or world.rank == 0
    start_s = time.time()
    job = json.loads(Path("job.json").read_text(encoding="utf-8"))
    lock = os.open(".computing", os.O_RDWR | os.O_CREAT, 0o644) if is_first else -1
    if is_first:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return ALREADY_RUNNING
        for name in ("outcome.json", "progress.json"):
            Path(name).unlink(missing_ok=True)
    if world is not None:
        world.barrier()
    try:
        outcome = compute(job, start_s, is_first)
    except NotConvergedError as error:
        outcome = {"end": error.end, "reason": error.reason}
    except Exception as error:  # noqa: BLE001 -- recorded for whoever started this process
        import traceback

        traceback.print_exc()
        outcome = {"end": "error", "reason": f"{type(error).__name__}: {error}"[:500]}
    outcome |= {"wall_s": time.time() - start_s, "attempt": job["attempt"]}
    outcome["versions"] = _versions(packages)
    if is_first:
        replace("outcome.json", json.dumps(outcome, indent=2))
        os.close(lock)
    return 0 if outcome["end"] == "done" else 1


def _compute(job: dict[str, Any], start_s: float, is_first: bool) -> dict[str, Any]:
    from ase.io import read

    atoms: Any = read("start.traj")
    known = known_result()
    if known is None and job["rung"] == "surrogate":
        atoms.positions = _surrogate_positions(job, atoms, start_s, is_first)
    lowest = known or read_frame("relax.traj", lowest=True)
    if job["task"] == "relax" and lowest is not None and len(lowest) == len(atoms):
        atoms.positions = lowest.positions
    atoms.set_initial_magnetic_moments(job["moments"])
    atoms.calc = _calculator(job, spinpol=True)
    if known is None:
        known = _result(job, atoms, start_s, is_first)
    elif job["rung"] == "smearing":
        with suppress(NotConvergedError):
            _begin_broad(job, atoms)
    electrons = Electrons(_convergence_error(), lambda: _calculator(job, True, "-afresh"))
    return outcome_of(known, compute_samples(atoms, electrons, start_s, is_first))


def _result(job: dict[str, Any], atoms: Any, start_s: float, is_first: bool) -> Any:
    """Compute the job itself, write its result and return it."""
    if job["rung"] == "smearing":
        _begin_broad(job, atoms)
    if job.get("basis_correction") and not Path(_BASIS).exists():
        _measure_basis(job, atoms, is_first)
    if job.get("orbital_starts"):
        _choose_orbitals(job, atoms, start_s, is_first)
    task = job if job["task"] == "relax" else {**job, "max_steps": 0, "fmax": float("inf")}
    n_steps, frame = relax(atoms, task, "relax", start_s, is_first)
    frame.info["n_steps"] = n_steps
    if is_first:
        write_frames("result.traj", [frame])
    shells = _open_shells(atoms.calc, job)
    tried = _orbitals_file().get("tried", [])
    _keep_orbitals(_occupied(shells), frame.get_potential_energy(), tried, is_first)
    return frame


def known_result() -> Any:
    """Return the result of a job that was interrupted among its samples, or None."""
    frame = read_frame("result.traj")
    return None if frame is None or "n_steps" not in frame.info else frame


def outcome_of(result: Any, samples: dict[str, Any]) -> dict[str, Any]:
    """Return what outcome.json says of a job that is done."""
    return {"end": "done", "reason": "", "n_steps": result.info["n_steps"], **samples}


class Electrons(NamedTuple):
    """What a code does where electrons do not converge: the error, and how to begin afresh."""

    lost: type[Exception]
    afresh: Callable[[], Any]


def compute_samples(
    atoms: Any, electrons: Electrons, start_s: float, is_first: bool = True
) -> dict[str, Any]:
    """Compute the geometries of samples.traj that are not computed yet; return how many there are.

    Each goes on from the electrons of the one before, as far as the code keeps them: GPAW does in
    one cell, and begins from free atoms in another. One that cannot be computed is left out.

    Parameters
    ----------
    atoms
        With the calculator of the job, and its moments.
    """
    samples, frames = read_frames("samples.traj"), read_frames("samples-result.traj")
    left_out = json.loads(Path(_LEFT_OUT).read_text()) if Path(_LEFT_OUT).exists() else {}
    done = {*(str(frame.info["sample"]) for frame in frames), *left_out}
    for number, sample in enumerate(samples, start=1):
        if str(number) in done:
            continue
        atoms.set_cell(sample.cell)
        atoms.positions = sample.positions
        try:
            frame = frozen(atoms)
        except Exception as error:  # noqa: BLE001 -- the job itself is done, whatever a sample does
            is_lost = isinstance(error, electrons.lost)
            reason = f"{type(error).__name__}: {error}"[:300]
            left_out[str(number)] = "the electrons did not converge" if is_lost else reason
            atoms.calc = electrons.afresh()
            if is_first:
                replace(_LEFT_OUT, json.dumps(left_out))
            continue
        frame.info = {**sample.info, "sample": number}
        frames.append(frame)
        if is_first:
            write_frames("samples-result.traj", frames)
            note_progress(frame, "sample", number, start_s)
    return {"samples": {"done": len(frames), "left_out": left_out}} if samples else {}


def relax(
    atoms: Any, task: dict[str, Any], name: str, start_s: float, is_first: bool
) -> tuple[int, Any]:
    """Relax at fixed cell; return the number of steps and the frame that is the result."""
    descent = Descent(task, name, start_s, is_first)
    try:
        while descent.is_open:
            descent.go_on(atoms)
    except _convergence_error() as error:
        raise _lost(task, f"{name}, step {descent.n_calls}") from error
    if not descent.is_done:
        reason = f"the largest force is {descent.fmax:.3f} eV/Å after {task['max_steps']} steps"
        raise NotConvergedError("steps", f"{reason}, not {task['fmax']:g}")
    return descent.n_calls - 1, descent.lowest


class Descent:
    """A relaxation by BFGS that begins anew from its lowest geometry where it was misled.

    Forces of PBE+U are noisy: now and then the electrons end in another state, and what a
    quasi-Newton method learns from that leads it astray. So a step that ends much too high is taken
    back and all is forgotten, and where nothing more is gained the lowest geometry is the result.

    Parameters
    ----------
    task
        With fmax (eV/Å), max_steps and max_step_length (Å).
    name
        Of the files in which it is kept.
    """

    def __init__(self, task: dict[str, Any], name: str, start_s: float, is_first: bool) -> None:
        self._task = task
        self._name = name
        self._start_s = start_s
        self._is_first = is_first
        self._length = task["max_step_length"]
        self._n_idle = 0
        self.lowest: Any = None
        self.n_calls = 0
        self.fmax = float("inf")
        self.is_done = False

    @property
    def is_open(self) -> bool:
        """Whether to go on."""
        return not self.is_done and self.n_calls <= self._task["max_steps"]

    def go_on(self, atoms: Any) -> None:
        """Relax until it is done, was misled, or has no more steps."""
        from ase.optimize import BFGS

        memory = f"{self._name}.bfgs.json"
        restart = _readable_json(memory) if self._task["max_steps"] else None
        optimizer = BFGS(atoms, logfile=None, restart=restart, maxstep=self._length)
        for _ in optimizer.irun(fmax=1e-9, steps=self._task["max_steps"] - self.n_calls):
            frame = frozen(atoms)
            self._note(frame)
            if self.is_done:
                return
            if frame.get_potential_energy() > self.lowest.get_potential_energy() + _RISE_EV:
                break
        self._length = max(self._length / 2, _LEAST_LENGTH)
        atoms.positions = self.lowest.positions
        if self._is_first:
            Path(memory).unlink(missing_ok=True)
        load_gpaw("gpaw.mpi").world.barrier()

    def _note(self, frame: Any) -> None:
        """Keep a frame, and see whether it is the last."""
        import numpy as np

        self.n_calls += 1
        self.fmax = largest_force(frame)
        gain, is_back = float("inf"), False
        if self.lowest is not None:
            gain = self.lowest.get_potential_energy() - frame.get_potential_energy()
            is_back = np.array_equal(self.lowest.positions, frame.positions)
        self._n_idle = 0 if gain > _GAIN_EV else self._n_idle + 1
        is_converged = self.fmax <= self._task["fmax"]
        if gain > 0 or is_converged or is_back:
            self.lowest = frame
        is_stalled = self._n_idle >= _IDLE_STEPS and largest_force(self.lowest) <= _STALLED_FMAX
        self.is_done = is_converged or is_stalled
        if self._is_first:
            note_step(frame, self._name, self.n_calls - 1, self._start_s)


def note_step(frame: Any, name: str, step: int, start_s: float) -> None:
    """Add a step to the trajectory of that name, and say in progress.json where the job is."""
    import numpy as np
    from ase.io import Trajectory

    last = read_frame(f"{name}.traj")
    if last is None or not np.array_equal(last.positions, frame.positions):
        with Trajectory(f"{name}.traj", "a") as trajectory:
            trajectory.write(frame)
    note_progress(frame, name, step, start_s)


def note_progress(frame: Any, stage: str, step: int, start_s: float) -> None:
    """Say in progress.json where the job is."""
    progress = {
        "stage": stage,
        "step": step,
        "fmax": largest_force(frame),
        "energy_eV": frame.get_potential_energy(),
        "wall_s": time.time() - start_s,
    }
    replace("progress.json", json.dumps(progress))


def largest_force(frame: Any) -> float:
    """Return the largest force on an atom, in eV/Å."""
    import numpy as np

    return float(np.linalg.norm(frame.get_forces(), axis=1).max())


def _surrogate_positions(job: dict[str, Any], atoms: Any, start_s: float, is_first: bool) -> Any:
    """Return positions relaxed with surrogate elements, such as Ga in place of Fe3+."""
    before = Path("relax-before-surrogate.traj")
    if is_first and Path("relax.traj").exists() and not before.exists():
        Path("relax.traj").rename(before)
        Path("relax.bfgs.json").unlink(missing_ok=True)
    load_gpaw("gpaw.mpi").world.barrier()
    stand_in = atoms.copy()
    for index, element in job["surrogates"].items():
        stand_in.symbols[int(index)] = element
    stand_in.set_initial_magnetic_moments(job["surrogate_moments"])
    lowest = read_frame("surrogate.traj", lowest=True)
    if lowest is not None:
        stand_in.positions = lowest.positions
    stand_in.calc = _calculator(job, spinpol=any(job["surrogate_moments"]))
    task = {**job, "fmax": _SURROGATE_FMAX, "max_steps": _SURROGATE_STEPS}
    try:
        relax(stand_in, task, "surrogate", start_s, is_first)
    except NotConvergedError as error:
        if error.end != "steps":
            raise
    load_gpaw("gpaw.mpi").world.barrier()
    return read_frame("surrogate.traj", lowest=True).positions


def _calculator(
    job: dict[str, Any],
    spinpol: bool,
    label: str = "",
    orbitals: dict[str, Any] | None = None,
) -> Any:
    """Return a calculator that begins with these occupied d orbitals; None: of orbitals.json."""
    gpaw = load_gpaw()
    beta, history, weight = job["mixer"]

    class OfJob(gpaw.GPAW):  # type: ignore[misc, name-defined]
        def initialize(self, atoms: Any = None, reading: bool = False) -> None:
            super().initialize(atoms, reading)
            _begin_with(self.density, _kept_orbitals() if orbitals is None else orbitals)

        def calculate(self, atoms: Any = None, *args: Any, **keywords: Any) -> None:
            super().calculate(atoms, *args, **keywords)
            _correct_energy(self, job)

    return OfJob(
        mode=gpaw.PW(job["cutoff_eV"]),
        h=job.get("grid_spacing_A") or None,
        xc=job["xc"],
        kpts=job["kpoints"],
        spinpol=spinpol,
        setups={e: f":{orbital},{u}" for e, (orbital, u) in job["hubbard"].items()},
        occupations=_occupations(job["smearing_eV"]),
        symmetry={"point_group": False},
        maxiter=job["max_scf"],
        convergence=job["convergence"],
        mixer=gpaw.MixerDif(beta, history, weight),
        txt=f"gpaw-{job['attempt']}{label}.txt",
    )


def plane_wave_excess(cell: Any, kpoints: Sequence[Sequence[float]], cutoff_eV: float) -> float:
    """Return by how much a cell has more plane waves than on average, as a logarithm.

    Each wave that comes in at a fixed cutoff lowers the energy; their number jumps with the cell.

    Parameters
    ----------
    cell
        In Å, (3, 3).
    kpoints
        As fractions of the reciprocal vectors, all with one weight.
    """
    import numpy as np
    from ase.units import Bohr, Ha

    cell_bohr = np.asarray(cell) / Bohr
    reciprocal = 2 * np.pi * np.linalg.inv(cell_bohr).T
    longest = np.sqrt(2 * cutoff_eV / Ha)
    reach = np.ceil(longest * np.linalg.norm(cell_bohr, axis=1) / (2 * np.pi)).astype(int) + 1
    waves = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach]), axis=-1).reshape(-1, 3)
    average = abs(np.linalg.det(cell_bohr)) * longest**3 / (6 * np.pi**2)
    numbers = [
        (np.linalg.norm((waves + point) @ reciprocal, axis=1) <= longest).sum() for point in kpoints
    ]
    return float(np.mean(np.log(np.array(numbers) / average)))


def _measure_basis(job: dict[str, Any], atoms: Any, is_first: bool) -> None:
    """Compute with a slightly larger cutoff too, and write how the energy falls."""
    energy = _converged_energy(atoms, job)
    larger, waves = _with_more_waves(job, atoms)
    more = atoms.copy()
    more.calc = _calculator(larger, True, "-basis", _occupied(_open_shells(atoms.calc, job)))
    slope = (_converged_energy(more, larger) - energy) / waves
    if is_first:
        measured = {"eV_per_ln_waves": slope, "measured_for": atoms.get_chemical_formula()}
        replace(_BASIS, json.dumps(measured))
    load_gpaw("gpaw.mpi").world.barrier()
    _correct_energy(atoms.calc, job)


def _with_more_waves(job: dict[str, Any], atoms: Any) -> tuple[dict[str, Any], float]:
    """Return the job with a larger cutoff, and how many more plane waves it has (logarithm)."""
    here = _excess_of(atoms, job)
    found = []
    for factor in _LARGER_CUTOFFS:
        larger = {**job, "cutoff_eV": factor * job["cutoff_eV"]}
        found.append((larger, _excess_of(atoms, larger) - here + 1.5 * math.log(factor)))
    return next((one for one in found if one[1] > _MORE_WAVES), found[-1])


def _excess_of(atoms: Any, job: dict[str, Any]) -> float:
    return plane_wave_excess(atoms.cell.array, job["kpoints"], job["cutoff_eV"])


def _correct_energy(calculator: Any, job: dict[str, Any]) -> None:
    """Let the results of a calculator be those of the average number of plane waves."""
    from ase.units import Ha

    if not job.get("basis_correction") or not Path(_BASIS).exists():
        return
    slope = json.loads(Path(_BASIS).read_text(encoding="utf-8"))["eV_per_ln_waves"]
    found, shift = calculator.hamiltonian, slope * _excess_of(calculator.atoms, job)
    calculator.results["energy"] = float(found.e_total_extrapolated * Ha - shift)
    calculator.results["free_energy"] = float(found.e_total_free * Ha - shift)


def _choose_orbitals(job: dict[str, Any], atoms: Any, start_s: float, is_first: bool) -> None:
    """Begin with other occupied d orbitals too, and leave those of the lowest energy.

    PBE+U keeps the d orbitals that it begins with, and from free atoms it begins with any. One that
    ends with another number of electrons in some shell has another charge order and does not count.
    """
    energy, tried = _converged_energy(atoms, job), _orbitals_file().get("tried", [])
    shells, is_other = _open_shells(atoms.calc, job), False
    _keep_orbitals(_occupied(shells), energy, tried, is_first)
    for number, (keys, other) in enumerate(_other_occupations(list(shells)), start=1):
        if number <= len(tried) or number > job["orbital_starts"]:
            continue
        start = _occupied(shells) | {key: _exchanged(shells[key], other) for key in keys}
        trial = atoms.copy()
        trial.calc = _calculator(job, True, f"-orbitals-{number}", start)
        found: dict[str, Any] = {"shells": keys, "energy_eV": None}
        with suppress(_convergence_error()):
            found["energy_eV"] = trial.get_potential_energy()
            of_trial = _open_shells(trial.calc, job)
            found["same_charges"] = _n_electrons(of_trial) == _n_electrons(shells)
            if found["same_charges"] and found["energy_eV"] < energy - _GAIN_EV:
                energy, shells, is_other = found["energy_eV"], of_trial, True
            frame = frozen(trial)  # by all ranks
            if is_first:
                note_progress(frame, "occupation", number, start_s)
        tried.append(found)
        _keep_orbitals(_occupied(shells), energy, tried, is_first)
    if is_other:
        atoms.calc = _calculator(job, spinpol=True)


def _converged_energy(atoms: Any, job: dict[str, Any]) -> float:
    try:
        return float(atoms.get_potential_energy())
    except _convergence_error() as error:
        raise _lost(job, "the first geometry") from error


def _lost(task: dict[str, Any], where: str) -> NotConvergedError:
    reason = f"the electrons did not converge in {task['max_scf']} iterations ({where})"
    return NotConvergedError("scf", reason)


def _other_occupations(keys: list[str]) -> list[tuple[list[str], int]]:
    """Return what to exchange, one after another: in all open shells at once, then in each."""
    sets = [keys] if len(keys) > 1 else []
    numbers = range(_OTHERS_PER_SITE)
    return [(some, n) for some in sets for n in numbers] + [([k], n) for n in numbers for k in keys]


def _exchanged(shell: Any, number: int) -> Any:
    """Return the occupied orbitals with one of them replaced by one of the emptiest."""
    values, vectors = shell
    n_empty = int((values <= _OCCUPIED).sum())
    pairs = [(full, empty) for empty in range(n_empty) for full in range(n_empty, len(values))]
    full, empty = pairs[number]
    occupied = vectors.copy()
    occupied[full] = vectors[empty]
    return occupied[n_empty:]


def _occupied(shells: dict[str, Any]) -> dict[str, Any]:
    return {key: vectors[values > _OCCUPIED] for key, (values, vectors) in shells.items()}


def _n_electrons(shells: dict[str, Any]) -> dict[str, int]:
    return {key: len(orbitals) for key, orbitals in _occupied(shells).items()}


def _open_shells(calculator: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Return what is neither empty nor full among the d shells of one spin that have a Hubbard U.

    For each, "atom:spin", occupations in rising order (5,) and orbitals (5, 5), one per row.
    """
    import numpy as np

    hubbard, utilities = load_gpaw("gpaw.hubbard"), load_gpaw("gpaw.utilities")
    density = calculator.density
    matrices = np.zeros((len(density.setups), density.nspins, 5, 5))
    for index, packed in density.D_asp.items():
        setup = density.setups[index]
        if job["hubbard"].get(setup.symbol, " ")[0] == "d":
            for spin, one in enumerate(packed):
                full = utilities.unpack_density(one)
                found = hubbard.aoom(full, 2, setup.l_j, setup.n_j, setup.N0_q)
                matrices[index, spin] = found[0]
    density.gd.comm.sum(matrices)
    shells = {}
    for index, spin in np.ndindex(matrices.shape[:2]):
        values, vectors = np.linalg.eigh(matrices[index, spin])
        if 0 < (values > _OCCUPIED).sum() < len(values):
            shells[f"{index}:{spin}"] = (values, vectors.T)
    return shells


def _begin_with(density: Any, orbitals: dict[str, Any]) -> None:
    """Let a density that is made of free atoms have these d orbitals occupied."""
    import numpy as np

    if not orbitals or density.D_asp is not None:
        return
    utilities = load_gpaw("gpaw.utilities")
    plain = density.calculate_normalized_charges_and_mix

    def begin() -> None:
        density.calculate_normalized_charges_and_mix = plain
        for key, occupied in orbitals.items():
            index, spin = map(int, key.split(":"))
            if index in density.D_asp and spin < density.nspins:
                first = _first_d(density.setups[index])
                full = utilities.unpack_density(density.D_asp[index][spin])
                full[first : first + 5, first : first + 5] = np.transpose(occupied) @ occupied
                density.D_asp[index][spin] = utilities.pack_density(full)
        plain()

    density.calculate_normalized_charges_and_mix = begin


def _first_d(setup: Any) -> int:
    """Return where the d orbitals of an atom begin among its partial waves."""
    return sum(2 * l + 1 for l in setup.l_j[: list(setup.l_j).index(2)])  # noqa: E741


def _orbitals_file() -> dict[str, Any]:
    file = Path(_ORBITALS)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _kept_orbitals() -> dict[str, Any]:
    found: dict[str, Any] = _orbitals_file().get("occupied", {})
    return found


def _keep_orbitals(
    orbitals: dict[str, Any], energy_eV: float, tried: list[Any], is_first: bool
) -> None:
    """Write which d orbitals are occupied, and what else was tried."""
    if is_first:
        occupied = {key: some.tolist() for key, some in orbitals.items()}
        kept = {"energy_eV": energy_eV, "occupied": occupied, "tried": tried}
        replace(_ORBITALS, json.dumps(kept))
    load_gpaw("gpaw.mpi").world.barrier()


def _occupations(width_eV: float) -> Any:
    return load_gpaw().FermiDirac(width_eV, fixmagmom=True)


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
        raise NotConvergedError("scf", reason) from error
    atoms.calc.set(occupations=_occupations(job["smearing_eV"]), convergence=job["convergence"])


def _convergence_error() -> type[Exception]:
    found: type[Exception] = load_gpaw().KohnShamConvergenceError
    return found


def load_gpaw(name: str = "gpaw") -> Any:
    """Return a module of GPAW."""
    return importlib.import_module(name)


def frozen(atoms: Any) -> Any:
    """Return a copy with the results of this moment and no calculator of a code."""
    from ase.calculators.singlepoint import SinglePointCalculator

    copy = atoms.copy()
    results = {
        "energy": float(atoms.get_potential_energy()),
        "forces": atoms.get_forces().copy(),
        "magmoms": atoms.get_magnetic_moments().copy(),
        "magmom": float(atoms.get_magnetic_moment()),
    }
    if "stress" in atoms.calc.results:  # of this moment too, where it costs nothing
        results["stress"] = atoms.calc.results["stress"].copy()
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def read_frame(name: str, *, lowest: bool = False) -> Any:
    """Return the last whole frame of a trajectory, or that of lowest energy, or None."""
    from ase.io import Trajectory

    try:
        with Trajectory(name) as trajectory:
            frames = list(trajectory) if lowest else [trajectory[-1]]
    except Exception:  # noqa: BLE001 -- there is none, or a process was killed while it wrote
        return None
    return min(frames, key=lambda frame: frame.get_potential_energy(), default=None)


def read_frames(name: str) -> list[Any]:
    """Return all frames of a trajectory; none where it is not there."""
    from ase.io import Trajectory

    if not Path(name).exists():
        return []
    with Trajectory(name) as trajectory:
        return list(trajectory)


def _readable_json(name: str) -> str:
    """Return a restart file's name, after removing one that was cut off."""
    try:
        json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        Path(name).unlink(missing_ok=True)
    return name


def write_frames(name: str, frames: list[Any]) -> None:
    """Write a trajectory that is there whole, or not at all."""
    from ase.io import write

    write(f".{name}", frames, format="traj")
    with Path(f".{name}").open("rb") as file:
        os.fsync(file.fileno())
    Path(f".{name}").replace(name)


def replace(name: str, text: str) -> None:
    """Write a file that is there whole, or not at all."""
    partial = Path(f".{name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(name)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
