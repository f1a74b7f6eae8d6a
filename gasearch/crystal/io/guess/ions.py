"""Which ions are on the sites of a structure, and which oxidation states they go through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, NoReturn

from ase.neighborlist import neighbor_list

from gasearch.crystal.declaration import MIN_SITE_DISTANCE, HostError
from gasearch.crystal.io.distances import most_filled
from gasearch.crystal.io.guess.valences import (
    ALKALI,
    COUPLES,
    OTHER_WORKING_IONS,
    ROUNDED,
    AmbiguousChargeError,
    RedoxIon,
    Window,
    ion_charge,
    states_at,
)
from gasearch.crystal.io.guess.valences import windows as windows_of
from gasearch.crystal.io.structures import FULL, HostStructure
from gasearch.crystal.species import Species

Charges = Literal["integer", "delocalised"]

_LOW_SPIN = {"Fe": (2, 3)}  # states of ions that carbon around them makes low-spin
_CARBON_BOND, _N_CARBON = 2.3, 4  # Å; neighbours of such an ion
_ANIONS = ("O", "F")


class Kind(NamedTuple):
    """What is alike on sites: an element in its state (None: to be found) and its spin state."""

    element: str
    state: float | None
    spin: str = ""


class NoGuessError(HostError):
    """A structure whose sublattices a user must declare."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.path}: the sublattices cannot be guessed: {self.problem}. Declare them in "
            "run.toml: [[host.sublattice]] with kind, sites and species, and the charges of all "
            "other elements in [host.framework]."
        )


