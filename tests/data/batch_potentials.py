"""Potentials for tests of batches in worker processes: quick ones, and some that misbehave."""

import ctypes
import os
from pathlib import Path

import torch

from gasearch.potentials.pmmcs import Pmmcs


class Watched(Pmmcs):
    """Writes how many structures each batch had into a file that the environment names."""

    name = "watched"

    def evaluate(self, batch):
        with Path(os.environ["BATCH_SIZES"]).open("a") as log:
            log.write(f"{os.getpid()} {len(batch)}\n")
        return super().evaluate(batch)


class Poisoned(Pmmcs):
    """Misbehaves, in the third call, once a structure with exactly three sodium is in the batch."""

    name = "poisoned"

    def __init__(self):
        super().__init__()
        self.calls_left = 3

    def evaluate(self, batch):
        sodium = torch.bincount(batch.system[batch.numbers == 11], minlength=len(batch))
        self.calls_left -= int((sodium == 3).any())
        if self.calls_left == 0:
            self.misbehave()
        return super().evaluate(batch)


class Killer(Poisoned):
    def misbehave(self):
        os.abort()


class Holding(Poisoned):
    """Hangs in native code that lets no other thread run."""

    def misbehave(self):
        ctypes.PyDLL(None).sleep(3600)
