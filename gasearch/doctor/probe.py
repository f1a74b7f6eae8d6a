"""A process that loads a run's potential as a worker does: `... gasearch.doctor.probe FOLDER FILE`.

Into the file goes one JSON document: what was measured, or why nothing was.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from gasearch.errors import GasearchError
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.seeding import named_rng


def main(folder: str, result: str) -> None:
    """Measure, and write what came of it."""
    try:
        document = measure(Session(RunFolder(Path(folder))))
    except GasearchError as error:
        document = {"problem": str(error)}
    except Exception as error:  # noqa: BLE001 -- a plug-in may raise anything
        document = {"problem": f"{type(error).__name__}: {error}"}
    Path(result).write_text(json.dumps(document), encoding="utf-8")


def measure(session: Session) -> dict[str, Any]:
    """Return what a probe structure costs, and what a search would refuse or warn of."""
    import torch

    from gasearch.potentials.awareness import require_charge_aware
    from gasearch.potentials.contract import Batch
    from gasearch.potentials.level import compare_levels
    from gasearch.potentials.registry import load_potential
    from gasearch.relax.moment_reader import load_reader

    torch.set_num_threads(1)
    named, device = session.settings.potential, session.device
    began_s = time.perf_counter()
    potential = load_potential(named.name, session.folder.path, device, named.species or None)
    load_reader(session.settings.relax.reader, device)
    loaded_s = time.perf_counter()
    probes = session._probes()
    potential.evaluate(Batch.from_atoms(probes[:1], potential.device))
    warm_s = time.perf_counter()
    found = potential.evaluate(Batch.from_atoms(probes[:1], potential.device))
    once_s = time.perf_counter() - warm_s
    energy = float(found.energies[0])
    if not bool(torch.isfinite(found.energies).all() and torch.isfinite(found.forces).all()):
        return {"problem": "its energy or forces of a probe structure are no numbers"}
    require_charge_aware(potential, probes, named_rng(0, "awareness"), named.allow_charge_blind)
    if session.folder.is_started:
        with session.folder.open_store() as store:
            compare_levels(store.level, session._level(potential))
    ask = getattr(potential, "extrapolations", None)
    told = {text: None for atoms in probes for text in ask(atoms)} if ask else {}
    return {
        "potential": potential.name,
        "device": str(potential.device),
        "n_atoms": len(probes[0]),
        "energy_eV": energy,
        "load_s": loaded_s - began_s,
        "evaluation_s": once_s,
        "extrapolates": list(told),
        "ranks_only": potential.ranks_only,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
