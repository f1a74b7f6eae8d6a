"""What a structure file suggests: what moves, what changes its charge. For the user to correct.

Oxidation states and their order are in `valences`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gasearch.crystal.declaration import SublatticeDeclaration
from gasearch.crystal.io.guess.formula_units import formula_unit_of
from gasearch.crystal.io.guess.ions import Charges, Kind, SiteIons, with_spin
from gasearch.crystal.io.guess.valences import COUPLES, Window
from gasearch.crystal.io.structures import FULL, HostStructure
from gasearch.crystal.species import VACANCY, Species

States = Mapping[Kind, Window]


@dataclass(frozen=True)
class Guess:
    """What a structure suggests.

    Parameters
    ----------
    sublattices, framework, formula_unit, charges
        As `HostDeclaration` has them; the formula unit is that of x = 1.
    notes
        What a user should know of it, each as a sentence.
    """

    sublattices: tuple[SublatticeDeclaration, ...]
    framework: Mapping[str, Species]
    formula_unit: str
    charges: Charges = "integer"
    notes: tuple[str, ...] = ()


def guess(
    structure: HostStructure, charges: Charges = "integer", moving: str | None = None
) -> Guess:
    """Return the sublattices, the framework and the formula unit that a structure suggests.

    Oxidation states are those that the file states; else electrons leave the transition metals in
    the order of their usual potentials until the file's composition is neutral. The range is what
    common states allow, from the fullest to the emptiest.

    Parameters
    ----------
    charges
        "delocalised": no oxidation states, the order of ions alone.
    moving
        The element that leaves its sites; by default the alkali metal, or Mg, Ca, Zn; oxygen or
        fluorine where none is there and the file has vacancies of it.
    """
    ions = SiteIons(structure, charges, moving)
    found = ions.windows()
    species = {kind: ions.species(kind, found) for kind in dict.fromkeys(ions.kinds.values())}
    sublattices = tuple(_sublattices(ions, species))
    if not sublattices:
        _refuse_full(ions, found)
    mobile = {n for own in sublattices for n in _sites_of(ions, own)}
    return Guess(
        sublattices,
        _framework(ions, mobile, species),
        _formula_unit(ions, sublattices, found),
        charges,
        tuple(ions.notes),
    )


def _sublattices(
    ions: SiteIons, species: Mapping[Kind, tuple[Species, ...]]
) -> Iterable[SublatticeDeclaration]:
    """Yield what moves, then what changes its charge alone, then what else shares sites."""
    pure = [n for n in ions.working if len(ions.shares[n]) == 1]
    if pure:
        ion = Species(ions.moving, ions.charge)
        yield SublatticeDeclaration("working_ion", _names(ions, pure), (ion, VACANCY))
    full: list[tuple[dict[str, tuple[Species, ...]], list[int]]] = []
    shared: dict[tuple[bool, bool, tuple[Species, ...]], list[int]] = {}
    for n in sorted(set(range(len(ions.shares))).difference(pure)):
        own = ions.shares[n]
        is_partial = sum(own.values()) < FULL
        if len(own) > 1 or is_partial:
            elements = sorted(own, key=lambda e: (e != ions.moving, e))
            held = tuple(s for e in elements for s in species[ions.kinds[n, e]])
            shared.setdefault((n in ions.working, is_partial, held), []).append(n)
        elif len(states := species[ions.kinds[n, next(iter(own))]]) > 1:
            _add_full(full, next(iter(own)), states, n)
    groups = sorted(shared.items(), key=lambda item: item[1])
    others = [_shared(ions, sites, *what) for what, sites in groups]
    yield from (declared for declared in others if declared.moving)
    for by_element, sites in full:
        held = tuple(s for states in by_element.values() for s in states)
        yield SublatticeDeclaration("redox", _names(ions, sites), held)
    yield from (declared for declared in others if not declared.moving)


def _shared(
    ions: SiteIons, sites: Sequence[int], moves: bool, is_partial: bool, held: tuple[Species, ...]
) -> SublatticeDeclaration:
    """Return the sublattice of sites that several species share, vacancies among them."""
    fractions = ions.structure.fractions(sites)
    names = _names(ions, sites)
    if not moves and not is_partial:
        return SublatticeDeclaration("redox", names, held, "free", fractions)
    held = (*held, VACANCY)
    if not moves:
        return SublatticeDeclaration("mixed", names, held, "free", fractions)
    kept = {e: share for e, share in fractions.items() if e != ions.moving}
    return SublatticeDeclaration("mixed", names, held, "free", kept, moves=ions.moving)


def _names(ions: SiteIons, sites: Sequence[int]) -> tuple[str | int, ...]:
    """Return the element symbols that mean just these sites, or else their indices."""
    names = dict.fromkeys(ions.structure.atoms.symbols[n] for n in sites)
    meant = [n for n, own in enumerate(ions.shares) if any(e in own for e in names)]
    return tuple(names) if meant == sorted(sites) else tuple(sites)


def _sites_of(ions: SiteIons, declared: SublatticeDeclaration) -> list[int]:
    return [
        n
        for n, own in enumerate(ions.shares)
        if n in declared.sites or any(e in declared.sites for e in own)
    ]


def _framework(
    ions: SiteIons, mobile: set[int], species: Mapping[Kind, tuple[Species, ...]]
) -> dict[str, Species]:
    found: dict[str, Species] = {}
    for (n, element), kind in ions.kinds.items():
        if n in mobile:
            continue
        (own,) = species[kind]
        if found.setdefault(element, own) != own:
            ions.refuse(
                f"{element} is {found[element]} on some sites of the framework and {own} on "
                "others, where one species stands for an element"
            )
    return found


def _refuse_full(ions: SiteIons, found: States) -> None:
    held = dict.fromkeys(str(with_spin(kind, own.low)) for kind, own in found.items())
    ions.refuse(
        f"every site is full and every charge is fixed ({', '.join(held) or 'no redox element'}), "
        "so that nothing can be ordered; if anions leave the crystal name them, as in --moving O"
    )


def _formula_unit(
    ions: SiteIons, sublattices: Sequence[SublatticeDeclaration], found: States
) -> str:
    kinds = [
        sorted({str(ions.kinds[n, element]) for element in own})
        for n, own in enumerate(ions.shares)
    ]
    return formula_unit_of(
        ions.shares,
        [n for own in sublattices for n in _sites_of(ions, own)],
        {k.element: k.state or 0.0 for k in ions.kinds.values() if k.element not in COUPLES},
        (ions.moving, ions.working, ions.n_at_most(found)),
        kinds,
    )


def _add_full(
    full: list[tuple[dict[str, tuple[Species, ...]], list[int]]],
    element: str,
    states: tuple[Species, ...],
    site: int,
) -> None:
    """Put a site into the first declaration in which its element has the same species."""
    for by_element, sites in full:
        if by_element.setdefault(element, states) == states:
            sites.append(site)
            return
    full.append(({element: states}, [site]))