class SiteIons:
    """The ions of a structure: what is on which site, what moves, what changes its charge.

    Attributes
    ----------
    shares
        Occupancies of every site; those of full sites add up to 1.
    moving, charge
        The element that leaves its sites, or "", and its charge in e.
    working
        Its sites.
    n_moving
        Its number in the cell, by the file.
    kinds
        Of each element on each site, by site and element.
    notes
        What a user should know, each as a sentence.
    """

    def __init__(self, structure: HostStructure, charges: Charges, moving: str | None) -> None:
        """Read the sites; `charges` and `moving` are those of `guess`."""
        self.structure = structure
        self.is_delocalised = charges == "delocalised"
        self.shares = [_normalised(own) for own in structure.shares]
        self.notes: list[str] = []
        self.moving = _moving_element(structure, moving)
        self.charge = self._ion_charge(self.moving) if self.moving else 0
        self.working = [n for n, own in enumerate(self.shares) if self.moving in own]
        if self.charge < 0 and moving is None:
            self.working = [n for n in self.working if sum(self.shares[n].values()) < FULL]
        self.n_moving = sum(self.shares[n][self.moving] for n in self.working)
        self.kinds = {(n, e): self._kind(n, e) for n, own in enumerate(self.shares) for e in own}
        self._merge_ordered()

    def _kind(self, site: int, element: str) -> Kind:
        stated = self.structure.stated(site).get(element)
        if element == self.moving and site in self.working:
            return Kind(element, float(self.charge))
        if self.is_delocalised:
            return Kind(element, 0.0 if element in COUPLES else self._charge_or_none(element))
        if element in COUPLES:
            return Kind(element, stated, "ls" if self._has_carbon(site, element) else "")
        if stated is not None and stated == round(stated):
            return Kind(element, stated)
        return Kind(element, float(self._ion_charge(element)))

    def _merge_ordered(self) -> None:
        """Give all ions of an element their mean state where the file has them ordered: 2+ and 3+.

        Mean states such as 2.5+ tell that sites differ, and are left.
        """
        amounts = self._amounts()
        for element in COUPLES:
            own = [kind for kind in amounts if kind.element == element]
            states = [kind.state for kind in own if kind.state is not None]
            if len(own) < 2 or len(states) < len(own) or any(s != round(s) for s in states):
                continue
            total = sum(amounts[kind] for kind in own)
            mean = sum(amounts[kind] * (kind.state or 0) for kind in own) / total
            for place, kind in self.kinds.items():
                if kind.element == element:
                    self.kinds[place] = kind._replace(state=mean)

    def _has_carbon(self, site: int, element: str) -> bool:
        atoms = self.structure.atoms
        if element not in _LOW_SPIN or "C" not in atoms.symbols:
            return False
        first, second = neighbor_list("ij", atoms, {(element, "C"): _CARBON_BOND})
        near = [j for i, j in zip(first, second, strict=True) if i == site]
        return len(near) >= _N_CARBON

    def _charge_or_none(self, element: str) -> float:
        try:
            return float(ion_charge(self.structure.atoms, element))
        except AmbiguousChargeError:
            return 0.0

    def _ion_charge(self, element: str) -> int:
        try:
            return ion_charge(self.structure.atoms, element)
        except AmbiguousChargeError as error:
            self.refuse(f"{error}; for the order of ions alone take --charges delocalised")

    # -- oxidation states ------------------------------------------------------------------------

    def windows(self) -> dict[Kind, Window]:
        """Return the states of the redox ions; they are neutral with some number of moving ions.

        None where charges are delocalised.
        """
        if self.is_delocalised:
            return {}
        ions, charge = self._redox_ions()
        ions = self._without_wrong_labels(ions, charge)
        states = states_at(list(ions.values()), charge)
        self._refuse_impossible(list(ions.values()), states, charge)
        more = self.charge * (self.n_moving - self.capacity())
        less = self.charge * self.n_moving
        reduced, oxidised = max(0.0, -more, -less), max(0.0, more, less)
        found = dict(
            zip(ions, windows_of(list(ions.values()), states, reduced, oxidised), strict=True)
        )
        self._refuse_fixed(found)
        return found

    def _redox_ions(self) -> tuple[dict[Kind, RedoxIon], float]:
        """Return the redox ions, and the charge that they have together in the file."""
        amounts = self._amounts()
        ions = {
            kind: RedoxIon(kind.element, amount, kind.state, kind.spin)
            for kind, amount in amounts.items()
            if kind.element in COUPLES and kind.element != self.moving
        }
        rest = sum(a * (kind.state or 0.0) for kind, a in amounts.items() if kind not in ions)
        return ions, -rest

    def _amounts(self) -> dict[Kind, float]:
        amounts: dict[Kind, float] = {}
        for (n, element), kind in self.kinds.items():
            amounts[kind] = amounts.get(kind, 0.0) + self.shares[n][element]
        return amounts

    def _without_wrong_labels(
        self, ions: dict[Kind, RedoxIon], charge: float
    ) -> dict[Kind, RedoxIon]:
        """Return the ions; without the states of the file if these make no neutral crystal.

        They may be those of the filled crystal, whatever the file's occupancies.
        """
        stated = [ion for ion in ions.values() if ion.stated is not None]
        left = charge - sum(ion.amount * (ion.stated or 0) for ion in stated)
        if not stated or (len(stated) < len(ions) and left > 0):
            return ions
        near = ROUNDED * max(1.0, sum(ion.amount for ion in ions.values()))
        is_known = all(ion.lowest <= (ion.stated or 0) <= ion.highest for ion in stated)
        filled = self.capacity()
        if is_known and abs(left) <= near:
            return ions
        if is_known and abs(left - self.charge * (filled - self.n_moving)) <= near:
            self.n_moving = filled
            return ions
        texts = ", ".join(f"{ion.element}{ion.stated:g}+" for ion in stated)
        self.notes.append(
            f"the oxidation states in {self.structure.path.name} ({texts}) leave a charge of "
            f"{-left:+.2f} e: they are not used"
        )
        return {kind: replace(ion, stated=None) for kind, ion in ions.items()}

    def _refuse_impossible(
        self, ions: Sequence[RedoxIon], states: Sequence[float], charge: float
    ) -> None:
        """Refuse a composition that no common states make neutral; ions may be too many for it."""
        held = sum(ion.amount * state for ion, state in zip(ions, states, strict=True))
        n_ions = sum(ion.amount for ion in ions)
        if abs(charge - held) <= ROUNDED * max(1.0, n_ions):
            return
        if not ions:
            elements = dict.fromkeys(e for own in self.shares for e in own)
            self.refuse(f"no redox element among {', '.join(elements)}")
        names, mean = ", ".join(dict.fromkeys(ion.element for ion in ions)), charge / n_ions
        too_many = (held - charge) / self.charge if self.charge > 0 else 0.0
        if not 0 < too_many < self.n_moving:
            self.refuse(
                f"the file's composition needs a mean charge of {mean:+.2f} on {names}, which "
                "they do not have in any common state"
            )
        self.notes.append(
            f"with all the {self.moving} of the file {names} would be {mean:+.2f}, lower than any "
            f"common state: {self.moving} is limited by charge, not by its sites"
        )

    def _refuse_fixed(self, found: Mapping[Kind, Window]) -> None:
        """Refuse a crystal in which ions could move, but none does: nothing balances the charge."""
        is_full = all(sum(self.shares[n].values()) >= FULL for n in self.working)
        is_shared = any(len(own) > 1 for own in self.shares)
        if not self.working or not is_full or is_shared or self.capacity() < len(self.working):
            return
        if any(len(own.states) > 1 for own in found.values()):
            return
        if not found:
            elements = dict.fromkeys(e for own in self.shares for e in own)
            self.refuse(f"no redox element among {', '.join(elements)}")
        ions = ", ".join(f"{kind.element}{own.high}+" for kind, own in found.items())
        self.refuse(
            f"{ions} cannot be oxidised further, so that {self.moving} leaves only if oxygen is "
            f"oxidised (redox of O), and no site is free for more {self.moving}: declare O2- and "
            "O- on the oxygen sites as a redox sublattice, or take --charges delocalised for the "
            "order of ions alone"
        )

    def capacity(self) -> float:
        """Return how many moving ions the cell can hold, sites that exclude each other once."""
        pure = [n for n in self.working if len(self.shares[n]) == 1]
        shared = [n for n in self.working if len(self.shares[n]) > 1]
        others = sum(s for n in shared for e, s in self.shares[n].items() if e != self.moving)
        return most_filled(self.structure.atoms, pure, MIN_SITE_DISTANCE) + len(shared) - others

    def n_at_most(self, found: Mapping[Kind, Window]) -> float:
        """Return how many moving ions the cell holds at most: by its sites, and by its charge."""
        if not self.working:
            return 0.0
        most = self.capacity()
        if not found:
            return most
        total = 0.0
        for kind, amount in self._amounts().items():
            if kind in found:
                total += amount * (found[kind].low if self.charge > 0 else found[kind].high)
            elif kind != Kind(self.moving, float(self.charge)):
                total += amount * (kind.state or 0.0)
        most = min(most, -total / self.charge)
        is_rounded = abs(most - self.n_moving) <= ROUNDED * len(self.shares)
        is_odd = abs(most - round(most)) > ROUNDED
        return self.n_moving if is_rounded and is_odd else most

    def species(self, kind: Kind, found: Mapping[Kind, Window]) -> tuple[Species, ...]:
        """Return what ions of a kind may be."""
        if kind not in found:
            return (Species(kind.element, round(kind.state or 0)),)
        return tuple(with_spin(kind, state) for state in found[kind].states)

    def refuse(self, problem: str) -> NoReturn:
        """Raise the error that names a problem."""
        raise NoGuessError(str(self.structure.path), problem)


