"""The charge order that a structure tells, by its oxidation states or else its moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.host import Host
from gasearch.crystal.moments import MOMENT_RANGES
from gasearch.crystal.species import Species
from gasearch.errors import DecorationError
from gasearch.search.seeds.placing import Placement
from gasearch.search.seeds.seed import AS_IN_THE_FILE, BY_COULOMB, BY_MOMENTS

_WHOLE = 0.05  # e; formal oxidation states are this near to whole numbers
_FORMAL = 0.1  # Bohr magnetons; initial moments are this near to those of high spin
_CODES = ("vasp", "gpaw")  # whose moments files hold

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ToldOrder:
    """Digits that each sublattice site may still hold, and what the user should know of it."""

    choices: list[list[int]]
    note: str


def told_order(host: Host, choices: list[list[int]], placement: Placement) -> ToldOrder:
    """Return the choices that the file leaves; what it has but cannot be used is in the note.

    Parameters
    ----------
    choices
        Digits that each site may hold by its element.
    placement
        Its atoms have the arrays "oxidation" (e) and "moment" (Bohr magnetons), NaN where unknown.
    """
    several = [n for n, own in enumerate(choices) if len(own) > 1]
    at = placement.mapping.atom_at[host.sites[several]]
    charges = placement.atoms.get_array("oxidation")[at]
    moments = np.abs(placement.atoms.get_array("moment")[at])
    if not several:
        return ToldOrder(choices, AS_IN_THE_FILE)
    unused = ""
    known = ~np.isnan(charges)
    if known.any() and np.round(charges[known]).any():
        if np.all(np.abs(charges - np.round(charges))[known] <= _WHOLE):
            sites = [n for n, is_known in zip(several, known, strict=True) if is_known]
            left = _by_charge(host, choices, sites, at[known], placement.atoms)
            left = _by_spin(host, left, several, moments)
            part = f"{known.sum()} of {len(several)} oxidation states from the file; the rest: "
            return ToldOrder(left, AS_IN_THE_FILE if known.all() else f"{part}{BY_COULOMB}")
        unused = "the oxidation states in the file are no whole numbers"
    if np.nan_to_num(moments).max() > _FORMAL:
        found, reason = _by_moment(host, choices, several, moments)
        if found is not None:
            return ToldOrder(found, BY_MOMENTS)
        unused = f"{unused}, {reason}" if unused else reason
    return ToldOrder(choices, f"{BY_COULOMB} (not used: {unused})" if unused else BY_COULOMB)


def _by_charge(
    host: Host,
    choices: list[list[int]],
    sites: Sequence[int],
    at: NDArray[np.int64],
    atoms: Atoms,
) -> list[list[int]]:
    """Return the choices with those of sites (n,) as the charges of their atoms `at` (n,) say."""
    chosen = list(choices)
    charges = np.round(atoms.get_array("oxidation")[at]).astype(int).tolist()
    for site, atom, charge in zip(sites, at.tolist(), charges, strict=True):
        chosen[site] = [d for d in choices[site] if host.charges[site, d] == charge]
        if not chosen[site]:
            known = sorted({int(host.charges[site, d]) for d in choices[site]})
            raise DecorationError(
                f"atom {atom} is {atoms.symbols[atom]} with charge {charge:+d}, expected "
                f"{' or '.join(f'{k:+d}' for k in known)}: set formal oxidation states, or take "
                "all charges out, and the order of lowest Coulomb energy is taken."
            )
    return chosen


def _by_spin(
    host: Host, choices: list[list[int]], several: Sequence[int], moments: Floats
) -> list[list[int]]:
    """Return the choices with the spin state of an ion that its moment (n_several,) is nearest to.

    Where it has none they stay.
    """
    chosen = list(choices)
    for site, moment in zip(several, moments.tolist(), strict=True):
        own = choices[site]
        if not np.isnan(moment) and len({int(host.charges[site, d]) for d in own}) == 1:
            chosen[site] = [min(own, key=lambda d: abs(host.moments[site, d] - moment))]
    return chosen


def _by_moment(
    host: Host, choices: list[list[int]], several: Sequence[int], moments: Floats
) -> tuple[list[list[int]] | None, str]:
    """Return the choices that moments (n_several,) leave, or None and why they tell nothing."""
    species = [
        own for sublattice in host.sublattices for own in [sublattice.species] * len(sublattice)
    ]
    chosen = list(choices)
    for site, moment in zip(several, moments.tolist(), strict=True):
        chosen[site] = [d for d in choices[site] if _has_moment(species[site][d], moment)]
    open_sites = sum(len(chosen[site]) != 1 for site in several)
    if open_sites:
        return None, (
            f"{open_sites} of {len(several)} magnetic moments in the file tell no oxidation state"
        )
    total = host.framework_charge
    total += sum(int(host.charges[n, own[0]]) for n, own in enumerate(chosen) if len(own) == 1)
    if total:
        return None, f"by the magnetic moments in the file its charge would be {total:+d}"
    return chosen, ""


def _has_moment(species: Species, moment: float) -> bool:
    """Whether a species has a moment: that of high spin, or as PBE+U codes find it."""
    ranges = [MOMENT_RANGES[code].get(species) for code in _CODES]
    windows = [*filter(None, ranges), (species.moment - _FORMAL, species.moment + _FORMAL)]
    return any(low <= moment <= high for low, high in windows)
