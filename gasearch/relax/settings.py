"""Thresholds of a relaxation: when it has converged, and when it is given up."""

from __future__ import annotations

from dataclasses import dataclass, field

from gasearch.errors import UsageError
from gasearch.relax.working_sites import WorkingSites


class RelaxSettingsError(UsageError):
    """A threshold of the relaxer that makes no sense."""

    def __init__(self, key: str, value: float, wanted: str) -> None:
        super().__init__(key, value, wanted)
        self.key = key
        self.value = value
        self.wanted = wanted

    def __str__(self) -> str:
        return f"relax.{self.key} = {self.value!r}: expected {self.wanted}."


@dataclass(frozen=True)
class RelaxSettings:
    """Thresholds and limits of one relaxation.

    Parameters
    ----------
    fmax
        Converged when no force (norm) on an atom is larger, in eV/Å.
    smax
        And no component of the stress, in eV/Å^3. The default, 0.32 GPa, leaves about
        V smax^2 / 2 C = 0.5 meV per formula unit of 80 Å^3 with an elastic constant C of 50 GPa,
        as little as the default of `fmax` leaves.
    max_calls
        Evaluations of the potential after which a structure is "unconverged".
    long_calls
        A relaxation with more evaluations than this is a straggler, which a reproducible search
        waits for less eagerly.
    relax_cell
        Whether the cell relaxes with the positions.
    max_force
        A structure that explodes is given up when a force exceeds this, in eV/Å.
    sites
        By which the audit sees working ions that move elsewhere; without them it does not look.
    """

    fmax: float = 0.02
    smax: float = 0.002
    max_calls: int = 300
    long_calls: int = 100
    relax_cell: bool = True
    max_force: float = 500.0
    sites: WorkingSites | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for key in ("fmax", "smax", "max_force"):
            value = getattr(self, key)
            if not 0 < value < float("inf"):
                raise RelaxSettingsError(key, value, "a positive number")
        for key in ("max_calls", "long_calls"):
            value = getattr(self, key)
            if value < 1:
                raise RelaxSettingsError(key, value, "a whole number of at least 1")
        if self.max_force <= self.fmax:
            raise RelaxSettingsError("max_force", self.max_force, f"more than fmax = {self.fmax}")
