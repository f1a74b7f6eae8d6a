"""A potential with a hold: its energy, forces and stress contain the penalty.

Held by moments, the penalty is part of the network's own backward pass. Held by bonds, it is added
to whatever any potential gives, with forces and stress in closed form.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from ase import Atoms
from ase.data import chemical_symbols

from gasearch.crystal.species import SPINS, MomentRanges
from gasearch.errors import UsageError
from gasearch.potentials.contract import Batch, Evaluated, Potential, Uncertainty
from gasearch.potentials.held.hold import Hold
from gasearch.potentials.held.valence import Valences, ValenceTable
from gasearch.potentials.networks.network import Edges, NetworkOutput
from gasearch.potentials.networks.network_potential import NetworkPotential

_LOWEST_CHARGE, _HIGHEST_CHARGE = -4, 8


class NoMomentsError(UsageError):
    """A hold by moments on a potential without a moment head."""

    def __init__(self, potential: str) -> None:
        super().__init__(potential)
        self.potential = potential

    def __str__(self) -> str:
        return (
            f"potential {self.potential!r} gives no moments that can be differentiated: it cannot "
            'be held by moments; set hold = "bonds" under [potential].'
        )


class Walls:
    """The ranges of a hold as a table by element, charge and spin state, on a device."""

    def __init__(self, hold: Hold, device: str = "cpu") -> None:
        size = (len(chemical_symbols), _HIGHEST_CHARGE - _LOWEST_CHARGE + 1, len(SPINS))
        low = torch.full(size, -math.inf, dtype=torch.float64)
        high = torch.full(size, math.inf, dtype=torch.float64)
        for species, (lowest, highest) in hold.ranges.items():
            entry = species.number, species.charge - _LOWEST_CHARGE, SPINS.index(species.spin)
            low[entry], high[entry] = lowest, highest
        self._low, self._high = low.to(device), high.to(device)
        self._stiffness = hold.stiffness

    def beyond(self, batch: Batch, values: torch.Tensor) -> torch.Tensor:
        """Return how far (N,) each value is from its range: positive above, negative below it."""
        entries = batch.numbers, batch.charges - _LOWEST_CHARGE, batch.spins
        low, high = self._low[entries], self._high[entries]
        above = (values - high).clamp(min=0.0)
        return above - (low - values).clamp(min=0.0)

    def penalties(self, batch: Batch, beyond: torch.Tensor) -> torch.Tensor:
        """Return the penalty (B,) of each structure, in eV."""
        by_atom = self._stiffness / 2 * beyond.square()
        return by_atom.new_zeros(len(batch)).index_add(0, batch.system, by_atom)


def held(base: Potential, hold: Hold, judged_by: MomentRanges | None = None) -> Potential:
    """Return a potential with a hold.

    Parameters
    ----------
    judged_by
        Moments that the base gives each species of this host: by them results of a hold by bonds
        are judged.

    Raises
    ------
    NoMomentsError
        For a hold by moments on a potential that has none to differentiate.
    """
    if hold.by == "bonds":
        return HeldByBonds(base, hold, judged_by)
    if not isinstance(base, NetworkPotential) or not base.network.has_moments:
        raise NoMomentsError(base.name)
    return HeldByMoments(base, hold)


class HeldByMoments(NetworkPotential):
    """A network with a moment head, held by these moments.

    Parameters
    ----------
    base
        Its network and card are used, and its energies are the same where no site is held.
    """

    moment_ranges = None  # its moments are what is held: they prove nothing

    def __init__(self, base: NetworkPotential, hold: Hold) -> None:
        super().__init__(base.network, base.card, base.device)
        self.base = base
        self.hold = hold
        self.name = _name(base, hold)
        self.weights_hash = _hash(base, hold)
        self._walls = Walls(hold, base.device)

    def penalty(self, batch: Batch, output: NetworkOutput) -> torch.Tensor:
        """Return the penalty (B,) in eV, differentiable by the geometry."""
        if output.moments is None:
            raise NoMomentsError(self.base.name)
        beyond = self._walls.beyond(batch, output.moments.to(torch.float64))
        return self._walls.penalties(batch, beyond)


class HeldByBonds:
    """Any potential, held by bond valence sums.

    Parameters
    ----------
    base
        What gives the energies; it knows nothing of the hold.
    moment_ranges
        Of the base on this host: its moments are free to contradict what bonds are held to.
    """

    def __init__(
        self, base: Potential, hold: Hold, moment_ranges: MomentRanges | None = None
    ) -> None:
        self.base = base
        self.hold = hold
        self.moment_ranges = moment_ranges or None
        self.name = _name(base, hold)
        self.weights_hash = _hash(base, hold)
        self.ranks_only = base.ranks_only
        self.species = base.species
        self.device = base.device
        self._walls = Walls(hold, base.device)
        self._valences = ValenceTable(hold.bond_lengths, base.device)
        self.cutoff = max(base.cutoff, self._valences.cutoff)
        if isinstance(base, NetworkPotential):
            self.network, self.card = base.network, base.card
            if base.cutoff >= self._valences.cutoff:
                self.evaluate_with_edges = self._evaluate_with_edges

    def extrapolations(self, atoms: Atoms) -> tuple[str, ...]:
        """Return in what a crystal lies outside of the base's training domain, in words."""
        known = getattr(self.base, "extrapolations", None)
        return () if known is None else tuple(known(atoms))

    def uncertainty(self, structures: Sequence[Atoms]) -> Uncertainty | None:
        """Return how certain the base is, or None where it does not know."""
        known = getattr(self.base, "uncertainty", None)
        found: Uncertainty | None = None if known is None else known(structures)
        return found

    def evaluate(self, batch: Batch) -> Evaluated:
        """Return what the potential gives, the penalty added."""
        return self._with_penalty(batch, self.base.evaluate(batch), None)

    def _evaluate_with_edges(self, batch: Batch, edges: Edges) -> Evaluated:
        """Return the same, for callers that know who is bound to whom."""
        found = self.base.evaluate_with_edges(batch, edges)  # type: ignore[attr-defined]
        return self._with_penalty(batch, found, edges)

    def _with_penalty(self, batch: Batch, found: Evaluated, edges: Edges | None) -> Evaluated:
        sane = found.energies.isfinite()
        if not bool(sane.all()):  # its geometry may have no neighbour list
            return self._where_sane(batch, found, sane)
        valences = self._valences.sums(batch, edges)
        beyond = self._walls.beyond(batch, valences.sums)
        penalties = self._walls.penalties(batch, beyond)
        forces, virials = _pulls(batch, valences, self.hold.stiffness * beyond)
        volumes = torch.linalg.det(batch.cells).abs()[:, None, None]
        return replace(
            found,
            energies=found.energies + penalties,
            forces=found.forces + forces,
            stresses=found.stresses + virials / volumes,
            penalties=penalties,
        )

    def _where_sane(self, batch: Batch, found: Evaluated, sane: torch.Tensor) -> Evaluated:
        """Add the penalty structure by structure, to those that have an energy."""
        results = Evaluated(
            found.energies.clone(),
            found.forces.clone(),
            found.stresses.clone(),
            found.moments,
            torch.full_like(found.energies, math.nan),
        )
        for row in sane.nonzero().flatten().tolist():
            rows = slice(row, row + 1)
            atoms = batch.atoms_of(rows)
            moments = None if found.moments is None else found.moments[atoms]
            part = Evaluated(
                found.energies[rows], found.forces[atoms], found.stresses[rows], moments
            )
            results.put(self._with_penalty(batch.part(rows), part, None), rows, atoms)
        return results


def _pulls(
    batch: Batch, valences: Valences, gradient: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return forces (N, 3) and virials (B, 3, 3) of a penalty with this gradient (N,) by sums."""
    along = gradient[valences.site] * valences.slopes  # (M,) change of the penalty with length
    pull = along[:, None] * valences.directions
    forces = torch.zeros_like(batch.positions)
    forces.index_add_(0, valences.site, pull)
    forces.index_add_(0, valences.anion, -pull)
    outer = pull[:, :, None] * (valences.distances[:, None] * valences.directions)[:, None, :]
    virials = torch.zeros_like(batch.cells).index_add_(0, valences.system, outer)
    return forces, virials


def _name(base: Potential, hold: Hold) -> str:
    return f"{base.name} held by {hold.by}"


def _hash(base: Potential, hold: Hold) -> str:
    return hashlib.sha256(f"{base.weights_hash} {hold.digest}".encode()).hexdigest()
