"""Thresholds of a relaxation: when it has converged, and when it is given up."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, InstanceOf

from gasearch.relax.working_sites import WorkingSites
from gasearch.settings import AtLeastOne, NotNegative, Number, Positive, Section, key

_MAX_FORCE = 500.0
Threshold = Annotated[Number, Field(gt=0, lt=_MAX_FORCE)]


class RelaxSection(Section):
    """[relax]: how a candidate is relaxed.

    The default of `smax`, 0.32 GPa, leaves about V smax^2 / 2 C = 0.5 meV per formula unit of
    80 Å^3 with an elastic constant C of 50 GPa, as little as the default of `fmax` leaves.
    """

    max_force: ClassVar[float] = _MAX_FORCE
    """A structure that explodes is given up when a force exceeds this, in eV/Å."""

    fmax: Threshold = key(0.02, "converged when no force on an atom is larger", "eV/Å", fixed=True)
    smax: Positive = key(0.002, "and no component of the stress is larger", "eV/Å^3", fixed=True)
    max_calls: AtLeastOne = key(
        300, 'force calls after which a candidate is "unconverged"', fixed=True
    )
    long_calls: AtLeastOne = key(
        150, "reproducible runs do not wait for what takes more force calls", fixed=True
    )
    rattle: Annotated[NotNegative, Field(lt=0.5)] = key(
        0.02, "random displacements of the start structure", "Å", fixed=True
    )
    tight_fmax: Threshold = key(0.01, "second relaxation of what is near the hull", "eV/Å")
    tight_window_per_fu: NotNegative = key(
        0.005, "height above the hull up to which that is done", "eV/f.u."
    )
    reader: Literal["own", "chgnet"] = key(
        "own",
        'whose moments tell the charge order of what was relaxed: the potential\'s "own", or those '
        'of plain "chgnet"',
        fixed=True,
    )


class RelaxSettings(RelaxSection):
    """What a relaxer is given with a structure: [relax], and what follows from the search.

    Parameters
    ----------
    relax_cell
        Whether the cell relaxes with the positions.
    sites
        By which the audit sees working ions that move elsewhere; without them it does not look.
    """

    relax_cell: bool = True
    sites: InstanceOf[WorkingSites] | None = Field(default=None, repr=False, exclude=True)

    @classmethod
    def of(cls, section: RelaxSection, sites: WorkingSites | None) -> RelaxSettings:
        """Return the settings of the search for candidates of one host."""
        return cls(**dict(section), sites=sites)

    @property
    def tight(self) -> RelaxSettings:
        """Those of the second relaxation, near the hull."""
        return self.model_copy(update={"fmax": self.tight_fmax})
