"""The chapter with structures that can be turned: atoms, bonds, vacancies and cell, as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from gasearch.analysis.joint_hull import HullPoint, JointHull
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.species import species_of
from gasearch.display.tables import milli
from gasearch.errors import GasearchError
from gasearch.report.chapters.energies import LOWEST, nearest
from gasearch.report.material import Material, OneRun, key_of
from gasearch.report.sections import Section, StructureView, Text

_BOND = 1.25  # of the sum of covalent radii
_MOST = 80
_VACANCY = "vacancy"


def structures_section(material: Material) -> Section:
    """Return the parent, the ground states, the best and the lowest at x, each once."""
    found = [_parent(name, host) for name, host in material.hosts.items()]
    n_parents = len(found)
    seen: set[str] = set()
    for hull, point in _chosen(material):
        key = key_of(point.run, point.id, hull.level.name)
        if key in seen or len(found) > _MOST:
            continue
        seen.add(key)
        found.append(_structure(material.run(point.run), hull, point, key))
    if len(found) == n_parents:
        return Section(
            "structures", "Structures", [Text("No valid candidate yet."), StructureView(found)]
        )
    how = (
        "Drag to turn, use the wheel to come nearer. Vacancies are open squares, on the sites of "
        "the host."
    )
    return Section("structures", "Structures", [Text(how), StructureView(found)])


def _chosen(material: Material) -> Iterator[tuple[JointHull, HullPoint]]:
    for hull in material.hulls:
        yield from ((hull, point) for point in material.members(hull))
    for hull in material.hulls:
        yield from ((hull, point) for point in material.at_x(hull)[:LOWEST])
    for hull in material.search_hulls:
        yield from ((hull, point) for point in nearest(material, hull))


def _parent(host_name: str, host: Host) -> dict[str, Any]:
    filled = Decoration.random(host, host.compositions[-1], np.random.default_rng(0)).to_atoms()
    name = f"parent: {host_name}, undistorted, all sites filled"
    return drawn(filled, f"parent {host_name}", name, "", None)


def _structure(run: OneRun, hull: JointHull, point: HullPoint, key: str) -> dict[str, Any]:
    relaxed = run.relaxed(point.id, hull.level.name)
    name = f"x = {point.x:.4g}, candidate {point.id} ({point.cell}), {hull.level.name}"
    ground = ", ground state" if point.on_hull else ""
    sigma = point.sigma_eV_per_fu
    certain = "" if sigma is None else f" (+- {milli(sigma)}, as certain as the potential is)"
    above = f"{milli(point.above_hull_eV_per_fu)}{certain} meV/f.u. above the hull{ground}"
    caption = (
        f"{point.formula}, {above}; "
        f"where it comes from: gasearch lineage {run.folder.quoted} {point.id}"
    )
    moments = None if relaxed.moments is None else np.abs(relaxed.moments).tolist()
    vacant = vacancies_of(relaxed.atoms, run.host)
    return drawn(relaxed.atoms, key, name, caption, moments, vacant)


def vacancies_of(atoms: Atoms, host: Host) -> list[list[float]]:
    """Return where the host's vacant sites lie in the cell of a structure, in Å.

    None where its atoms have left the sites of the host.
    """
    try:
        decoration = Decoration.from_atoms(host, atoms)
    except GasearchError:
        return []
    empty = host.numbers[np.arange(host.n_sites), decoration.occupation] == 0
    scaled = host.atoms.get_scaled_positions()[host.sites[empty]]
    places: list[list[float]] = (scaled @ atoms.cell.array).tolist()
    return places


def drawn(
    atoms: Atoms,
    key: str,
    name: str,
    caption: str,
    moments: list[float] | None,
    vacancies: list[list[float]] | None = None,
) -> dict[str, Any]:
    """Return a structure as the viewer reads it, its atoms inside of the cell.

    Parameters
    ----------
    moments
        (n_atoms,) in Bohr magnetons, shown under the pointer, or None.
    vacancies
        Places in Å.
    """
    inside = atoms.copy()
    inside.wrap()
    species = [str(one) for one in species_of(inside)]
    kinds = list(dict.fromkeys([*sorted(set(species)), *([_VACANCY] if vacancies else [])]))
    places = [*inside.positions.tolist(), *(vacancies or [])]
    return {
        "key": key,
        "name": name,
        "caption": caption,
        "cell": np.round(inside.cell.array, 4).tolist(),
        "kinds": kinds,
        "kind": [kinds.index(one) for one in [*species, *[_VACANCY] * len(vacancies or [])]],
        "positions": np.round(np.array(places), 3).tolist(),
        "moments": None if moments is None else [round(m, 2) for m in moments],
        "bonds": _bonds(inside),
    }


def _bonds(atoms: Atoms) -> list[list[float]]:
    """Return (atom, atom, shift in Å) of cations of the framework and redox sites to anions."""
    charges = np.rint(atoms.get_initial_charges())
    radii = covalent_radii[atoms.numbers]
    first, second, shift = neighbor_list("ijS", atoms, _BOND * radii)
    bonds = []
    for i, j, cells in zip(first, second, shift, strict=True):
        if charges[i] > 1 and charges[j] < 0:
            offset = np.round(cells @ atoms.cell.array, 3).tolist()
            bonds.append([int(i), int(j), *offset] if any(cells) else [int(i), int(j)])
    return bonds
