"""Which charge order came out of a calculation, from the moments of its redox sites."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.moments import MOMENT_RANGES
from gasearch.crystal.site_matching import map_sites
from gasearch.crystal.species import MomentRanges, Species
from gasearch.dft.errors import DftError
from gasearch.dft.spins import spin_of
from gasearch.errors import GasearchError
from gasearch.run.dft_section import DftSection

ChargeOrder = Literal["kept", "moved", "delocalised"]
RULE = "dft-moments-1"
_TOLERANCE = 1.6  # Å, between an atom and its site
_SPHERE = 0.9  # of the nominal moment, in the sphere of most codes
_APART = 0.3  # Bohr magnetons; nominal moments nearer than that tell nothing
_AMBIGUOUS = 0.15  # of the difference of nominal moments, to either side of the middle


@dataclass(frozen=True)
class ClassifiedSite:
    """A redox site of a result, with the species that its moment means.

    Parameters
    ----------
    index
        Of the atom.
    moment
        Absolute, in Bohr magnetons.
    species
        None where the moment is ambiguous.
    """

    index: int
    element: str
    moment: float
    species: Species | None


@dataclass(frozen=True, eq=False)
class Classified:
    """The charge order of a result, and what shows it.

    Parameters
    ----------
    decoration
        None where the charge is delocalised.
    atoms
        With oxidation states and high-spin moments of the order that came out; without an order,
        as it was given.
    reason
        Why it is not "kept", in one line.
    """

    order: ChargeOrder
    decoration: Decoration | None
    atoms: Atoms
    sites: tuple[ClassifiedSite, ...]
    reason: str


def moment_ranges(
    host: Host,
    code: str,
    states: Mapping[str, float],
    overrides: Mapping[str, Mapping[str, tuple[float, float]]],
) -> dict[Species, tuple[float, float]]:
    """Return between which moments a code shows each species of the redox sublattices.

    The user's table comes before that of the code; where neither names a species, 0.9 of the mean
    of neighbouring nominal moments divides them, with a band of 15 % of their difference to either
    side: 3.9 and 4.2 for Fe2+ and Fe3+. Elements with states of one moment are left out: they are
    not judged.
    """
    table = MOMENT_RANGES.get(code, {})
    known = {species: own for species, own in table.items() if str(species) not in states}
    known |= {Species.parse(s): own for s, own in overrides.get(code, {}).items()}
    found: dict[Species, tuple[float, float]] = {}
    for element, species in redox_species(host).items():
        if _alike(species, states, known):
            continue
        derived = _derived(species, states)
        for one in species:
            found[one] = known.get(one) or derived[one]
        _refuse_overlap(element, {one: found[one] for one in species})
    return found


def ranges_of_level(
    host: Host, code: str, section: DftSection, settings: Mapping[str, Any]
) -> dict[Species, tuple[float, float]]:
    """Return `moment_ranges` with those that a level states of its own code.

    Parameters
    ----------
    code
        Whose moments they are.
    section
        [dft] of the run, with the usual spin states; its ranges come first.
    settings
        Of the level.
    """
    stated = settings.get("moments", {}) if settings.get("code") == code else {}
    ranges = {**section.moments, code: {**stated, **section.moments.get(code, {})}}
    return moment_ranges(host, code, section.spin_states, ranges)


def redox_species(host: Host) -> dict[str, list[Species]]:
    """Return the species of each element that sublattices hold in several states, or magnetic."""
    found: dict[str, list[Species]] = {}
    for one in (s for sublattice in host.sublattices for s in sublattice.species):
        if not one.is_vacancy and one not in found.setdefault(one.element, []):
            found[one.element].append(one)
    for one in host.framework:
        if one.element in found and one not in found[one.element]:
            found[one.element].append(one)
    return {
        element: species
        for element, species in found.items()
        if len(species) > 1 or species[0].ion.moment
    }


def unjudged(host: Host, ranges: MomentRanges) -> dict[str, list[Species]]:
    """Return the elements in several states that their moments cannot tell apart."""
    judged = {one.element for one in ranges}
    return {
        element: species
        for element, species in redox_species(host).items()
        if element not in judged and len(species) > 1
    }


def _alike(
    species: Sequence[Species], states: Mapping[str, float], known: Mapping[Species, object]
) -> bool:
    """Whether two states of an element have one moment, and no table tells them apart."""
    order = sorted(species, key=lambda one: spin_of(one, states))
    return any(
        spin_of(high, states) - spin_of(low, states) < _APART
        and not (low in known and high in known)
        for low, high in itertools.pairwise(order)
    )


def _derived(
    species: Sequence[Species], states: Mapping[str, float]
) -> dict[Species, tuple[float, float]]:
    order = sorted(species, key=lambda one: spin_of(one, states))
    edges = [0.0]
    for low, high in itertools.pairwise(order):
        below, above = spin_of(low, states), spin_of(high, states)
        middle, band = _SPHERE * (below + above) / 2, _AMBIGUOUS * (above - below)
        edges += [middle - band, middle + band]
    edges.append(float("inf"))
    return {one: (edges[2 * n], edges[2 * n + 1]) for n, one in enumerate(order)}


def _refuse_overlap(element: str, ranges: MomentRanges) -> None:
    ordered = sorted(ranges.items(), key=lambda pair: pair[1])
    for (one, (_, high)), (other, (low, _)) in itertools.pairwise(ordered):
        if low < high:
            raise DftError(
                f"moments cannot tell {one} from {other}: their ranges overlap; set [dft.moments] "
                f"for {element} in run.toml, or [dft.spin_states] that differ."
            )


def classify(
    asked: Decoration | None,
    atoms: Atoms,
    moments: NDArray[np.float64],
    ranges: MomentRanges,
    host: Host,
) -> Classified:
    """Return which decoration a result has, whatever was asked for.

    Parameters
    ----------
    asked
        The order that the calculation began with; None where it is not known.
    atoms
        Final structure, atoms in any sequence, in the host's supercell.
    moments
        (n_atoms,) in Bohr magnetons; the sign does not count.
    """
    sites = _sites(atoms, np.abs(moments), ranges)
    ambiguous = [site for site in sites if site.species is None]
    if ambiguous:
        return Classified("delocalised", None, atoms, sites, _ambiguity(ambiguous))
    others = unjudged(host, ranges)
    if others and asked is None:
        return Classified("delocalised", None, atoms, sites, _not_told(others))
    try:
        rest = {} if asked is None or not others else _as_asked(asked, atoms, others)
    except GasearchError as error:
        return Classified("delocalised", None, atoms, sites, str(error).rstrip("."))
    labelled = with_species(atoms, sites, host, rest)
    charge = round(float(labelled.get_initial_charges().sum()))
    if charge and host.declaration.charges == "integer":
        listed = ", ".join(f"{site.element} {site.index} {site.moment:.2f}" for site in sites)
        reason = f"the moments ({listed}) leave a charge of {charge:+d}"
        return Classified("delocalised", None, atoms, sites, reason)
    try:
        decoration = Decoration.from_atoms(host, labelled)
    except GasearchError as error:
        return Classified("delocalised", None, atoms, sites, str(error).rstrip("."))
    if asked is None or decoration.fingerprint == asked.fingerprint:
        return Classified("kept", decoration, labelled, sites, "")
    reason = f"{asked.fingerprint} became {decoration.fingerprint}"
    return Classified("moved", decoration, labelled, sites, reason)


def _sites(
    atoms: Atoms, moments: NDArray[np.float64], ranges: MomentRanges
) -> tuple[ClassifiedSite, ...]:
    elements = {species.element for species in ranges}
    found = []
    for index, element in enumerate(atoms.symbols):
        if element in elements:
            moment = float(moments[index])
            inside = [
                one
                for one, (low, high) in ranges.items()
                if one.element == element and low <= moment <= high
            ]
            found.append(ClassifiedSite(index, element, moment, inside[0] if inside else None))
    return tuple(found)


def _ambiguity(sites: Sequence[ClassifiedSite]) -> str:
    listed = ", ".join(f"{s.element} {s.index} has moment {s.moment:.2f}" for s in sites[:4])
    more = f" and {len(sites) - 4} more" if len(sites) > 4 else ""
    return f"{listed}{more}: outside the ranges of all oxidation states"


def _not_told(others: Mapping[str, Sequence[Species]]) -> str:
    listed = "; ".join(" and ".join(map(str, species)) for species in others.values())
    return f"moments do not tell apart {listed}"


def not_judged(others: Mapping[str, Sequence[Species]]) -> str:
    """Return what a user should know of `unjudged` elements, in one line."""
    return (
        f"{_not_told(others)}: results keep the order of {', '.join(others)} that was asked for; "
        "[dft.moments] may name ranges that do tell"
    )


def _as_asked(
    asked: Decoration, atoms: Atoms, elements: Mapping[str, object]
) -> dict[int, Species]:
    """Return the species that atoms of some elements were asked to have, by index, by place."""
    atom_at = map_sites(asked.host, atoms, _TOLERANCE).atom_at[asked.host.sites]
    pairs = zip(atom_at.tolist(), asked.species(), strict=True)
    return {atom: one for atom, one in pairs if atom >= 0 and one.element in elements}


def with_species(
    atoms: Atoms,
    sites: Sequence[ClassifiedSite],
    host: Host,
    rest: Mapping[int, Species] | None = None,
) -> Atoms:
    """Return a bare copy with labels: of the host, and on redox sites by moment.

    Parameters
    ----------
    rest
        Species of atoms that no moment tells, by index.
    """
    on_sublattices = (one for s in host.sublattices for one in s.species)
    fixed = {one.element: one for one in (*on_sublattices, *host.framework) if not one.is_vacancy}
    labels = {site.index: site.species for site in sites if site.species is not None}
    labels |= rest or {}
    species = [labels.get(n) or fixed.get(e) or Species(e, 0) for n, e in enumerate(atoms.symbols)]
    own = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell.array, pbc=True)
    own.set_initial_charges([float(one.charge) for one in species])
    own.set_initial_magnetic_moments([one.moment for one in species])
    return own
