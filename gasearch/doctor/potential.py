"""Whether the potential loads and evaluates, in a process of its own, as in a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gasearch.doctor.checks import Check, failed, one_line, passed, warned
from gasearch.search.session import Session

_PATIENCE_S = 600.0
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_NAME = "potential"


def potential(session: Session) -> Iterator[Check]:
    """Say what one evaluation of a probe structure costs, and what the search would refuse."""
    with tempfile.TemporaryDirectory(prefix="gasearch-doctor-") as place:
        result = Path(place) / "result.json"
        command = [sys.executable, "-m", "gasearch.doctor.probe"]
        try:
            ended = subprocess.run(
                [*command, str(session.folder.path.resolve()), str(result)],
                env={**os.environ, **_ONE_THREAD},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            advice = "a worker would be killed as often as it starts: is its file system very slow?"
            yield failed(_NAME, f"gave no energy in {_PATIENCE_S:.0f} s", advice)
            return
        if not result.exists():
            yield failed(_NAME, *_death(ended))
            return
        found = json.loads(result.read_text(encoding="utf-8"))
    yield from _judged(found)


def _death(ended: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    code = ended.returncode
    how = f"ended by signal {-code}" if code < 0 else f"ended with status {code}"
    said = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return f"its process {how}: {one_line(said)}", "workers would end alike: test it by itself"


def _judged(found: dict[str, Any]) -> Iterator[Check]:
    if "problem" in found:
        what, _, advice = one_line(found["problem"]).rstrip(".").partition(": ")
        yield failed(_NAME, what if advice else "cannot be used", advice or what)
        return
    cost = f"{1000 * found['evaluation_s']:.0f} ms per evaluation of {found['n_atoms']} atoms"
    where = f"on {found['device']}, loaded in {found['load_s']:.1f} s"
    yield passed(_NAME, f"{found['potential']} {where}, {cost}")
    if found["extrapolates"]:
        told = f"{found['potential']} extrapolates here: {', '.join(found['extrapolates'])}"
        yield warned("training", told, "compare some results with DFT")
    if found["ranks_only"]:
        told = f"{found['potential']} only ranks orders at one x"
        yield warned("energies", told, "its hull and voltage have no physical meaning")
