"""Whether the potential loads and evaluates, in a process of its own, as in a worker.

That process is `python -m gasearch.doctor.potential FOLDER FILE`: into the file goes one JSON
document with what was measured, or why nothing was.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gasearch.doctor.checks import Check, failed, passed, run_program, warned, with_advice
from gasearch.errors import GasearchError
from gasearch.processes import ONE_THREAD, ending_in_words
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session

_PATIENCE_S = 600.0
_NAME = "potential"


def potential(session: Session) -> Iterator[Check]:
    """Say what one evaluation of a probe structure costs, and what the search would refuse."""
    with tempfile.TemporaryDirectory(prefix="gasearch-doctor-") as place:
        result = Path(place) / "result.json"
        folder = session.folder.path.resolve()
        command = [sys.executable, "-m", "gasearch.doctor.potential", str(folder), str(result)]
        try:
            ended = run_program(command, _PATIENCE_S, ONE_THREAD)
        except subprocess.TimeoutExpired:
            advice = "a worker would be killed as often as it starts: is its file system very slow?"
            yield failed(_NAME, f"gave no energy in {_PATIENCE_S:.0f} s", advice)
            return
        if not result.exists():
            said = (ended.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            how = f"its process {ending_in_words(ended.returncode)}: {said}"
            yield failed(_NAME, how, "workers would end alike: test it by itself")
            return
        found = json.loads(result.read_text(encoding="utf-8"))
    yield from judged(found)


def judged(found: dict[str, Any]) -> Iterator[Check]:
    """Say what a process has measured.

    Parameters
    ----------
    found
        As `main` wrote it.
    """
    if "problem" in found:
        what, advice = with_advice(found["problem"])
        yield failed(_NAME, what if advice else "cannot be used", advice or what)
        return
    cost = f"{1000 * found['evaluation_s']:.0f} ms per evaluation of {found['n_atoms']} atoms"
    where = f"on {found['device']}, loaded in {found['load_s']:.1f} s"
    yield passed(_NAME, f"{found['potential']} {where}, {cost}")
    for line in found.get("hold", ()):
        yield passed("hold", line)
    if found["extrapolates"]:
        where = ", ".join(found["extrapolates"])
        text = f"{found['potential']} extrapolates here: {where}"
        yield warned("training", text, "compare some results with DFT")
    if found["ranks_only"]:
        text = f"{found['potential']} only ranks orders at one x"
        yield warned("energies", text, "its hull and voltage have no physical meaning")


def main(folder: str, result: str) -> None:
    """Measure, and write what came of it."""
    try:
        document = _measure(Session(RunFolder(Path(folder))))
    except GasearchError as error:
        document = {"problem": str(error)}
    except Exception as error:  # noqa: BLE001 -- a plug-in may raise anything
        document = {"problem": f"{type(error).__name__}: {error}"}
    Path(result).write_text(json.dumps(document), encoding="utf-8")


def _measure(session: Session) -> dict[str, Any]:
    """Return what a probe structure costs, and what a search would refuse or warn of."""
    import torch

    from gasearch.potentials.asking import evaluate
    from gasearch.potentials.contract import Batch
    from gasearch.potentials.measured.level import compare_levels
    from gasearch.relax.calibration import Calibration, with_hold

    torch.set_num_threads(1)
    began_s = time.perf_counter()
    base = session.base_on(session.device)
    loaded_s = time.perf_counter()
    calibration = session.calibration
    potential, _ = with_hold(base, calibration, session.settings.relax.reader, session.windows)
    probes = session.probes()
    evaluate(potential, Batch.from_atoms(probes[:1], potential.device))
    warm_s = time.perf_counter()
    found = potential.evaluate(Batch.from_atoms(probes[:1], potential.device))
    once_s = time.perf_counter() - warm_s
    if not bool(torch.isfinite(found.energies).all() and torch.isfinite(found.forces).all()):
        return {"problem": "its energy or forces of a probe structure are no numbers"}
    session.refuse_unfit(potential)
    if session.folder.is_started:
        with session.folder.open_store() as store:
            compare_levels(store.level, session.level_of(potential))
    ask = getattr(potential, "extrapolations", None)
    extrapolates = {text: None for atoms in probes for text in ask(atoms)} if ask else {}
    return {
        "potential": potential.name,
        "device": str(potential.device),
        "n_atoms": len(probes[0]),
        "load_s": loaded_s - began_s,
        "evaluation_s": once_s,
        "extrapolates": list(extrapolates),
        "ranks_only": potential.ranks_only,
        "hold": Calibration.from_json(calibration).in_words() if calibration else [],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
