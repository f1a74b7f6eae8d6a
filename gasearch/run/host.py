"""[host] of run.toml, and the host that it describes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from gasearch.crystal.declaration import HostDeclaration, SublatticeDeclaration
from gasearch.crystal.host import Composition, Host
from gasearch.crystal.io.builtin import BUILTIN_HOSTS, builtin_host
from gasearch.crystal.io.hosts import declare_from_file
from gasearch.crystal.io.supercells import formula_units_in, supercell_of
from gasearch.crystal.species import Species
from gasearch.plugins import nearest
from gasearch.run.sections import RunFileError, SearchSection
from gasearch.settings import REQUIRED, AtLeastOne, Count, Positive, Section, Share, Whole, key

Row = tuple[Whole, Whole, Whole]


class SublatticeSection(Section):
    """[[host.sublattice]]: sites of the structure file, and what they may hold."""

    fixed = True

    kind: Literal["working_ion", "redox", "mixed"] = key(
        REQUIRED,
        '"working_ion": moves in and out; "redox": changes its charge; "mixed": any species',
    )
    sites: tuple[str | Count, ...] | str = key(REQUIRED, "elements, or indices from 0")
    species: tuple[str, ...] = key(REQUIRED, "what a site may hold")
    elements: Literal["fixed", "free"] = key(
        "fixed", '"free": elements may exchange places, as Fe and Mn'
    )
    fractions: dict[str, Share] = key({}, "share of each element, where they are free")
    moves: str = key("", "the element that comes and goes on mixed sites")

    @field_validator("sites", mode="before")
    @classmethod
    def _sites_named(cls, sites: Any) -> Any:
        named = [sites] if isinstance(sites, str) else sites
        if not isinstance(named, list | tuple) or not all(_is_site(site) for site in named):
            raise ValueError('expected elements such as ["Fe", "Mn"], or indices from 0')
        return sites

    @field_validator("species")
    @classmethod
    def _known_species(cls, species: tuple[str, ...]) -> tuple[str, ...]:
        if len(species) < 2:
            raise ValueError('expected at least two species, such as ["Na+", "vacancy"]')
        for text in species:
            Species.parse(text)
        return species


class HostSection(Section):
    """[host]: the crystal."""

    fixed = True

    structure: str = key(REQUIRED, "a built-in host, or a structure file")
    supercell: Row | tuple[Row, Row, Row] | AtLeastOne | str = key(
        REQUIRED,
        'three repeats, or three rows of a 3x3 matrix; 4 or "12 f.u.": the most compact cell of so '
        "many unit cells or formula units",
    )
    formula_unit: str | None = key(None, "energies are per this unit")
    symprec: Positive | None = key(None, "tolerance of the symmetry search", "Å")
    min_site_distance: Positive | None = key(None, "closer sites exclude each other", "Å")
    charges: Literal["integer", "delocalised"] = key(
        "integer", '"delocalised": vacancy order alone, no neutrality'
    )
    sublattice: tuple[SublatticeSection, ...] = key(
        (), "sites of the structure file, and what they may hold"
    )
    framework: dict[str, str] = key({}, "charges of all other elements")

    @field_validator("supercell", mode="before")
    @classmethod
    def _repeats_or_matrix(cls, supercell: Any) -> Any:
        if _is_whole(supercell) and supercell >= 1:
            return supercell
        if isinstance(supercell, str) and formula_units_in(supercell):
            return supercell
        rows = supercell if isinstance(supercell, list | tuple) else []
        is_matrix = len(rows) == 3 and all(_are_whole(row) for row in rows)
        if not (is_matrix or (_are_whole(supercell) and min(supercell) >= 1)):
            raise ValueError(
                "expected three repeats of at least 1, such as [1, 2, 1], three rows of a 3x3 "
                "matrix of whole numbers, a number of unit cells such as 4, or of formula units "
                "such as '12 f.u.'"
            )
        return supercell

    @field_validator("sublattice", mode="before")
    @classmethod
    def _several_tables(cls, sublattice: Any) -> Any:
        if isinstance(sublattice, dict):
            raise ValueError("write each one as [[host.sublattice]], in double brackets")  # noqa: TRY004 -- pydantic's rule
        return sublattice

    @field_validator("framework")
    @classmethod
    def _known_framework(cls, framework: dict[str, str]) -> dict[str, str]:
        for text in framework.values():
            Species.parse(text)
        return framework


def _is_site(site: object) -> bool:
    is_index = isinstance(site, int) and not isinstance(site, bool) and site >= 0
    return is_index or isinstance(site, str)


def _are_whole(values: Any) -> bool:
    """Return whether values are three whole numbers."""
    is_row = isinstance(values, list | tuple) and len(values) == 3
    return is_row and all(map(_is_whole, values))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def build_host(section: HostSection, folder: Path) -> Host:
    """Return the host that [host] of a run.toml describes; files are looked up from `folder`."""
    declaration = _declaration(section, folder)
    return Host.build(declaration, supercell_of(declaration, section.supercell))


def _declaration(section: HostSection, folder: Path) -> HostDeclaration:
    sublattices = tuple(_sublattice(declared) for declared in section.sublattice)
    framework = {element: Species.parse(text) for element, text in section.framework.items()}
    if section.structure in BUILTIN_HOSTS:
        built_in = builtin_host(section.structure)
        declaration = replace(
            built_in,
            sublattices=sublattices or built_in.sublattices,
            framework={**built_in.framework, **framework},
        )
    else:
        declaration = _from_file(section, folder, sublattices, framework)
    given = section.model_dump(include={"formula_unit", "symprec", "min_site_distance"})
    given["charges"] = None if section.charges == "integer" else section.charges
    return replace(declaration, **{key: value for key, value in given.items() if value is not None})


def _from_file(
    section: HostSection,
    folder: Path,
    sublattices: Sequence[SublatticeDeclaration],
    framework: dict[str, Species],
) -> HostDeclaration:
    path = folder / section.structure
    if not path.exists():
        raise RunFileError(
            f"host.structure = {section.structure!r}: no built-in host"
            f"{nearest(section.structure, BUILTIN_HOSTS)} ({', '.join(BUILTIN_HOSTS)}), "
            f"and there is no file {path}."
        )
    if not sublattices:
        raise RunFileError(
            "a host from a file needs [[host.sublattice]] tables: "
            f"`gasearch init FOLDER --host {section.structure}` writes a first guess of them."
        )
    return declare_from_file(path, sublattices, framework, section.formula_unit)


def _sublattice(section: SublatticeSection) -> SublatticeDeclaration:
    sites = (section.sites,) if isinstance(section.sites, str) else section.sites
    return SublatticeDeclaration(
        kind=section.kind,
        sites=sites,
        species=tuple(Species.parse(text) for text in section.species),
        elements=section.elements,
        fractions=section.fractions,
        moves=section.moves,
    )


def searched_compositions(search: SearchSection, host: Host) -> tuple[Composition, ...]:
    """Return the compositions that search.x names."""
    return host.compositions if search.x == "all" else tuple(map(host.composition_at, search.x))
