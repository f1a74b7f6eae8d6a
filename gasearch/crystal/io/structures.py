"""Structure files, partial occupancies included; `hosts` makes hosts of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.io.cif import CIFBlock
from ase.io.formats import UnknownFileTypeError, filetype
from numpy.typing import NDArray

from gasearch.crystal.declaration import HostError
from gasearch.crystal.io.cif import cif_blocks, expanded, formula_of
from gasearch.crystal.io.distances import too_close
from gasearch.crystal.io.documents import documents, parts, states_of
from gasearch.crystal.io.oxidation_states import cif_charges, cif_moments, column, state_of
from gasearch.crystal.io.poscar import read_poscar

FULL = 0.995  # occupancies are written with two or three decimals
_SAME_SITE = 2e-3  # in fractional coordinates, as ASE's reader has it

_CHARGES = ("initial_charges", "oxi_states", "oxidation_states")
_MOMENTS = ("magmoms", "magmom", "initial_magmoms")


@dataclass(frozen=True, eq=False)
class HostStructure:
    """A structure as its file has it.

    Parameters
    ----------
    path
        The file.
    atoms
        Every site once, with the element that holds most of it.
    shares
        Occupancy of each element, per site: {"Na": 0.7} or {"Fe": 0.5, "Mn": 0.5}.
    labels
        Names of the sites: those of the CIF file, else the elements with their index.
    charges
        (n,) oxidation states as the file has them, in e; NaN where it has none, or several.
    moments
        (n,) magnetic moments as the file has them, in Bohr magnetons.
    notes
        What the user should know of how the file was read, each as one line.
    states
        Mean oxidation state of each element, per site, where the file has them and several
        elements share sites; read them with `stated`.
    formula
        As the file itself names it; "" if it does not.
    problem
        Why no crystal can look like this, without a full stop; "" if it can. Among the notes too.
    """

    path: Path
    atoms: Atoms
    shares: tuple[Mapping[str, float], ...]
    labels: tuple[str, ...]
    charges: NDArray[np.float64] | None = None
    moments: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()
    states: tuple[Mapping[str, float], ...] = ()
    formula: str = ""
    problem: str = ""

    def stated(self, site: int) -> Mapping[str, float]:
        """Return the oxidation states of the elements on a site that the file states, in e."""
        if self.states:
            return self.states[site]
        if self.charges is None or np.isnan(self.charges[site]):
            return {}
        return dict.fromkeys(self.shares[site], float(self.charges[site]))

    def is_full(self, site: int) -> bool:
        """Whether one element alone fills a site."""
        return max(self.shares[site].values()) >= FULL

    def is_mixed(self, site: int) -> bool:
        """Whether several elements share a site."""
        return len(self.shares[site]) > 1

    def fractions(self, sites: Sequence[int]) -> dict[str, float]:
        """Return the mean share of each element over sites."""
        elements = dict.fromkeys(e for n in sites for e in self.shares[n])
        return {
            e: round(sum(self.shares[n].get(e, 0.0) for n in sites) / len(sites), 6)
            for e in elements
        }

    def describe(self, sites: Sequence[int]) -> str:
        """Return sites with their occupancies, such as 'O3 (O 0.8)', equal ones once."""
        texts = dict.fromkeys(f"{self.labels[n]} ({_listed(self.shares[n])})" for n in sites)
        return ", ".join(texts)


def read_structure(path: str | Path) -> HostStructure:
    """Return the crystal in a CIF, POSCAR, extxyz or any other file that ASE or pymatgen writes.

    The last structure counts where a file holds several.
    """
    (structure,) = _read(Path(path), slice(-1, None))
    if "X" in structure.atoms.symbols:
        raise HostError(
            f"{path} holds atoms of an unknown element (X): in a host all sites are filled."
        )
    return structure


def read_structures(path: str | Path) -> list[HostStructure]:
    """Return every crystal in a file, in its order; sites marked as vacant (X) are left out."""
    return [_without_vacancies(structure) for structure in _read(Path(path), slice(None))]


def _read(path: Path, chosen: slice) -> list[HostStructure]:
    if not path.is_file():
        raise HostError(f"there is no structure file {path}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", UserWarning)  # of readers that leave something out
            structures = _read_kind(path, chosen)
    except UnknownFileTypeError as error:
        raise HostError(
            f"{path} is of no known format: give a CIF, POSCAR or extxyz file."
        ) from error
    except HostError:
        raise
    except Exception as error:
        raise HostError(f"{path} cannot be read as a structure ({_cause(error)}).") from error
    for structure in structures:
        _refuse_impossible(structure)
    return structures


def _read_kind(path: Path, chosen: slice) -> list[HostStructure]:
    kind = path.suffix.lower()
    if kind in {".cif", ".mcif"} or (kind != ".json" and filetype(str(path)) == "cif"):
        return _read_cif(path, chosen)
    if kind == ".json" and (found := documents(path)):
        return [_structure(path, *parts(d), states=states_of(d)) for d in found[chosen]]
    if filetype(str(path)) == "vasp":
        atoms, charges = read_poscar(path)
        return [_other_structure(path, atoms, charges)]
    return _read_other(path, chosen)


def _without_vacancies(structure: HostStructure) -> HostStructure:
    kept = np.flatnonzero(structure.atoms.numbers)  # X has the number 0
    charges, moments = structure.charges, structure.moments
    return replace(
        structure,
        atoms=structure.atoms[kept],
        shares=tuple(structure.shares[n] for n in kept),
        labels=tuple(structure.labels[n] for n in kept),
        charges=None if charges is None else charges[kept],
        moments=None if moments is None else moments[kept],
        states=tuple(structure.states[n] for n in kept) if structure.states else (),
    )


def refuse_partial_framework(structure: HostStructure, mobile: Iterable[int]) -> None:
    """Refuse disorder on any site that is not among the mobile ones."""
    rest = set(range(len(structure.atoms))).difference(mobile)
    partial = [n for n in sorted(rest) if not structure.is_full(n)]
    if partial:
        raise HostError(
            f"{structure.path}: partially filled framework sites: {structure.describe(partial)}. "
            "Only declared sublattices may be disordered: declare these sites, or order them."
        )


def _read_other(path: Path, chosen: slice) -> list[HostStructure]:
    frames = ase.io.read(path, index=chosen)
    if not frames or not all(isinstance(atoms, Atoms) for atoms in frames):
        raise HostError(f"{path} holds no structure.")
    return [_other_structure(path, atoms) for atoms in frames]


def _other_structure(
    path: Path, atoms: Atoms, charges: NDArray[np.float64] | None = None
) -> HostStructure:
    occupancy = atoms.info.get("occupancy", {})
    kinds = atoms.arrays.get("spacegroup_kinds", np.arange(len(atoms)))
    shares = tuple(
        _sorted_shares(occupancy.get(str(kind)) or {symbol: 1.0})
        for kind, symbol in zip(kinds, atoms.symbols, strict=True)
    )
    labels = [f"{s}{n}" for n, s in enumerate(atoms.symbols)]
    if charges is None:
        charges = _first_array(atoms, _CHARGES)
    return _structure(path, atoms, shares, labels, charges, _moments(atoms))


def _first_array(atoms: Atoms, names: Sequence[str]) -> NDArray[np.float64] | None:
    """Return the first array (n_atoms,) of numbers that the atoms have."""
    own = (atoms.arrays[name] for name in names if name in atoms.arrays)
    return next((values.astype(float) for values in own if values.shape == (len(atoms),)), None)


def _moments(atoms: Atoms) -> NDArray[np.float64] | None:
    """Return computed moments (n_atoms,), else those that a calculation began from."""
    results = {} if atoms.calc is None else atoms.calc.results
    computed = results.get("magmoms")
    if computed is not None and np.shape(computed) == (len(atoms),) and np.any(computed):
        return np.asarray(computed, dtype=float)
    return _first_array(atoms, _MOMENTS)


def _read_cif(path: Path, chosen: slice) -> list[HostStructure]:
    blocks = cif_blocks(path)
    if not blocks:
        raise HostError(f"{path} holds no structure: no atom sites are listed.")
    return [_cif_structure(path, block) for block in blocks[chosen]]


def _cif_structure(path: Path, block: CIFBlock) -> HostStructure:
    atoms, listed, notes = expanded(path, block)
    kinds, labels = atoms.arrays["spacegroup_kinds"], column(block, "_atom_site_label")
    on_site = _listed_on_sites(atoms, listed)
    shares = _cif_shares(block, listed, on_site)
    charges, moments = cif_charges(block, len(listed)), cif_moments(block, len(listed))
    states = _cif_states(block, listed, on_site, charges)
    found = _structure(
        path,
        atoms,
        [shares[k] for k in kinds],
        [str(labels[k]) for k in kinds],
        None if charges is None else np.array([_common(charges[on_site[k]]) for k in kinds]),
        None if moments is None else np.array([_common(moments[on_site[k]]) for k in kinds]),
        notes,
        [states[k] for k in kinds] if states else (),
    )
    return replace(found, formula=formula_of(block))


def _listed_on_sites(atoms: Atoms, listed: Atoms) -> dict[int, list[int]]:
    """Return, by kind of site, the listed atoms that lie on it: several where they share it."""
    sites, found = atoms.get_scaled_positions(), dict[int, list[int]]()
    for n, place in enumerate(listed.get_scaled_positions()):
        difference = sites - place
        difference -= np.round(difference)
        site = int(np.abs(difference).max(axis=1).argmin())
        if np.abs(difference[site]).max() < _SAME_SITE:
            found.setdefault(int(atoms.arrays["spacegroup_kinds"][site]), []).append(n)
    return found


def _common(values: NDArray[np.float64]) -> float:
    """Return the one value, or NaN where there are several."""
    return float(values[0]) if np.all(values == values[0]) else float("nan")


def _cif_states(
    block: CIFBlock,
    listed: Atoms,
    on_site: Mapping[int, Sequence[int]],
    charges: NDArray[np.float64] | None,
) -> dict[int, dict[str, float]]:
    """Return the mean oxidation state of each element per kind of site; empty if all have one."""
    if charges is None or all(np.all(charges[own] == charges[own[0]]) for own in on_site.values()):
        return {}
    occupancies = _occupancies(block, len(listed))
    states: dict[int, dict[str, float]] = {}
    for kind, here in on_site.items():
        states[kind] = {}
        for element in dict.fromkeys(listed.symbols[n] for n in here):
            own = [n for n in here if listed.symbols[n] == element]
            mean = float(np.average(charges[own], weights=[occupancies[n] or 1e-9 for n in own]))
            if not np.isnan(mean):
                states[kind][element] = round(mean, 4)
    return states


def _occupancies(block: CIFBlock, n_listed: int) -> list[float]:
    values = block.get("_atom_site_occupancy")
    return [_occupancy(v) for v in (values if isinstance(values, list) else [values] * n_listed)]


def _cif_shares(
    block: CIFBlock, listed: Atoms, on_site: Mapping[int, Sequence[int]]
) -> dict[int, dict[str, float]]:
    """Return the occupancies per kind of site: all listed atoms that lie on it, added up.

    ASE's own table forgets one of two entries of the same element (Fe2+ and Fe3+ on one site).
    """
    occupancies = _occupancies(block, len(listed))
    shares: dict[int, dict[str, float]] = {}
    for kind, here in on_site.items():
        own: dict[str, float] = {}
        for n in here:
            symbol = listed.symbols[n]
            own[symbol] = own.get(symbol, 0.0) + occupancies[n]
        shares[kind] = _sorted_shares(own)
    return shares


def _occupancy(value: Any) -> float:
    return 1.0 if value in {None, "?", "."} else float(value)


def _sorted_shares(shares: Mapping[str, float]) -> dict[str, float]:
    """Return the elements that are there, the most frequent first."""
    present = {element: float(share) for element, share in shares.items() if share > 0}
    return dict(sorted(present.items(), key=lambda item: (-item[1], item[0])))


def _structure(
    path: Path,
    atoms: Atoms,
    shares: Sequence[Mapping[str, float]],
    labels: Sequence[str],
    charges: NDArray[np.float64] | None,
    moments: NDArray[np.float64] | None = None,
    notes: Sequence[str] = (),
    states: Sequence[Mapping[str, float]] = (),
) -> HostStructure:
    """Return the structure without sites that nothing occupies."""
    kept = [n for n, share in enumerate(shares) if share]
    bare = Atoms(
        [next(iter(_sorted_shares(shares[n]))) for n in kept],
        positions=atoms.positions[kept],
        cell=atoms.cell,
        pbc=True,
    )
    own, names = tuple(shares[n] for n in kept), tuple(labels[n] for n in kept)
    own_charges, own_moments = (
        None if v is None or np.isnan(v).all() else v[kept] for v in (charges, moments)
    )
    found = HostStructure(path, bare, own, names, own_charges, own_moments)
    own_states = tuple(states[n] for n in kept) if states else ()
    problem = _close_atoms(found)
    own_notes = (*notes, problem) if problem else tuple(notes)
    return replace(found, notes=own_notes, states=own_states, problem=problem)


def _close_atoms(structure: HostStructure) -> str:
    """Return which atoms are nearer to each other than in any crystal; "" if none are."""
    occupied = np.array([sum(s for e, s in own.items() if e != "X") for own in structure.shares])
    if structure.atoms.cell.rank < 3 or not len(occupied):
        return ""
    pairs = too_close(structure.atoms, occupied)
    if not pairs:
        return ""
    first, second, distance = pairs[0]
    more = f", and {len(pairs) - 1} more pairs are as near" if len(pairs) > 1 else ""
    labels, symbols = structure.labels, structure.atoms.symbols
    advice = "check the coordinates and the setting of the space group"
    if symbols[first] == symbols[second]:
        advice += ", or, where the sites exclude each other, give them occupancies below 1"
    return (
        f"{labels[first]} and {labels[second]} are {distance:.2f} Å apart, nearer than in any "
        f"crystal{more}: {advice}"
    )


def _refuse_impossible(structure: HostStructure) -> None:
    if structure.atoms.cell.rank < 3:
        raise HostError(
            f"{structure.path} has no cell: a crystal with three lattice vectors is needed."
        )
    if not len(structure.atoms):
        raise HostError(f"{structure.path} holds no atoms.")
    crowded = [n for n, share in enumerate(structure.shares) if sum(share.values()) > 2 - FULL]
    if crowded:
        raise HostError(
            f"{structure.path}: more than one atom on a site: {structure.describe(crowded)}. List "
            "each atom once, without those that the symmetry makes of it."
        )


def _listed(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{element} {share:.3g}" for element, share in shares.items())


def _cause(error: Exception) -> str:
    """Return what went wrong in a reader, as one line."""
    text = " ".join(str(error).split())[:200].strip("'")
    if isinstance(error, KeyError) and not np.isnan(state_of(text)):
        return f"{text} is no element: write the element, and the state as initial_charges"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
