"""The DFT jobs of a loop: at which level, computed here or exported, collected also when late."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ase import Atoms

from gasearch.analysis.findings import Findings
from gasearch.dft.codes.potential import at_home
from gasearch.dft.errors import NoOutputError, RefusedOutputError
from gasearch.dft.jobs.collect import collect_job
from gasearch.dft.jobs.export import export_jobs
from gasearch.dft.jobs.folders import JobFolder
from gasearch.dft.jobs.prepare import Workplace
from gasearch.dft.jobs.run import run_jobs
from gasearch.dft.levels import DftLevel, dft_level
from gasearch.dft.spins import with_usual_spins
from gasearch.errors import UsageError
from gasearch.files import inside
from gasearch.learning.folder import LearnFolder
from gasearch.learning.geometries import Geometries
from gasearch.run.folder import RunFolder
from gasearch.run.host import build_host
from gasearch.run.location import RUN_FILE
from gasearch.store import dft_jobs
from gasearch.store.promotions import NewPromotion, add_promotions

_OPEN = ("prepared", "exported", "running")
Say = Callable[[str], None]


@dataclass(frozen=True)
class LoopJobs:
    """DFT of a learning loop.

    Parameters
    ----------
    say
        Takes lines that stay.
    progress
        Takes what jobs under way do just now.
    """

    folder: LearnFolder
    say: Say
    progress: Say

    def level(self, run: RunFolder) -> DftLevel:
        """Return the DFT level of a run, which may be one that was not started yet."""
        settings = run.settings()
        host = build_host(settings.host, run.path)
        if host.declaration.charges != "integer":
            raise UsageError(
                f"[host] of {self.folder.path / RUN_FILE} has charges = "
                f'"{host.declaration.charges}", and networks learn from neutral frames alone: '
                'expected charges = "integer".'
            )
        section = with_usual_spins(at_home(settings.dft, run.path), host)
        code = self.folder.settings().rounds.external or section.code
        return dft_level(code, section, host, relax=False)

    def common_level(self, runs: Sequence[RunFolder]) -> DftLevel:
        """Return the DFT level of the loop; refuse supercells whose energies make no hull."""
        levels = {self.folder.name_of(run.path): self.level(run) for run in runs}
        if len({level.name for level in levels.values()}) > 1:
            found = ", ".join(f"{run}: {level.name}" for run, level in levels.items())
            raise UsageError(
                f"the supercells of this loop have different DFT levels ({found}), and energies of "
                "two levels make no hull. Most often their k-points differ: take supercells whose "
                "meshes are the same set in the unit cell, or another k_spacing in [dft]."
            )
        return next(iter(levels.values()))

    def compute(self, plan: Mapping[str, Any], runs: Sequence[RunFolder]) -> int:
        """Promote and compute what a plan says; return how many results are waited for."""
        waiting = 0
        for run in runs:
            chosen = [one for one in plan["chosen"] if one["run"] == self.folder.name_of(run.path)]
            if not chosen:
                continue
            with run.open_store(read_only=False) as store:
                rules = [NewPromotion(c["id"], f"learn {c['rule']}", c["reason"]) for c in chosen]
                add_promotions(store, rules)
                place = Workplace.of(run, store)
                waiting += self._jobs(place, plan, [one["id"] for one in chosen])
        return waiting

    def _jobs(self, place: Workplace, plan: Mapping[str, Any], numbers: list[int]) -> int:
        """Run or export jobs, and collect them; return how many have no result yet."""
        settings = self.folder.settings()
        code = settings.rounds.external or place.section.code
        level = dft_level(code, place.section, place.host, relax=False)
        if level.name != plan["level"]:
            raise UsageError(
                f"the DFT of {place.folder.path} has level {level.name} now, and this round chose "
                f"its candidates for {plan['level']}: put [dft] of {place.folder.run_file} and "
                "rounds.external of learn.toml back until the round is over."
            )
        jobs = {number: place.job(number, level) for number in numbers}
        open_ = [n for n, job in jobs.items() if not job.exists or job.status().state in _OPEN]
        geometries = Geometries(
            Findings(place.store), settings.geometries, place.store.run.seed, frozenset(numbers)
        )
        samples: Callable[[int], Sequence[Atoms]] = geometries.of
        if not settings.rounds.external:
            if open_:
                run_jobs(
                    place,
                    open_,
                    relax=False,
                    say=self.say,
                    progress=self.progress,
                    samples=samples,
                )
            return 0
        exported = export_jobs(place, open_, code, relax=False, ferromagnetic=True, samples=samples)
        return sum(not self._is_collected(place, job) for job in exported)

    def collect_late(
        self,
        runs: Sequence[RunFolder],
        levels: Collection[str],
        awaited: Collection[tuple[str, int]],
    ) -> None:
        """Collect external results that rounds before this one did not wait for.

        Parameters
        ----------
        runs
            Of the rounds before.
        levels
            Of DFT, of these rounds.
        awaited
            (run, candidate) of what this round waits for itself.
        """
        for run in runs:
            with run.open_store() as store:
                late = [
                    job
                    for row in dft_jobs.jobs(store)
                    if row.state == "exported"
                    and row.level in levels
                    and (self.folder.name_of(run.path), row.candidate) not in awaited
                    and (job := JobFolder(inside(run.path, row.folder))).exists
                ]
            if late:
                with run.open_store(read_only=False) as store:
                    place = Workplace.of(run, store)
                    for job in late:
                        self._is_collected(place, job, is_awaited=False)

    def _is_collected(self, place: Workplace, job: JobFolder, *, is_awaited: bool = True) -> bool:
        """Whether the result of an exported job is there."""
        try:
            status = collect_job(place, job)
        except NoOutputError:
            if is_awaited:
                self.say(f"no result yet: {job.path}")
            return False
        except RefusedOutputError as error:
            self.say(str(error))
            return False
        self.say(f"{job.path.name}: charge order {status.charge_order}")
        return True
