"""The calculators that come with CHGNet and MACE, with the weights of our potentials in them."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from ase import Atoms

from gasearch.potentials.calculator import PotentialCalculator
from gasearch.potentials.contract import Potential
from gasearch.potentials.networks.network_potential import NetworkPotential


@dataclass(frozen=True, eq=False)
class Stock:
    """A calculator of ASE, and how structures are written for it.

    Parameters
    ----------
    calculator
        Whose energies may differ from ours by a constant for each composition.
    written_as
        Atomic numbers of species by (atomic number, charge), such as that of Ga for Fe3+.
    is_ours
        Whether it is our own potential behind ASE's interface.
    """

    calculator: Any
    written_as: dict[tuple[int, int], int] = field(default_factory=dict)
    is_ours: bool = False

    @classmethod
    def of(cls, potential: Potential) -> Stock:
        """Return our own potential behind ASE's interface."""
        return cls(PotentialCalculator(potential), is_ours=True)

    def written(self, atoms: Atoms) -> Atoms:
        """Return a copy of a structure with the calculator."""
        copied: Atoms = atoms.copy()
        labels = zip(atoms.numbers.tolist(), atoms.get_initial_charges().round(), strict=True)
        copied.numbers[:] = [self.written_as.get((z, int(q)), z) for z, q in labels]
        copied.calc = self.calculator
        return copied


def stock_of(potential: Potential) -> Stock:
    """Return the calculator of the package that an architecture comes from; ours without one."""
    network = getattr(potential, "network", None)
    makers = {"chgnet": _chgnet_calculator, "mace": _mace_calculator}
    make = makers.get(getattr(network, "architecture", ""))
    if make is None or not isinstance(potential, NetworkPotential):
        return Stock.of(potential)
    slots = potential.card.species_map.slots
    written_as = {(species.number, species.charge): slot for species, slot in slots.items()}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Stock(make(potential), written_as)


def _chgnet_calculator(potential: NetworkPotential) -> Any:
    from chgnet.model.dynamics import CHGNetCalculator
    from chgnet.model.model import CHGNet

    arguments = {k: v for k, v in potential.network.arguments.items() if k != "n_slots"}
    model: Any = CHGNet(**arguments, composition_model="MPtrj")
    ours: Any = potential.network
    model.load_state_dict(ours.model.state_dict(), strict=False)
    energies = model.composition_model.fc.weight.data
    energies[:] = 0.0
    for slot, energy in potential.card.reference.items():
        energies[0, slot - 1] = energy
    return CHGNetCalculator(model, use_device=str(potential.device))


def _mace_calculator(potential: NetworkPotential) -> Any:
    from gasearch.potentials.mace.network import import_mace

    model: Any = copy.deepcopy(potential.network).model
    # Fe stands for Fe3+ in the rows of the model; the calculator looks up what Fe3+ is written as.
    model.atomic_numbers = torch.tensor(potential.network.arguments["slots"])
    precision = str(potential.network.dtype).removeprefix("torch.")
    return import_mace("mace.calculators").MACECalculator(
        models=model, device=str(potential.device), default_dtype=precision
    )
