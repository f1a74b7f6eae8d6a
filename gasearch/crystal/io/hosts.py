"""Hosts from structure files, and hosts as JSON text, from which a database alone rebuilds them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from gasearch.crystal.declaration import (
    MIN_SITE_DISTANCE,
    HostDeclaration,
    HostError,
    SublatticeDeclaration,
)
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import BUILTIN_HOSTS
from gasearch.crystal.io.guess.formula_units import formula_unit_of
from gasearch.crystal.io.guess.ions import Charges
from gasearch.crystal.io.guess.sublattices import guess
from gasearch.crystal.io.structures import (
    FULL,
    HostStructure,
    read_structure,
    refuse_partial_framework,
)
from gasearch.crystal.species import Species


def declare_from_file(
    path: str | Path,
    sublattices: Sequence[SublatticeDeclaration],
    framework: Mapping[str, Species],
    formula_unit: str | None = None,
    *,
    symprec: float = 0.01,
    min_site_distance: float = MIN_SITE_DISTANCE,
) -> HostDeclaration:
    """Return the declaration of a host whose unit cell is in a file.

    Partially filled working-ion sites become filled sites of the host; sites that redox elements
    share give the fractions of a free sublattice. Anything else must be full.

    Parameters
    ----------
    sublattices
        What may change; a site named by an element is one that holds any of it.
    framework
        Species of all other elements.
    formula_unit
        By default the reduced formula of the filled host.
    symprec, min_site_distance
        In Å; see `HostDeclaration`.
    """
    structure = read_structure(path)
    return _declare(structure, sublattices, framework, formula_unit, symprec, min_site_distance)


def guess_declaration(path: str | Path) -> HostDeclaration:
    """Return a declaration that suits the structure in a file; its author may know better.

    The working ion is the alkali metal, the redox elements are the transition metals, in the
    oxidation states that make the filled host neutral.
    """
    return declare_guess(read_structure(path))[0]


def declare_guess(
    structure: HostStructure, charges: Charges = "integer", moving: str | None = None
) -> tuple[HostDeclaration, tuple[str, ...]]:
    """Return a declaration that suits a structure, and what its author should know of it.

    See `gasearch.crystal.io.guess.sublattices.guess`.
    """
    found = guess(structure, charges, moving)
    declared = _declare(structure, found.sublattices, found.framework, found.formula_unit)
    return replace(declared, charges=found.charges), found.notes


def _declare(
    structure: HostStructure,
    sublattices: Sequence[SublatticeDeclaration],
    framework: Mapping[str, Species],
    formula_unit: str | None = None,
    symprec: float = 0.01,
    min_site_distance: float = MIN_SITE_DISTANCE,
) -> HostDeclaration:
    found = [_sites(structure, declared) for declared in sublattices]
    mobile = [site for sites in found for site in sites]
    refuse_partial_framework(structure, mobile)
    own = tuple(_resolve(structure, d, sites) for d, sites in zip(sublattices, found, strict=True))
    if formula_unit is None:
        charges = {element: float(species.charge) for element, species in framework.items()}
        formula_unit = formula_unit_of(_filled(structure, sublattices), mobile, charges)
    return HostDeclaration(
        name=structure.path.name,
        unit_cell=structure.atoms,
        sublattices=own,
        framework=dict(framework),
        formula_unit=formula_unit,
        symprec=symprec,
        min_site_distance=min_site_distance,
    )


def _filled(
    structure: HostStructure, sublattices: Sequence[SublatticeDeclaration]
) -> Sequence[Mapping[str, float]]:
    """Return the shares of the filled host; one element per site unless a sublattice is mixed.

    Runs have stored the formula unit of hosts that were declared without one.
    """
    if any(declared.kind == "mixed" for declared in sublattices):
        return structure.shares
    return [{symbol: 1.0} for symbol in structure.atoms.symbols]


def _sites(structure: HostStructure, declared: SublatticeDeclaration) -> list[int]:
    """Return the sites that a declaration names; the host itself refuses those that are not."""
    named = [site for site in declared.sites if isinstance(site, int)]
    for n, shares in enumerate(structure.shares):
        if any(element in declared.sites for element in shares):
            named.append(n)
    return sorted({site for site in named if 0 <= site < len(structure.atoms)})


def _resolve(
    structure: HostStructure, declared: SublatticeDeclaration, sites: list[int]
) -> SublatticeDeclaration:
    """Return the declaration with what the file's occupancies say about its sites."""
    _refuse_foreign_elements(structure, declared, sites)
    if declared.kind == "redox":
        _refuse_partial_redox(structure, sites)
    mixed = [n for n in sites if structure.is_mixed(n)]
    if mixed and not declared.is_free:
        raise HostError(
            f"{structure.path}: elements share {structure.describe(mixed)}, so that no site keeps "
            "one of them: declare the sublattice with elements = 'free'."
        )
    declared = replace(declared, sites=_named_for_host(structure, declared, sites))
    partial = declared.kind == "mixed" and not all(structure.is_full(n) for n in sites)
    if (mixed or partial) and not declared.fractions:
        declared = replace(declared, fractions=structure.fractions(sites))
    return declared


