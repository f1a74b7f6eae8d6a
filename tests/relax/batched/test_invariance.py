"""What becomes of a structure under a network in single precision does not depend on its batch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from ase import Atoms
from olivine import assert_equal, olivine

from gasearch.potentials.contract import Batch, Evaluated
from gasearch.potentials.networks.network import Edges
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.potentials.registry import load_potential
from gasearch.relax.batched.evaluator import shares_evaluations
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings

SETTINGS = RelaxSettings(fmax=0.1, smax=0.01, max_calls=60)


STARTS = {number: olivine(x, number) for number, x in enumerate((0.5, 0.75, 0.5))}


class Counted(NetworkPotential):
    """Notes how many structures each evaluation had."""

    sizes: list[int]

    def evaluate_with_edges(self, batch: Batch, edges: Edges) -> Evaluated:
        self.sizes.append(len(batch))
        return super().evaluate_with_edges(batch, edges)


@lru_cache
def counted(name: str) -> Counted:
    known = load_potential(name)
    assert isinstance(known, NetworkPotential)
    potential = Counted(known.network, known.card)
    # What torch compiles of MACE rounds otherwise in its first evaluation.
    potential.evaluate(Batch.from_atoms([STARTS[0]]))
    potential.sizes = []
    return potential


def relax(
    potential: NetworkPotential, starts: dict[int, Atoms], together: bool | None = None
) -> dict[int, Relaxed]:
    return dict(BatchRelaxer(potential, SETTINGS, together=together).relax(iter(starts.items())))


@pytest.mark.parametrize(("name", "together"), [("chgnet-nafepo4", None), ("mace-nafepo4", False)])
def test_one_evaluation_each_gives_the_same_bits_in_a_crowd(
    name: str, together: bool | None
) -> None:
    potential = counted(name)
    potential.sizes.clear()
    crowd = relax(potential, STARTS, together)
    assert set(potential.sizes) == {1}
    alone, shared = relax(potential, {1: STARTS[1]}, together)[1], crowd[1]
    assert alone.verdict == "ok"
    assert_equal(alone, shared)


def test_networks_that_share_evaluations_differ_by_less_than_is_promised() -> None:
    potential = counted("mace-nafepo4")
    potential.sizes.clear()
    crowd = relax(potential, STARTS)
    assert max(potential.sizes) == len(STARTS)
    for number, atoms in STARTS.items():
        alone = relax(potential, {number: atoms})[number]
        shift = alone.atoms.positions - crowd[number].atoms.positions
        assert np.abs(shift).max() < 1e-4
        assert abs(alone.energy - crowd[number].energy) / len(atoms) < 1e-4


def test_who_shares_evaluations() -> None:
    chgnet = load_potential("chgnet-nafepo4")
    assert isinstance(chgnet, NetworkPotential)
    assert not shares_evaluations(chgnet)
    assert shares_evaluations(load_potential("painn-nafepo4"))
    assert shares_evaluations(Pmmcs())
    chgnet.network.double()
    assert shares_evaluations(chgnet), "in double precision rounding does not show"
