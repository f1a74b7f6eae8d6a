"""PMMCS: rigid ions with oxidation states (Pedone et al., J. Phys. Chem. B 2006, 110, 11780).

Coulomb between partial charges (0.6 of the formal ones) by an Ewald sum, and a Morse function with
a C/r^12 wall between every ion and oxygen. Fast and charge-aware, so it serves tests and rankings
at one composition; its formation energies across compositions mean nothing.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import torch
from ase.data import chemical_symbols

from gasearch.crystal.species import SPINS, NotNeutralError, Species, formula
from gasearch.potentials.contract import Batch, Evaluated, UntrainedSpeciesError
from gasearch.potentials.ewald import COULOMB, Splitting, reciprocal_sum
from gasearch.potentials.pairs import Crystals, Pairs, PairTable, find_pairs, padded

PARAMETERS: dict[str, tuple[float, float, float, float]] = {
    "Li+": (0.001114, 3.429506, 2.681360, 1.0),
    "Na+": (0.023363, 1.763867, 3.006315, 5.0),
    "Mn2+": (0.029658, 1.997543, 2.852075, 3.0),
    "Fe2+": (0.078171, 1.822638, 2.658163, 2.0),
    "Fe3+": (0.418981, 1.620376, 2.382183, 2.0),
    "Si4+": (0.340554, 2.006700, 2.100000, 1.0),
    "P5+": (0.831326, 2.585833, 1.800790, 1.0),
    "O2-": (0.042395, 1.379316, 3.618701, 22.0),
}
"""With oxygen: depth D (eV), stiffness a (1/Å), distance r0 (Å) and wall C (eV Å^12)."""
PARTIAL = 0.6
"""Partial charge per formal charge."""
SWITCH_ON, CUTOFF = 9.0, 10.0
"""Å. The Morse function and the wall fade out between them, with two continuous derivatives."""
_COLUMNS = 5  # of a pair: charge product, two Morse prefactors, stiffness, wall


class Pmmcs:
    """The rigid-ion potential; float64, and a structure's result depends on that structure alone.

    Parameters
    ----------
    device
        Where `evaluate` expects its batch. On the CPU structures are taken one after another, which
        costs nothing there and makes results equal to the last bit whatever shares the batch.
    splitting
        Of the Ewald sum; the default reaches a relative accuracy of 1e-10.
    """

    name = "pmmcs"
    cutoff = CUTOFF
    ranks_only = True

    def __init__(self, device: str = "cpu", splitting: Splitting | None = None) -> None:
        self.device = device
        self.splitting = splitting or Splitting.for_cutoff(CUTOFF)
        self.species: frozenset[Species] | None = frozenset(map(Species.parse, PARAMETERS))

    @property
    def weights_hash(self) -> str:
        """Digest of the parameters and of how the sums are cut."""
        constants = (PARAMETERS, PARTIAL, SWITCH_ON, CUTOFF, COULOMB, self.splitting)
        return hashlib.sha256(repr(constants).encode()).hexdigest()

    def evaluate(self, batch: Batch) -> Evaluated:
        """Return energies, forces and stresses; a millisecond or two for 28 atoms on a core."""
        if batch.positions.device.type != "cpu" or len(batch) == 1:
            return self.evaluate_together(batch)
        parts = [self.evaluate_together(one) for one in batch.split()]
        return Evaluated(
            torch.cat([part.energies for part in parts]),
            torch.cat([part.forces for part in parts]),
            torch.cat([part.stresses for part in parts]),
        )

    def evaluate_together(self, batch: Batch) -> Evaluated:
        """Return the same with all structures in one sum, as on an accelerator."""
        table, charges, parameters = _constants(batch)
        crystals = Crystals.from_batch(batch, table)
        energies, forces, strain = reciprocal_sum(crystals, charges, self.splitting)
        pairs = find_pairs(crystals, CUTOFF)
        energy, slope = _pair_function(pairs, parameters, self.splitting.inverse_width)
        pulls = slope * pairs.vectors  # on the first atom; the second feels the opposite
        by_atom = forces[table.slots < len(batch.positions)].T.contiguous()
        for column, pull in zip(by_atom, pulls, strict=True):
            column.index_add_(0, pairs.first, pull)
            column.index_add_(0, pairs.second, pull, alpha=-1)
        summed = _sum_by_system(energy, pulls, pairs, len(batch))
        strain += summed[:, 1:].reshape(-1, 3, 3)
        return Evaluated(
            energies + summed[:, 0],
            by_atom.T.contiguous(),
            strain / crystals.volumes[:, None, None],
        )


def _sum_by_system(
    energy: torch.Tensor, pulls: torch.Tensor, pairs: Pairs, n_systems: int
) -> torch.Tensor:
    """Return (B, 10): energy and virial of the pairs of each structure."""
    if n_systems == 1:
        virial = torch.matmul(pulls, pairs.vectors.T)
        return torch.cat([energy.sum()[None], virial.flatten()])[None]
    virials = (pulls[:, None] * pairs.vectors[None]).flatten(0, 1)
    sums = energy.new_zeros(n_systems, 10)
    return sums.index_add_(0, pairs.system, torch.cat([energy[None], virials]).T)


def _pair_function(
    pairs: Pairs, parameters: torch.Tensor, inverse_width: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the energy (M,) of each pair and its derivative by distance over distance (M,).

    Parameters
    ----------
    parameters
        (5, B P) by pair-table entry.
    """
    charges, morse_2, morse_1, stiffness, wall = (
        column.index_select(0, pairs.entry) for column in parameters
    )
    squared = pairs.vectors.square().sum(0)
    distance = squared.sqrt()
    inverse = distance.reciprocal()
    inverse_2 = inverse * inverse

    screened = torch.erfc(distance * inverse_width).mul_(charges).mul_(inverse)
    gauss = torch.exp(squared * -(inverse_width**2)).mul_(charges)
    coulomb_slope = (
        gauss.mul_(2 * inverse_width / math.sqrt(math.pi)).add_(screened).mul_(inverse_2)
    )

    decay = torch.exp(distance * -stiffness)
    attraction = morse_1 * decay
    repulsion = decay.square_().mul_(morse_2)
    push = inverse_2.pow_(3).square_().mul_(wall)
    short_slope = repulsion.mul(2).add_(attraction).mul_(stiffness)
    short_slope.add_(push.mul(12).mul_(inverse))  # both slopes are those of falling energies
    short = repulsion.add_(attraction).add_(push)
    on, off = switch(distance)
    falling = short_slope.mul_(on).add_(short * off).mul_(inverse).add_(coulomb_slope)
    return short.mul_(on).add_(screened), falling.neg_()