def _normalised(shares: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of a site; nearly full ones add up to 1."""
    total = sum(shares.values())
    scale = 1 / total if total >= FULL else 1.0
    return {element: share * scale for element, share in shares.items()}


def with_spin(kind: Kind, state: int) -> Species:
    """Return the species of a kind in an oxidation state."""
    return Species(kind.element, state, "ls" if kind.spin else "")


def _moving_element(structure: HostStructure, asked: str | None) -> str:
    """Return the element that leaves its sites, or "" if none does."""
    present = dict.fromkeys(e for own in structure.shares for e in own)
    if asked is not None:
        if asked not in present:
            raise HostError(
                f"--moving {asked}: {structure.path} holds {', '.join(present)} and no {asked}."
            )
        return asked
    for table in (ALKALI, OTHER_WORKING_IONS):
        candidates = [e for e in present if e in table]
        if table is OTHER_WORKING_IONS:
            candidates = [e for e in candidates if not _is_shared(structure, e)]
        if len(candidates) > 1:
            candidates = [e for e in candidates if _is_partial(structure, e)] or candidates
        if len(candidates) > 1:
            raise NoGuessError(
                str(structure.path),
                f"{' or '.join(candidates)} may be what moves: name it, as in "
                f"--moving {candidates[0]}",
            )
        if candidates:
            return candidates[0]
    return next((e for e in _ANIONS if e in present and _is_partial(structure, e)), "")


def _is_shared(structure: HostStructure, element: str) -> bool:
    return any(element in own and len(own) > 1 for own in structure.shares)


def _is_partial(structure: HostStructure, element: str) -> bool:
    """Whether an element is on sites that are not full."""
    return any(element in own and sum(own.values()) < FULL for own in structure.shares)
