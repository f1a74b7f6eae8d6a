"""The loss of a network: unknown labels masked, robust against outliers, for any architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from gasearch.potentials.networks.network import Derived, Network, energies_forces_stress
from gasearch.training.data.samples import Minibatch
from gasearch.training.settings import LossSettings


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts of a loss as sums over labels, so that minibatches of any size add up.

    Parameters
    ----------
    sums, counts
        By the name of the part: its sum, and how many labels it has.
    """

    sums: dict[str, torch.Tensor]
    counts: dict[str, float]

    def plus(self, other: Parts) -> Parts:
        """Return the sums over both."""
        sums, counts = dict(self.sums), dict(self.counts)
        for name, value in other.sums.items():
            sums[name] = sums[name] + value if name in sums else value
            counts[name] = counts.get(name, 0.0) + other.counts[name]
        return Parts(sums, counts)

    def total(self, settings: LossSettings) -> torch.Tensor:
        """Return the weighted sum of the means; parts without labels count nothing."""
        known = [name for name, count in self.counts.items() if count > 0]
        parts = [getattr(settings, name) * self.sums[name] / self.counts[name] for name in known]
        return torch.stack(parts).sum() if parts else torch.zeros((), dtype=torch.float64)


@dataclass(frozen=True)
class ErrorSums:
    """Absolute errors as sums, by what a record of training calls their mean.

    Parameters
    ----------
    sums, counts
        By name.
    """

    sums: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def plus(self, other: ErrorSums) -> ErrorSums:
        """Return the sums over both."""
        names = [*self.sums, *(name for name in other.sums if name not in self.sums)]
        return ErrorSums(
            {name: self.sums.get(name, 0.0) + other.sums.get(name, 0.0) for name in names},
            {name: self.counts.get(name, 0) + other.counts.get(name, 0) for name in names},
        )

    def means(self) -> dict[str, float]:
        """Return the mean of every error that has labels."""
        return {name: self.sums[name] / n for name, n in self.counts.items() if n}


def error_sums(found: Derived, data: Minibatch, reference: torch.Tensor) -> ErrorSums:
    """Return absolute errors in the units of their names."""
    targets = data.targets
    energies = _energies(found, data, reference)
    sizes = torch.bincount(data.batch.system, minlength=len(data.batch))
    errors = {
        "energy_mae_meV_per_atom": 1000 * (energies - targets.energies) / sizes,
        "force_mae_meV_per_A": 1000 * (found.forces - targets.forces),
        "swap_mae_meV": 1000 * (energies[data.first] - energies[data.second] - data.differences),
    }
    if found.output.moments is not None:
        errors["moment_mae_all_atoms"] = found.output.moments.to(torch.float64) - targets.moments
    known = {name: error[~error.isnan()].abs() for name, error in errors.items()}
    return ErrorSums(
        {name: float(error.sum()) for name, error in known.items()},
        {name: error.numel() for name, error in known.items()},
    )


def evaluate_minibatch(network: Network, data: Minibatch, *, learn: bool) -> Derived:
    """Return energies and forces of a minibatch, differentiable by the weights to learn."""
    return energies_forces_stress(network, data.batch, data.slots, data.edges, create_graph=learn)


def loss_parts(
    found: Derived, data: Minibatch, reference: torch.Tensor, settings: LossSettings
) -> Parts:
    """Return the parts of the loss of a minibatch.

    Parameters
    ----------
    reference
        (slots,) energy per atom of each slot, in eV, that the network's energies lack.
    """
    targets, system = data.targets, data.batch.system
    sizes = torch.bincount(system, minlength=len(data.batch))
    energies = _energies(found, data, reference)
    by_atom = targets.weights[system]
    errors = {
        "energy": ((energies - targets.energies) / sizes / settings.energy_scale)[:, None],
        "forces": (found.forces - targets.forces) / settings.force_scale,
        "stress": (found.stresses - targets.stresses).flatten(1) / settings.stress_scale,
        "moments": _atomic(found.output.moments, targets.moments, settings.moment_scale),
        "partial_charges": _atomic(found.output.charges, targets.charges, settings.charge_scale),
        "difference": _differences(energies, data, settings.difference_scale),
    }
    weights = {
        "energy": targets.weights,
        "forces": by_atom,
        "stress": targets.weights,
        "moments": by_atom,
        "partial_charges": by_atom,
        "difference": data.difference_weights,
    }
    summed = {
        name: _summed(error, weights[name])
        for name, error in errors.items()
        if error is not None and getattr(settings, name) > 0
    }
    return Parts(
        {name: total for name, (total, _) in summed.items()},
        {name: count for name, (_, count) in summed.items()},
    )


def _energies(found: Derived, data: Minibatch, reference: torch.Tensor) -> torch.Tensor:
    """Return the energies (B,) of the cells with their reference, in eV."""
    shift = torch.zeros_like(data.targets.energies)
    shift = shift.index_add(0, data.batch.system, reference[data.slots])
    return found.output.energies.to(torch.float64) + shift


def _atomic(found: torch.Tensor | None, target: torch.Tensor, scale: float) -> torch.Tensor | None:
    if found is None:
        return None
    return ((found.to(torch.float64) - target) / scale)[:, None]


def _differences(energies: torch.Tensor, data: Minibatch, scale: float) -> torch.Tensor:
    found = energies[data.first] - energies[data.second]
    return ((found - data.differences) / scale)[:, None]


def _summed(errors: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the weighted sum of a smooth Huber function of vectors (M, k), and their number.

    A function of the vector's length, so that turned crystals are equal. Rows with NaN are unknown
    labels: they are taken out before anything is computed of them, since a gradient of
    0 times NaN is NaN.
    """
    known = ~errors.detach().isnan().any(1)
    squares = errors[known].square().sum(1)
    robust = (1 + squares).sqrt() - 1
    return (robust * weights[known]).sum(), float(known.sum())