def switch(distance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a factor from 1 at SWITCH_ON to 0 at CUTOFF and how fast it falls, both smooth."""
    width = CUTOFF - SWITCH_ON
    t = distance.sub(SWITCH_ON).div_(width).clamp_(0, 1)
    s = (t * (1 - t)).square_()
    on = t.mul(6).sub_(15).mul_(t).add_(10).mul_(t.pow(3)).neg_().add_(1)
    return on, s.mul_(30 / width)


def _constants(batch: Batch) -> tuple[PairTable, torch.Tensor, torch.Tensor]:
    """Return pair table, partial charges (B, n) and pair parameters (5, B P) of a batch."""
    _refuse_spins(batch)
    key = (batch.numbers, batch.charges, batch.system)
    data = tuple(tensor.cpu().numpy().tobytes() for tensor in key)
    return _remembered(*data, len(batch), batch.positions.device)


@lru_cache(maxsize=128)
def _remembered(
    numbers: bytes, charges: bytes, system: bytes, n_systems: int, device: torch.device
) -> tuple[PairTable, torch.Tensor, torch.Tensor]:
    """Return the constants of structures that are being relaxed: the same in each step."""
    z, q, owner = (
        torch.frombuffer(bytearray(x), dtype=torch.int64) for x in (numbers, charges, system)
    )
    kinds = _kinds(z, q)
    _refuse_charged(z, q, owner, n_systems)
    table = PairTable.from_system(owner, n_systems)
    by_slot = torch.cat([kinds, kinds.new_tensor([len(PARAMETERS)])])[table.slots]
    size = len(PARAMETERS) + 1
    entry = by_slot[:, table.first] * size + by_slot[:, table.second]
    parameters = _pair_parameters()[:, entry.flatten()].contiguous()
    partial = padded(PARTIAL * q.to(torch.float64), table)
    return table.to(device), partial.to(device), parameters.to(device)


def _kinds(numbers: torch.Tensor, charges: torch.Tensor) -> torch.Tensor:
    """Return the place (N,) of each atom's species in PARAMETERS."""
    known = {text: kind for kind, text in enumerate(PARAMETERS)}
    from_species = {
        (species.number, species.charge): kind
        for species, kind in ((Species.parse(text), kind) for text, kind in known.items())
    }
    pairs = list(zip(numbers.tolist(), charges.tolist(), strict=True))
    unknown = sorted(set(pairs) - set(from_species))
    if unknown:
        raise UntrainedSpeciesError("pmmcs", [_written(*pair) for pair in unknown], list(known))
    return torch.tensor([from_species[pair] for pair in pairs])


def _refuse_spins(batch: Batch) -> None:
    """Refuse low-spin ions: the parameters are those of high spin."""
    rows = batch.spins.nonzero().flatten().cpu().tolist()
    if rows:
        columns = (column[rows].tolist() for column in (batch.numbers, batch.charges, batch.spins))
        triples = zip(*columns, strict=True)
        unknown = {str(Species(chemical_symbols[z], q, SPINS[s])) for z, q, s in triples}
        raise UntrainedSpeciesError("pmmcs", sorted(unknown), list(PARAMETERS))


def _written(number: int, charge: int) -> str:
    return str(Species(chemical_symbols[number], charge))


def _refuse_charged(
    numbers: torch.Tensor, charges: torch.Tensor, system: torch.Tensor, n_systems: int
) -> None:
    totals = torch.zeros(n_systems, dtype=torch.int64).index_add_(0, system, charges)
    for i in totals.nonzero().flatten().tolist()[:1]:
        symbols = [chemical_symbols[z] for z in numbers[system == i].tolist()]
        raise NotNeutralError(
            int(totals[i]), formula(symbols), "an Ewald sum needs a neutral cell; check the charges"
        )


@lru_cache(maxsize=1)
def _pair_parameters() -> torch.Tensor:
    """Return (5, kinds * kinds) constants of each pair of species; zero for the empty slot."""
    species = [Species.parse(text) for text in PARAMETERS]
    size = len(species) + 1
    table = torch.zeros(_COLUMNS, size, size, dtype=torch.float64)
    oxygen = list(PARAMETERS).index("O2-")
    for i, one in enumerate(species):
        depth, stiffness, distance, wall = PARAMETERS[str(one)]
        top = math.exp(stiffness * distance)
        short = (depth * top * top, -2 * depth * top, stiffness, wall)
        table[1:, i, oxygen] = table[1:, oxygen, i] = torch.tensor(short, dtype=torch.float64)
        for j, other in enumerate(species):
            table[0, i, j] = COULOMB * PARTIAL**2 * one.charge * other.charge
    return table.flatten(1)
