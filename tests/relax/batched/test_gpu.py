"""The batch relaxer on an accelerator: the same minima as on the CPU, and memory that runs out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from olivine import olivine

from gasearch.potentials.contract import Batch
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.potentials.registry import load_potential
from gasearch.relax.batched.memory import BatchLimit, default_limit
from gasearch.relax.batched.neighbours import SkinList
from gasearch.relax.batched.relaxer import BatchRelaxer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def crowd() -> list[Atoms]:
    larger = olivine(1.0, 9).repeat((1, 2, 1))
    return [*(olivine((0.5, 0.75, 0.25)[k % 3], k) for k in range(12)), larger]


def test_minima_are_those_of_the_cpu() -> None:
    starts = crowd()
    expected = dict(BatchRelaxer(Pmmcs()).relax(enumerate(starts)))
    found = dict(BatchRelaxer(Pmmcs("cuda")).relax(enumerate(starts)))
    for number, one in found.items():
        assert (one.verdict, one.reason) == ("ok", "")
        assert one.energy == pytest.approx(expected[number].energy, abs=1e-3)


def test_a_network_gives_the_same_alone_and_in_a_crowd() -> None:
    pytest.importorskip("chgnet")
    potential = load_potential("chgnet", device="cuda")
    together = dict(BatchRelaxer(potential).relax(enumerate(crowd())))
    for number, atoms in list(enumerate(crowd()))[::4]:
        (alone,) = dict(BatchRelaxer(potential).relax([(number, atoms)])).values()
        gap = abs(alone.energy - together[number].energy) / len(atoms)
        assert gap < 1e-4
        np.testing.assert_allclose(
            alone.atoms.positions, together[number].atoms.positions, atol=1e-3
        )


def test_lists_on_the_device_are_those_of_the_cpu() -> None:
    structures = crowd()
    found = {}
    for device in ("cpu", "cuda"):
        skin = SkinList(6.0, torch.device(device))
        skin.join(torch.tensor([len(atoms) for atoms in structures], device=device))
        bonds = skin.bonds(Batch.from_atoms(structures, device))
        found[device] = torch.stack([bonds.system, bonds.first, bonds.second]).cpu()
    torch.testing.assert_close(found["cuda"], found["cpu"])


def test_memory_that_really_runs_out_halves_the_batch(tmp_path: Path) -> None:
    pytest.importorskip("chgnet")
    potential = load_potential("chgnet", device="cuda")
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(min(0.9, 2**30 / total))
    try:
        most = 40 * default_limit(potential).edges
        limit = BatchLimit(most, most, tmp_path / "limits.json", "chgnet")
        starts = [(k, olivine(0.5, k % 10)) for k in range(200)]
        found = dict(BatchRelaxer(potential, limit=limit).relax(starts))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert limit.edges < most
    assert not [one.reason for one in found.values() if one.verdict == "failed"]
