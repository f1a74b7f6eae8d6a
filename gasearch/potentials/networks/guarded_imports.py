"""Packages that import only with a little help, or that change the process that imports them.

Each trap is dealt with here, in one place: the networks import `schnetpack` and `mace` through
these functions and never by a statement of their own.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import warnings
from collections.abc import Iterator
from typing import Any, TypeVar

import torch

from gasearch.potentials.networks.architectures import require

_NO_WEIGHTS_ONLY = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def import_schnetpack() -> Any:
    """Return the package `schnetpack`; eight seconds the first time.

    Raises
    ------
    MissingPackageError
        With the command that brings it.
    """
    require("painn")
    from torch.utils.data import dataloader

    if not hasattr(dataloader, "T_co"):
        # schnetpack 2.1 imports this name, for a type hint; torch 2.5 made it private.
        dataloader.T_co = TypeVar("T_co", covariant=True)  # type: ignore[attr-defined]
    with quiet():
        return importlib.import_module("schnetpack")


def import_mace(module: str = "mace.modules") -> Any:
    """Return a module of the package `mace`; seven seconds the first time.

    Raises
    ------
    MissingPackageError
        With the command that brings it.
    """
    require("mace")
    with quiet(), _own_unpickling():
        # e3nn 0.4 reads its constants with torch.load; once they are read, mace's switch for the
        # whole process, by which any later torch.load would run code from its file, is not needed.
        importlib.import_module("e3nn.o3")
        return importlib.import_module(module)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep standard output clean, and silence what torch says to the code of e3nn and mace."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.filterwarnings(
            "ignore", r"`torch\.jit\.\w+` is (deprecated|not supported)", DeprecationWarning
        )
        warnings.filterwarnings("ignore", "The TorchScript type system", UserWarning)
        warnings.filterwarnings("ignore", "To copy construct from a tensor", UserWarning)
        yield


@contextlib.contextmanager
def _own_unpickling() -> Iterator[None]:
    """Undo what an import does to torch.load."""
    before = os.environ.get(_NO_WEIGHTS_ONLY)
    try:
        with torch.serialization.safe_globals([slice]):
            yield
    finally:
        os.environ.pop(_NO_WEIGHTS_ONLY, None)
        if before is not None:
            os.environ[_NO_WEIGHTS_ONLY] = before