def _named_for_host(
    structure: HostStructure, declared: SublatticeDeclaration, sites: list[int]
) -> tuple[str | int, ...]:
    """Return the sites as a host reads them, which knows one element per site.

    By index where an element that is in the minority names some. What is not in the file at all is
    left for the host to refuse.
    """
    symbols = list(structure.atoms.symbols)
    present = {element for shares in structure.shares for element in shares}
    minor = {site for site in declared.sites if site in present}.difference(symbols)
    named = {n for n, symbol in enumerate(symbols) if symbol in declared.sites}
    if not minor and named.issuperset(n for n in sites if n not in declared.sites):
        return declared.sites
    absent = [s for s in declared.sites if s not in present and s not in sites]
    return (*sites, *absent)


def _refuse_foreign_elements(
    structure: HostStructure, declared: SublatticeDeclaration, sites: Sequence[int]
) -> None:
    known = {species.element for species in declared.species}
    foreign = [n for n in sites if not known.issuperset(structure.shares[n])]
    if foreign:
        raise HostError(
            f"{structure.path}: {structure.describe(foreign)} on the {declared.kind} sites, whose "
            f"declared species are {', '.join(map(str, declared.species))}: add the species, or "
            "take the minor element out of the file."
        )


def _refuse_partial_redox(structure: HostStructure, sites: Sequence[int]) -> None:
    partial = [n for n in sites if sum(structure.shares[n].values()) < FULL]
    if partial:
        raise HostError(
            f"{structure.path}: partially filled redox sites: {structure.describe(partial)}. "
            "Only working-ion sites may be empty."
        )


def host_to_json(host: Host) -> str:
    """Return the declaration and the supercell as canonical JSON; `host_from_json` reverses it.

    Numbers keep every bit; keys are sorted, so that equal hosts give equal texts.
    """
    declared = host.declaration
    cell = declared.unit_cell
    document = {
        "name": declared.name,
        "numbers": cell.numbers.tolist(),
        "cell": cell.cell.array.tolist(),
        "positions": cell.positions.tolist(),
        "sublattices": [_sublattice_to_dict(s) for s in declared.sublattices],
        "framework": {element: str(s) for element, s in declared.framework.items()},
        "formula_unit": declared.formula_unit,
        "symprec": declared.symprec,
        "min_site_distance": declared.min_site_distance,
        "supercell": host.matrix.tolist(),
    }
    if declared.charges != "integer":  # older hosts keep their text
        document["charges"] = declared.charges
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def host_from_json(text: str) -> Host:
    """Return the host that `host_to_json` wrote.

    k-points and note are not written: they are those that a built-in host of this name has now.
    """
    try:
        document = json.loads(text)
        declaration = _declaration_from_dict(document)
        supercell = document["supercell"]
    except (ValueError, KeyError, TypeError) as error:
        raise HostError(
            f"a host that cannot be read back ({type(error).__name__}: {error}): the text was not "
            "written by this version of gasearch, or is damaged."
        ) from error
    return Host.build(declaration, supercell)


def _sublattice_to_dict(declared: SublatticeDeclaration) -> dict[str, Any]:
    document: dict[str, Any] = {
        "kind": declared.kind,
        "sites": list(declared.sites),
        "species": [str(species) for species in declared.species],
        "elements": declared.elements,
        "fractions": dict(declared.fractions),
    }
    return document | ({"moves": declared.moves} if declared.moves else {})


def _declaration_from_dict(document: Mapping[str, Any]) -> HostDeclaration:
    builtin = BUILTIN_HOSTS[document["name"]]() if document["name"] in BUILTIN_HOSTS else None
    return HostDeclaration(
        name=document["name"],
        unit_cell=Atoms(
            numbers=document["numbers"],
            positions=np.array(document["positions"]),
            cell=np.array(document["cell"]),
            pbc=True,
        ),
        sublattices=tuple(
            SublatticeDeclaration(
                kind=own["kind"],
                sites=tuple(own["sites"]),
                species=tuple(Species.parse(text) for text in own["species"]),
                elements=own["elements"],
                fractions=dict(own["fractions"]),
                moves=own.get("moves", ""),
            )
            for own in document["sublattices"]
        ),
        framework={e: Species.parse(text) for e, text in document["framework"].items()},
        formula_unit=document["formula_unit"],
        symprec=document["symprec"],
        min_site_distance=document["min_site_distance"],
        charges=document.get("charges", "integer"),
        kpoints=builtin.kpoints if builtin else (),
        note=builtin.note if builtin else "",
    )
