"""What the states of a host's redox elements look like to a potential: the ranges of a hold.

The ends of the composition range are relaxed with the potential alone, which knows elements only.
There all sites of an element have one oxidation state, or one mean of two, so that nothing is to be
ordered: their mean moments and valence sums show what each state looks like. Where several elements
share the charge of an end, the valence sums say which of them has it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.species import MomentRanges, Species, species_of
from gasearch.errors import UsageError
from gasearch.potentials.contract import Batch, Potential
from gasearch.potentials.held.hold import (
    HINGE,
    STIFFNESS,
    UNITS,
    By,
    Hold,
    NothingToHoldError,
    held_ranges,
)
from gasearch.potentials.held.potential import held
from gasearch.potentials.held.valence import BondReader, NoBondParameterError, bond_lengths
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.moment_reader import MomentReader, chgnet_reader, load_reader
from gasearch.relax.settings import RelaxSettings
from gasearch.seeding import named_rng

_RATTLE = 0.05  # Å, of the start
_MARGIN = 0.4  # Bohr magnetons; 0.4 either side is what relaxed sites of olivine show
_MEASURED_ON = ("nafepo4-olivine", "lifepo4-olivine")
_SAME_STATE = 1e-6  # e
_LEAST_VALENCE = 0.3  # of a site that is bound to anything
DELOCALISED = "charges are delocalised"
_MIDDLE = 1e-6  # a hinge of an audit: the walls meet in the middle


class CannotCalibrateError(UsageError):
    """A host whose states cannot be told apart by what its end members look like."""

    def __init__(self, potential: str, problem: str) -> None:
        super().__init__(potential, problem)
        self.potential = potential
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"potential {self.potential!r} cannot be held on this host: {self.problem}. Take "
            'another potential or another hold ("auto" tries both), or hold = "off" with '
            "allow_charge_blind = true."
        )


@dataclass(frozen=True)
class Look:
    """What the sites of one element look like at one end of the range.

    Parameters
    ----------
    element
        Of the sites.
    state
        Mean oxidation state by the labels, in e.
    moment
        Mean magnetic moment, in Bohr magnetons; None for a potential without any.
    valence
        Mean bond valence sum; None where bonds have no parameters.
    """

    element: str
    state: float
    moment: float | None
    valence: float | None

    def value(self, by: By) -> float | None:
        """Return the quantity that a hold goes by."""
        return self.moment if by == "moments" else self.valence


@dataclass(frozen=True)
class Calibration:
    """A hold for a host, and how to read what comes out of it.

    Parameters
    ----------
    hold
        What the potential is held by.
    values
        Moment and valence sum of each species, by quantity, as measured or extended from there.
    judged_by
        The other quantity, by which relaxed structures are judged, and the ranges there; empty
        where its states look alike, for what cannot see a difference condemns nobody.
    by_proportion
        Elements that have one state at both ends: valence sums of their other states are taken in
        proportion to the charge.
    """

    hold: Hold
    values: Mapping[By, Mapping[Species, float]]
    judged_by: Mapping[By, Mapping[Species, tuple[float, float]]]
    by_proportion: tuple[str, ...] = ()

    def in_words(self) -> list[str]:
        """Return what was measured, a line for each quantity."""
        lines = []
        for by, values in self.values.items():
            shown = ", ".join(f"{species} {value:.2f}" for species, value in sorted(values.items()))
            is_guessed = self.by_proportion and by == "bonds"
            guessed = f" ({', '.join(self.by_proportion)} in proportion to the charge)"
            lines.append(f"{by}: {shown} {UNITS[by]}{guessed if is_guessed else ''}")
        return [*lines, f"held by {self.hold.by}: {self.hold.in_words()}"]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON writes it, for the record of a run."""
        return {
            "hold": self.hold.to_json(),
            "values": {
                by: {str(species): value for species, value in sorted(values.items())}
                for by, values in self.values.items()
            },
            "judged_by": {
                by: Hold(by, ranges, 1.0).to_json()["ranges"]
                for by, ranges in self.judged_by.items()
            },
            **({"by_proportion": list(self.by_proportion)} if self.by_proportion else {}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Calibration:
        """Return the calibration that `to_json` wrote."""
        empty = {"stiffness": 1.0, "bond_lengths": {}}
        return cls(
            Hold.from_json(document["hold"]),
            {
                by: {Species.parse(text): float(value) for text, value in values.items()}
                for by, values in document["values"].items()
            },
            {
                by: Hold.from_json({"by": by, "ranges": ranges, **empty}).ranges
                for by, ranges in document["judged_by"].items()
            },
            tuple(document.get("by_proportion", ())),
        )

    def moment_ranges(self) -> MomentRanges:
        """Return by which moments a result is judged; {} where moments tell nothing."""
        return self.judged_by.get("moments", {})

    def bond_reader(self) -> BondReader | None:
        """Return what judges results by their bonds; None where bonds tell nothing."""
        ranges = self.judged_by.get("bonds")
        return BondReader(self.hold.bond_lengths, ranges) if ranges else None


@dataclass(frozen=True)
class Windows:
    """Which moments mean which species to a reader on one host, and what it cannot tell.

    Parameters
    ----------
    reader
        Name of the potential whose moments they are.
    ranges
        Lowest and highest moment of each species that is judged, in Bohr magnetons.
    alike
        Why the order of an element is not judged, by element.
    """

    reader: str
    ranges: MomentRanges
    alike: Mapping[str, str]

    def in_words(self) -> list[str]:
        """Return what a user should know, a line for what is judged and one for what is not."""
        told = [f"{s} {low:.2f} to {high:.2f}" for s, (low, high) in sorted(self.ranges.items())]
        lines = [f"moments of {self.reader} on this host: {', '.join(told)}"] if told else []
        if self.alike and DELOCALISED not in self.alike.values():
            reasons = "; ".join(dict.fromkeys(self.alike.values()))
            lines.append(f"the charge order of {', '.join(self.alike)} is not judged: {reasons}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return them as JSON writes them, for the record of a run."""
        ranges = {str(species): list(own) for species, own in sorted(self.ranges.items())}
        return {"reader": self.reader, "ranges": ranges, "alike": dict(self.alike)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Windows:
        """Return the windows that `to_json` wrote."""
        ranges = {
            Species.parse(text): (float(low), float(high))
            for text, (low, high) in document["ranges"].items()
        }
        return cls(document["reader"], ranges, dict(document["alike"]))


def windows_for(
    host: Host, base: Potential, reader: str, *, is_held: bool, device: str = "cpu"
) -> Windows | None:
    """Return the windows that a new run on a host needs; None where others are known to fit.

    They are needed for readers that were not trained on the host. The olivines of Na and Li with
    iron, on which the table of CHGNet was measured, need none.
    """
    if host.declaration.charges == "delocalised":
        elements = dict.fromkeys(s.element for s in host.framework if s.moment)
        return Windows(base.name, {}, dict.fromkeys(elements, DELOCALISED))
    if host.declaration.name in _MEASURED_ON or not host.species_by_element:
        return None
    if reader == "chgnet":
        return moment_windows(host, chgnet_reader(device).potential)
    is_own = isinstance(base, NetworkPotential) and base.network.has_moments
    if is_held or not isinstance(base, NetworkPotential) or not is_own or base.card.domain:
        return None
    return moment_windows(host, base)


def moment_windows(host: Host, reader: Potential, settings: RelaxSettings | None = None) -> Windows:
    """Relax the ends of a host's range with a reader of moments, and return its windows.

    Halfway between two states one ends and the other begins; the outer sides lie as far from the
    outermost moments as the states from each other, 0.4 Bohr magnetons at least. States that are
    closer than a hold would need are not judged.
    """
    states = host.species_by_element
    try:
        looks = _looks(_small(host), reader, states, {}, settings or RelaxSettings())
    except CannotCalibrateError as error:
        return Windows(reader.name, {}, dict.fromkeys(states, error.problem))
    ranges: dict[Species, tuple[float, float]] = {}
    alike: dict[str, str] = {}
    for element, species in states.items():
        try:
            values = _values("moments", {element: species}, looks, "")
            ranges |= _closed(held_ranges("moments", values, _MIDDLE), values)
        except UsageError as error:
            alike[element] = _short(error)
    return Windows(reader.name, ranges, alike)


def _short(error: UsageError) -> str:
    if isinstance(error, NothingToHoldError):
        one, other = error.values
        return f"{error.first} and {error.second} look alike ({one:.2f} and {other:.2f})"
    return str(error).rstrip(".")


def _closed(
    ranges: Mapping[Species, tuple[float, float]], values: Mapping[Species, float]
) -> dict[Species, tuple[float, float]]:
    """Return the ranges with ends where they have none."""
    ordered = sorted(values.values())
    margin = max(_MARGIN, *(high - low for low, high in itertools.pairwise(ordered)))
    found = {}
    for species, (low, high) in ranges.items():
        bottom = max(0.0, values[species] - margin) if math.isinf(low) else low
        top = values[species] + margin if math.isinf(high) else high
        found[species] = (round(bottom, 4), round(top, 4))
    return found


def _small(host: Host) -> Host:
    """Return the unit cell of a host where it spans the same range, else the host itself."""
    try:
        unit = Host.build(host.declaration, (1, 1, 1))
    except UsageError:
        return host
    ends = [(one.compositions[0].x, one.compositions[-1].x) for one in (unit, host)]
    return unit if ends[0] == ends[1] else host


def with_hold(
    base: Potential,
    calibration: Mapping[str, Any] | None,
    reader: str,
    windows: Mapping[str, Any] | None = None,
) -> tuple[Potential, MomentReader | None]:
    """Return what relaxes, and what reads its results besides its own moments.

    Parameters
    ----------
    calibration
        Of a hold, as `Calibration.to_json` writes it; None where the potential is not held.
    reader
        As in run.toml: "own", which for a held potential is the quantity that it is not held by,
        or "chgnet".
    windows
        Of the reader on this host, as `Windows.to_json` writes them; None for those it comes with.
    """
    ranges = None if windows is None else Windows.from_json(windows).ranges
    named = load_reader(reader, base.device, ranges)
    if calibration is None:
        if ranges is not None and named is None and isinstance(base, NetworkPotential):
            card = replace(base.card, moment_ranges=ranges)
            base = NetworkPotential(base.network, card, base.device)
        return base, named
    known = Calibration.from_json(calibration)
    potential = held(base, known.hold, known.moment_ranges())
    return potential, named or known.bond_reader()


def calibrate(
    host: Host,
    potential: Potential,
    by: By | Literal["auto"] = "auto",
    *,
    stiffness: float | None = None,
    hinge: float = HINGE,
    settings: RelaxSettings | None = None,
) -> Calibration:
    """Relax the ends of a host's range, and return what its states can be held by.

    Parameters
    ----------
    potential
        Not held, and blind to oxidation states.
    by
        "auto": moments where these tell the states apart, else bonds.
    stiffness
        In eV per squared unit of the quantity; by the quantity if None.
    hinge
        Where a hold begins, beyond the middle between two states, as a share of their difference.

    Raises
    ------
    CannotCalibrateError
        Where neither quantity, or not the one that is asked for, tells the states apart.
    """
    states = host.species_by_element
    if not states:
        raise CannotCalibrateError(potential.name, "no element has two oxidation states")
    lengths, no_lengths = _lengths(host, states)
    looks = _looks(host, potential, states, lengths, settings or RelaxSettings())
    problems: dict[By, str] = {}
    values: dict[By, dict[Species, float]] = {}
    ranges: dict[By, dict[Species, tuple[float, float]]] = {}
    judged: dict[By, Mapping[Species, tuple[float, float]]] = {}
    quantities: tuple[By, ...] = ("moments", "bonds")
    for one in quantities:
        try:
            values[one] = _values(one, states, looks, no_lengths)
            ranges[one] = held_ranges(one, values[one], hinge)
            judged[one] = held_ranges(one, values[one], _MIDDLE)
        except UsageError as error:
            problems[one] = str(error).rstrip(".")
    if not (isinstance(potential, NetworkPotential) and potential.network.has_moments):
        ranges.pop("moments", None)
        problems.setdefault("moments", "it gives no moments that can be differentiated")
    chosen = next((one for one in quantities if by in (one, "auto") and one in ranges), None)
    if chosen is None:
        told = problems.values() if by == "auto" else [problems[by]]
        raise CannotCalibrateError(potential.name, "; ".join(told))
    hold = Hold(chosen, ranges[chosen], stiffness or STIFFNESS[chosen], lengths)
    others = {one: found for one, found in judged.items() if one != chosen}
    by_proportion = _of_one_state(looks, states) if "bonds" in values else ()
    return Calibration(hold, values, others or {chosen: judged[chosen]}, by_proportion)


def _lengths(host: Host, states: Mapping[str, Any]) -> tuple[dict[str, float], str]:
    """Return the bond parameters of the host, or why there are none."""
    anions = {species.element for species in host.framework if species.charge < 0}
    if not anions:
        return {}, "the host has no anions"
    try:
        lengths = bond_lengths(states, anions)
        atoms = Decoration.random(host, host.compositions[-1], named_rng(0, "sites")).to_atoms()
        return lengths, _without_anions(atoms, states, lengths)
    except NoBondParameterError as error:
        return {}, str(error).rstrip(".")
    except ModuleNotFoundError:
        return {}, "bond parameters come from pymatgen: pip install 'gasearch[report]'"


def _without_anions(atoms: Atoms, states: Mapping[str, Any], lengths: Mapping[str, float]) -> str:
    """Return which redox site of the undistorted host has no bond that could be held, or ""."""
    sums = BondReader(lengths, {}).read(atoms)
    for i, symbol in enumerate(atoms.symbols):
        if symbol in states and sums[i] < _LEAST_VALENCE:
            return f"{symbol} {i} has no anion near it (bond valence sum {sums[i]:.2f})"
    return ""


def _looks(
    host: Host,
    potential: Potential,
    states: Mapping[str, Any],
    lengths: Mapping[str, float],
    settings: RelaxSettings,
) -> list[Look]:
    """Return what the elements look like in the relaxed ends of the range."""
    ends = dict.fromkeys((host.compositions[0], host.compositions[-1]))
    starts = []
    for number, composition in enumerate(ends):
        rng = named_rng(number, "calibration")
        atoms = Decoration.random(host, composition, rng).to_atoms()
        atoms.positions += rng.normal(0.0, _RATTLE, atoms.positions.shape)
        starts.append((number, atoms))
    found = []
    for _, relaxed in sorted(BatchRelaxer(potential, settings).relax(starts), key=lambda r: r[0]):
        if relaxed.verdict in ("broken", "failed"):
            problem = f"{relaxed.atoms.symbols} does not relax with it ({relaxed.reason})"
            raise CannotCalibrateError(potential.name, problem)
        found += _looks_of(relaxed.atoms, potential, states, lengths)
    return found


def _looks_of(
    atoms: Atoms,
    potential: Potential,
    states: Mapping[str, tuple[Species, ...]],
    lengths: Mapping[str, float],
) -> list[Look]:
    moments = potential.evaluate(Batch.from_atoms([atoms], potential.device)).moments
    by_atom = None if moments is None else moments.abs().cpu().numpy()
    sums = BondReader(lengths, {}).read(atoms) if lengths else None
    species = species_of(atoms)  # those of the framework are left out: they may be low spin
    sites = {e: np.flatnonzero([one in own for one in species]) for e, own in states.items()}
    sites = {element: own for element, own in sites.items() if len(own)}
    means = _mean_states(atoms, {e: states[e] for e in sites}, sites, sums)
    return [
        Look(element, means[element], _mean(by_atom, own), _mean(sums, own))
        for element, own in sites.items()
    ]


def _mean_states(
    atoms: Atoms,
    states: Mapping[str, tuple[Species, ...]],
    sites: Mapping[str, NDArray[np.int64]],
    sums: NDArray[np.float64] | None,
) -> dict[str, float]:
    """Return the mean oxidation state of each element at an end of the range.

    Where several elements share the charge, as Ni3+ and Fe2+ or Ni2+ and Fe3+ do, labels are drawn
    at random and a blind potential follows none of them: then it is the division that comes nearest
    to the valence sums, which measure oxidation states.
    """
    charges = atoms.get_initial_charges()
    totals = {element: round(float(charges[own].sum())) for element, own in sites.items()}
    if sums is not None and len(sites) > 1:
        ranges = [
            range(own[0].charge * len(sites[e]), own[-1].charge * len(sites[e]) + 1)
            for e, own in states.items()
        ]
        seen = np.array([_mean(sums, sites[e]) for e in states])
        n_sites = np.array([len(sites[e]) for e in states])
        possible = (p for p in itertools.product(*ranges) if sum(p) == sum(totals.values()))
        nearest = min(possible, key=lambda p: float((n_sites * (p / n_sites - seen) ** 2).sum()))
        totals = dict(zip(states, nearest, strict=True))
    return {element: total / len(sites[element]) for element, total in totals.items()}


def _mean(values: NDArray[np.float64] | None, sites: NDArray[np.int64]) -> float | None:
    return None if values is None else float(values[sites].mean())


def _values(
    by: By, states: Mapping[str, tuple[Species, ...]], looks: list[Look], no_lengths: str
) -> dict[Species, float]:
    """Return the quantity of each species, on the line through what the ends look like.

    The valence sums of an element that has one state at both ends are in proportion to the charge.
    """
    if by == "bonds" and no_lengths:
        raise UsageError(no_lengths)
    values: dict[Species, float] = {}
    for element, species in states.items():
        points = [
            (look.state, value)
            for look in looks
            if look.element == element and (value := look.value(by)) is not None
        ]
        if not points:
            raise UsageError("it gives no moments")
        x, y = np.array(points).T
        if np.ptp(x) > _SAME_STATE:
            slope, origin = np.polyfit(x, y, 1)
        elif by == "bonds":
            slope, origin = y.mean() / x.mean(), 0.0
        else:
            raise UsageError(f"both ends of the range have the same state of {element}")
        values |= {one: float(origin + slope * one.charge) for one in species}
    return values


def _of_one_state(looks: list[Look], states: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the elements that have the same state at both ends of the range."""
    by_element = {e: [look.state for look in looks if look.element == e] for e in states}
    return tuple(e for e, own in by_element.items() if own and np.ptp(own) <= _SAME_STATE)
