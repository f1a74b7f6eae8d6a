"""[execution] of run.toml: where relaxations run. Light, for every command reads run.toml."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_Positive = Annotated[float, Field(strict=True, gt=0)]
_Count = Annotated[int, Field(strict=True, ge=0)]
_AtLeastOne = Annotated[int, Field(strict=True, ge=1)]
PROVIDERS = ("local", "slurm", "pbs", "lsf")
_BATCHES = 4  # that a lease waits for beside the relaxation itself


class ExecutionSection(BaseModel):
    """[execution]: where relaxations run."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    engine: Literal["local", "parsl"] = "local"
    device: str = "auto"
    workers: _Count = 1
    wall_limit_s: _Positive = 3600.0
    max_crashes: _AtLeastOne = 3
    lease_s: _Positive | Literal["auto"] = "auto"
    provider: str = "local"
    partition: str = ""
    account: str = ""
    nodes: _AtLeastOne = 1
    min_blocks: _Count = 0
    max_blocks: _AtLeastOne = 1
    walltime: str = "24:00:00"
    gpus_per_node: _Count = 0
    cpus_per_node: _Count = 0
    worker_init: str = ""
    scheduler_options: str = ""
    batch_s: _Positive = 120.0
    poll_s: _Positive = 30.0

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
            raise ValueError('expected "auto", "cpu", "cuda", or one of several as "cuda:1"')
        return device

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
        if not re.fullmatch(r"\d+:[0-5]\d:[0-5]\d", walltime) or not walltime_in_s(walltime):
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
