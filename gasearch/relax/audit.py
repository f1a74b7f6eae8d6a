"""Verdicts on relaxations, the thresholds behind them, and what counts as trouble on the way.

The rule is pure, so that it can be run again on stored data; a change of it changes its version.
All relaxers judge by it. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.species import MomentRanges, Species, species_of
from gasearch.errors import GasearchError
from gasearch.relax.geometry import (
    closest_pair,
    framework_bonds,
    mean_bond_lengths,
    redox_sites,
)
from gasearch.relax.settings import RelaxSettings
from gasearch.relax.working_sites import WorkingSites

Verdict = Literal["ok", "order_lost", "broken", "unconverged", "failed"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
IN_WORDS: Mapping[Verdict, tuple[str, str]] = {
    "order_lost": ("lost its order", "lost their order"),
    "broken": ("broke", "broke"),
    "unconverged": ("did not converge", "did not converge"),
    "failed": ("failed", "failed"),
}
"""What became of one candidate, and of several, by their verdict other than "ok"."""

RULE = "orders-2"
"""Working ions and charge order."""
CHARGE_RULE = "moments-1"
"""Charge order alone: where the sites of working ions are not known, and in earlier runs."""
MAX_VOLUME_CHANGE = 0.4
FUSED = 0.6
"""Of the sum of covalent radii: O-O 0.79 Å, P-O 1.04 Å."""
FUSED_EVERY = 10
"""Calls between two looks for fused atoms on the way; the audit looks at the end anyway."""


@dataclass(frozen=True)
class Audit:
    """What the rule says.

    Parameters
    ----------
    verdict
        The rule gives "ok", "order_lost" or "broken"; the end of a relaxation "unconverged" too.
    reason
        One line for a verdict other than "ok"; "" otherwise.
    """

    verdict: Verdict
    reason: str = ""


def audit(
    start: Atoms,
    final: Atoms,
    moments: NDArray[np.float64] | None = None,
    ranges: MomentRanges | None = None,
    sites: WorkingSites | None = None,
    quantity: str = "moment",
) -> Audit:
    """Return whether a relaxation kept the crystal, its working ions' order and its charge order.

    The order of the working ions is lost where one left its site, the charge order where a moment
    contradicts its label. Bond lengths are named beside it as a second opinion and decide nothing.

    Parameters
    ----------
    start, final
        Before and after, with formal charges; only geometry may differ.
    moments
        (n_atoms,) in Bohr magnetons, from the potential or an independent reader.
    ranges
        What that reader gives for each species; species that are not in it are not judged.
    sites
        Of the host's working ions; without them their order is not judged.
    quantity
        What `moments` are, where another quantity of the sites is read.
    """
    reason = damage(start, final)
    if reason:
        return Audit("broken", reason)
    lost = [] if sites is None else [sites.moved(start, final)]
    if moments is not None and ranges:
        lost.append(_contradictions(final, moments, ranges, quantity))
    reason = "; ".join(filter(None, lost))
    return Audit("order_lost", reason) if reason else Audit("ok")


def rule_of(settings: RelaxSettings) -> str:
    """Return the rule that these settings lead to."""
    return RULE if settings.sites is not None else CHARGE_RULE


def trouble(
    start: Atoms,
    now: Atoms,
    fmax: float,
    settings: RelaxSettings,
    *,
    look_for_fusion: bool = True,
) -> str:
    """Return why it is no use to go on relaxing, or "".

    Parameters
    ----------
    start, now
        The same atoms.
    fmax
        Largest force (norm) on an atom now, in eV/Å.
    settings
        Of the relaxation.
    look_for_fusion
        Whether to look at the distances between atoms.
    """
    if fmax > settings.max_force:
        return f"it explodes: a force of {fmax:.3g} eV/Å (limit {settings.max_force:g})"
    return _volume_change(start, now) or (_fusion(now) if look_for_fusion else "")


def shortfall(fmax: float, smax: float, settings: RelaxSettings) -> str:
    """Return what was missing to convergence when no call was left."""
    stress = f", largest stress {smax:.4f} (limit {settings.smax:g})"
    return (
        f"after {settings.max_calls} calls the largest force is {fmax:.3f} eV/Å "
        f"(limit {settings.fmax:g}){stress if settings.relax_cell else ''}"
    )


def reason_of(error: BaseException) -> str:
    """Return the reason that an error is for "failed"; those that are expected explain themselves.

    In one line.
    """
    text = " ".join(str(error).split())
    return text if isinstance(error, GasearchError) else f"{type(error).__name__}: {text}"


def damage(start: Atoms, final: Atoms) -> str:
    """Return what a relaxation broke, in a few words, or ""."""
    return _volume_change(start, final) or _fusion(final) or _framework_change(start, final)


def _volume_change(start: Atoms, final: Atoms) -> str:
    change = final.cell.volume / start.cell.volume - 1
    if abs(change) <= MAX_VOLUME_CHANGE:
        return ""
    return f"the volume changed by {100 * change:+.0f} % (limit {100 * MAX_VOLUME_CHANGE:.0f} %)"


def _fusion(atoms: Atoms) -> str:
    """Return which atoms sit on top of each other, or ""."""
    i, j, distance, ratio = closest_pair(atoms)
    if ratio >= FUSED:
        return ""
    return f"{_name(atoms, i)} and {_name(atoms, j)} are {distance:.2f} Å apart"


def _framework_change(start: Atoms, final: Atoms) -> str:
    after = framework_bonds(final)
    for i, before in framework_bonds(start).items():
        if after[i] != before:
            anion = final.symbols[(before or after[i])[0]]
            return f"{_name(final, i)} had {len(before)} {anion} and has {_shell(before, after[i])}"
    return ""


def _shell(before: tuple[int, ...], after: tuple[int, ...]) -> str:
    return str(len(after)) if len(after) != len(before) else "others in their place"


def _contradictions(
    final: Atoms, moments: NDArray[np.float64], ranges: MomentRanges, quantity: str
) -> str:
    species = species_of(final)
    lost = [
        i
        for i, own in enumerate(species)
        if (window := ranges.get(own)) and not window[0] <= abs(moments[i]) <= window[1]
    ]
    if not lost:
        return ""
    bonds = dict(zip(sites := redox_sites(final), mean_bond_lengths(final, sites), strict=True))
    named = [
        _contradiction(final, i, species[i], f"{quantity} {moments[i]:.2f}", bonds.get(i))
        for i in lost[:3]
    ]
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    return "; ".join(named) + more


def _contradiction(final: Atoms, i: int, own: Species, found: str, bond: float | None) -> str:
    length = "" if bond is None else f", mean bond {bond:.2f} Å"
    return f"{_name(final, i)} is labelled {own} but has {found}{length}"


def _name(atoms: Atoms, index: int) -> str:
    return f"{atoms.symbols[index]} {index}"
