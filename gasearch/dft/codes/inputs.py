"""What the inputs of several codes share: the order of atoms, moments, where U acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from gasearch.crystal.host import Host
from gasearch.crystal.species import Species, species_of
from gasearch.dft.kpoints import canonical, grid, mesh
from gasearch.dft.spins import (
    alternating_signs,
    input_doubts,
    moments_in_words,
    spins,
)
from gasearch.run.dft_section import DftSection

ORBITAL_L = {"p": 1, "d": 2, "f": 3}


def mesh_settings(
    own: Any, host: Host, *others: str, size: tuple[int, int, int] | None = None
) -> dict[str, Any]:
    """Return the part of a level that is read off a section with a mesh of k-points.

    Parameters
    ----------
    own
        [dft.vasp] or the like, with cutoff_eV and k_spacing.
    others
        Further keys of it that energies depend on.
    size
        Of the mesh; by k_spacing if None.
    """
    points = canonical(grid(size or mesh(host.atoms, own.k_spacing)), host)
    more = {key: getattr(own, key) for key in others}
    return {"cutoff_eV": own.cutoff_eV, "kpoints_of_unit_cell": points, **more}


def in_order(atoms: Atoms) -> tuple[Atoms, NDArray[np.int64]]:
    """Return a structure as a POSCAR has it, and where each atom of it stood.

    Elements lie together, in the order in which they first appear; Fe2+ and Fe3+ are one element,
    Fe2+ first.
    """
    first = {symbol: n for n, symbol in reversed(list(enumerate(atoms.symbols)))}
    charges = atoms.get_initial_charges()
    order = np.array(
        sorted(range(len(atoms)), key=lambda n: (first[atoms.symbols[n]], charges[n], n))
    )
    ordered: Atoms = atoms[order]
    return ordered, order


def signed_moments(atoms: Atoms, section: DftSection, *, ferromagnetic: bool) -> list[float]:
    """Return (n_atoms,) moments by label, alternating between neighbours if antiferromagnetic."""
    moments = spins(atoms, section.spin_states)
    if not ferromagnetic:
        moments = moments * alternating_signs(atoms, section.spin_states)
    return [float(m) for m in moments]


def in_order_with_moments(
    atoms: Atoms, section: DftSection, *, ferromagnetic: bool
) -> tuple[Atoms, list[float]]:
    """Return a structure in the order of a POSCAR, its atoms with their signed moments."""
    ordered, _ = in_order(atoms)
    moments = signed_moments(ordered, section, ferromagnetic=ferromagnetic)
    ordered.set_initial_magnetic_moments(moments)
    return ordered, moments


def correlated_orbital(element: str) -> str:
    """Return where a Hubbard U acts: d for the d block, f for the f block, else p."""
    number = atomic_numbers[element]
    if Species(element, 0).d_electrons:
        return "d"
    return "f" if 57 <= number <= 71 or 89 <= number <= 103 else "p"


def pseudopotential_files(atoms: Atoms, named: Mapping[str, str], ending: str) -> dict[str, str]:
    """Return the file of each element: the one that the user names, or the element's own name."""
    return {e: named.get(e, f"{e}.{ending}") for e in dict.fromkeys(atoms.symbols)}


def readme(
    atoms: Atoms,
    section: DftSection,
    name: str,
    pseudos: Mapping[str, str],
    moments: list[float],
    *,
    ferromagnetic: bool,
) -> str:
    """Return how a README begins where the user supplies the pseudopotentials."""
    doubts = "".join(f"Beware: {doubt}.\n" for doubt in input_doubts(species_of(atoms), section))
    order = "ferromagnetic" if ferromagnetic else "antiferromagnetic"
    return (
        f"{name}\n\n"
        f"Assumed: {order} order, total moment fixed to {sum(moments):g}, which pins the charge "
        f"order.\nMoments by label: {moments_in_words(atoms, section.spin_states) or 'none'}.\n"
        f"{doubts}"
        f"Pseudopotentials are not here; supply {', '.join(pseudos.values())}, or name yours in "
        "run.toml.\n"
    )
