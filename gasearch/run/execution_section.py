"""[execution] of run.toml: where relaxations run. Light, for every command reads run.toml."""

from __future__ import annotations

import math
import re
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from gasearch.settings import AtLeastOne, Count, Positive, Section, key

PROVIDERS = ("local", "slurm", "pbs", "lsf")
WALLTIME = re.compile(r"\d+:[0-5]\d:[0-5]\d")
_BATCHES = 4  # that a lease waits for beside the relaxation itself


def known_device(device: str) -> str:
    """Return a device as it is, or raise `ValueError` for what is none."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError('expected "auto", "cpu", "cuda", or one of several as "cuda:1"')
    return device


class ExecutionSection(Section):
    """[execution]: where relaxations run."""

    device: str = key("auto", '"cpu", "cuda", "cuda:1"; "auto": a GPU if there is one')
    workers: Count = key(1, "processes on the CPU (on a GPU always one); 0: in the search's own")
    wall_limit_s: Positive = key(
        3600.0, "a relaxation that takes longer is killed and tried again", "s"
    )
    max_crashes: AtLeastOne = key(
        3, "crashes of its worker after which a candidate counts as failed"
    )
    engine: Literal["local", "parsl"] = key(
        "local", 'this machine; "parsl": a cluster, or this machine through Parsl'
    )
    lease_s: Positive | Literal["auto"] = key(
        "auto", "what a worker does not bring back in time is handed out again", "s"
    )
    provider: str = key(
        "local",
        'of Parsl: "slurm", "pbs", "lsf", or "./file.py:function", which returns a parsl.Config; '
        "with Parsl, `workers` are those of a node",
    )
    partition: str = key("", "or queue")
    account: str = key("", "or project")
    nodes: AtLeastOne = key(1, "of one job of the scheduler, a block")
    min_blocks: Count = key(0, "blocks at once, at least")
    max_blocks: AtLeastOne = key(1, "blocks at once, at most")
    walltime: str = key("24:00:00", "of a block")
    gpus_per_node: Count = key(0, "each has one worker")
    cpus_per_node: Count = key(0, "0: one for each worker")
    worker_init: str = key("", 'lines of shell before a worker starts: "module load cuda"')
    scheduler_options: str = key("", 'lines for the scheduler: "#SBATCH --qos=long"')
    batch_s: Positive = key(120.0, "structures go to a worker in batches that take so long", "s")
    poll_s: Positive = key(30.0, "how often the scheduler is asked", "s")

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        return known_device(device)

    @field_validator("lease_s", mode="before")
    @classmethod
    def _seconds_or_auto(cls, lease_s: Any) -> Any:
        is_number = isinstance(lease_s, int | float) and not isinstance(lease_s, bool)
        if lease_s != "auto" and not (is_number and 0 < lease_s < math.inf):
            raise ValueError('expected "auto", or seconds')
        return lease_s

    @field_validator("provider")
    @classmethod
    def _known_provider(cls, provider: str) -> str:
        if provider not in PROVIDERS and not re.fullmatch(r".+\.py:\w+", provider):
            known = ", ".join(f'"{name}"' for name in PROVIDERS)
            raise ValueError(f'expected {known}, or "./file.py:function"')
        return provider

    @field_validator("walltime")
    @classmethod
    def _hours(cls, walltime: str) -> str:
        if not WALLTIME.fullmatch(walltime) or not walltime_in_s(walltime):
            raise ValueError('expected hours, minutes and seconds, such as "24:00:00"')
        return walltime

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.min_blocks > self.max_blocks:
            raise ValueError(
                f"min_blocks = {self.min_blocks} is more than max_blocks = {self.max_blocks}"
            )
        if self.engine == "local" and self.provider != "local":
            raise ValueError(f'provider = "{self.provider}" needs engine = "parsl"')
        if self.engine == "parsl" and not self.workers:
            raise ValueError('engine = "parsl" needs workers = 1 or more, for each node')
        if self.engine == "parsl" and self.device.startswith("cuda:"):
            raise ValueError(
                f'device = "{self.device}" is for one machine; with engine = "parsl" say '
                'device = "cuda" and gpus_per_node'
            )
        if self.engine == "parsl" and self.device == "cuda" and not self.gpus_per_node:
            raise ValueError('device = "cuda" with engine = "parsl" needs gpus_per_node')
        return self

    @property
    def workers_per_node(self) -> int:
        """One for each accelerator where there are some, with `parsl`; else `workers`."""
        has_gpus = self.gpus_per_node and self.device != "cpu" and self.engine == "parsl"
        return self.gpus_per_node if has_gpus else self.workers

    @property
    def most_workers(self) -> int:
        """Worker processes at the most."""
        if self.engine == "local":
            return self.workers
        return self.workers_per_node * self.nodes * self.max_blocks

    @property
    def lease_in_s(self) -> float:
        """Time after which what a worker has counts as overdue."""
        if self.lease_s != "auto":
            return self.lease_s
        batches = _BATCHES * self.batch_s if self.engine == "parsl" else 0.0
        return 2 * self.wall_limit_s + batches


def walltime_in_s(walltime: str) -> int:
    """Return hours, minutes and seconds in seconds."""
    hours, minutes, seconds = (int(part) for part in walltime.split(":"))
    return 3600 * hours + 60 * minutes + seconds
