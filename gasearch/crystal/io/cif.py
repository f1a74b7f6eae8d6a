"""CIF blocks read strictly: what ASE's reader warns of is refused, settings are honoured.

Oxidation states: `oxidation_states`. Occupancies: `structures`.
"""

from __future__ import annotations

import ast
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.io.cif import CIFBlock, parse_cif
from ase.spacegroup import crystal
from ase.spacegroup.spacegroup import spacegroup_from_data
from numpy.typing import NDArray

from gasearch.crystal.declaration import HostError
from gasearch.crystal.io.distances import FUSED, too_close
from gasearch.crystal.io.space_groups import (
    Operations,
    operations_of,
    read_operations,
    special_positions,
)

_OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_MAGNETIC = ("_space_group_symop_magn_operation_xyz", "_space_group_symop_magn_centering_xyz")
_SYMBOLS = (
    "_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m_ref",
    "_space_group_name_h-m",
)  # fmt: skip
_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number")
_COORDINATES = tuple(f"_atom_site_fract_{axis}" for axis in "xyz")
_UNKNOWN = {None, "?", ".", ""}
_WRONG_ROW = re.compile(
    r"(?:Wrong number \d+ of tokens, expected (?P<first>\d+)|incomplete row): "
    r"(?P<row>\[.*\])(?:, expected (?P<last>\d+) tokens)?"
)
_SHARE = 0.05  # atoms per formula; formulas are rounded as occupancies are


def cif_blocks(path: Path) -> list[CIFBlock]:
    """Return the blocks of a CIF file that list atoms, with elements and numbers checked."""
    text = text_of(path)
    _refuse_junk(path, text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="CIF v2.0")
        try:
            blocks = list(parse_cif(io.StringIO(text)))
        except (UserWarning, RuntimeError) as error:
            raise HostError(
                f"{path} cannot be read as a structure: {_explained(str(error))}"
            ) from error
    cleaned = [_cleaned(path, block) for block in blocks]
    return [block for block in cleaned if block.has_structure()]


def _refuse_junk(path: Path, text: str) -> None:
    lines = [line.strip() for line in text.splitlines()]
    told = [(n, line) for n, line in enumerate(lines, start=1) if line and line[0] != "#"]
    if told and not told[0][1].lower().startswith("data_"):
        raise HostError(
            f"{path} cannot be read as a structure: line {told[0][0]} is {told[0][1][:40]!r}, "
            "expected the first line of a CIF, such as data_NaFePO4: take out what stands before."
        )


def text_of(path: Path) -> str:
    """Return the text of a file in UTF-8 or UTF-16 without its byte order mark, or in Latin-1."""
    data = path.read_bytes()
    is_wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return data.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin1")


def _explained(warning: str) -> str:
    """Return what a warning or an error of the reader means for the user."""
    found = _WRONG_ROW.search(warning)
    if not found:
        return f"{warning}: correct the file."
    row = ast.literal_eval(found["row"])
    return (
        f"{len(row)} values where each row of a table has {found['first'] or found['last']}: "
        f"{' '.join(row)}. A value is missing, or two run together: correct the row."
    )


def _cleaned(path: Path, block: CIFBlock) -> CIFBlock:
    """Return a block whose tags have one spelling, its atom sites as lists, pure elements."""
    tags: dict[str, Any] = {key.replace(".", "_"): block[key] for key in block}
    for key, value in tags.items():
        looped = key.startswith(("_atom_site_", "_atom_type_", *_OPERATIONS, *_MAGNETIC))
        if looped and not isinstance(value, list):
            tags[key] = [value]
    types, labels = tags.get("_atom_site_type_symbol"), tags.get("_atom_site_label")
    if types is None and labels is None:
        return CIFBlock(block.name, tags)
    names = [str(label) for label in labels or types or ()]
    tags["_atom_site_label"] = names
    tags["_gasearch_type_symbol"] = list(map(str, types or names))
    tags["_atom_site_type_symbol"] = [
        element_of(path, str(text), is_label=types is None) for text in types or names
    ]
    for key in ("_atom_site_occupancy", *_COORDINATES):
        for name, value in zip(names, tags.get(key, ()), strict=False):
            is_known = isinstance(value, int | float)
            if not is_known and (key in _COORDINATES or value not in _UNKNOWN):
                what = key.removeprefix("_atom_site_").replace("_", " ")
                raise HostError(
                    f"{path} cannot be read as a structure: {what} of {name} is {value!r}, "
                    "expected a number."
                )
    return CIFBlock(block.name, tags)


def element_of(path: Path, text: str, is_label: bool = False) -> str:
    """Return the element of an atom type or a label: Na of NA and Na+, O of OH1, X of Vac."""
    letters = re.match(r"[A-Za-z]*", text)
    word = letters[0] if letters else ""
    first, two = word[:1].upper(), word[:2].capitalize()
    if text in _UNKNOWN:
        return text
    if word.lower().startswith("vac") or (word == "Va" and not is_label):
        return "X"
    if first == "D" and two not in atomic_numbers:
        return "D"
    known = [e for e in dict.fromkeys((two, first)) if e in atomic_numbers]
    if not known:
        raise HostError(f"{path}: {text!r} is no element, as Na or Fe3+ would be: write one.")
    is_cased = word[1:2].islower() or not word[1:2]
    if is_label and len(known) > 1 and not is_cased:
        raise HostError(
            f"{path}: the label {text!r} may be {known[0]} or {known[1]}: write the element as "
            "_atom_site_type_symbol."
        )
    return known[0]


def expanded(path: Path, block: CIFBlock) -> tuple[Atoms, Atoms, list[str]]:
    """Return all sites of the cell, those that the block lists, and what the user should know."""
    cell = block.get_cell()
    if cell.rank < 3:
        raise HostError(f"{path} has no cell: a crystal with three lattice vectors is needed.")
    listed = block.get_unsymmetrized_structure()
    occupancies = block.get("_atom_site_occupancy")
    try:
        choices = _operations(block, cell.array)
    except HostError as error:
        raise HostError(f"{path}: {error}") from error
    found = [(own, *_filled(block, listed, own, occupancies)) for own in choices]
    if len(found) > 1:
        fitting = [one for one in found if _is_plausible(block, one[1])]
        if len(fitting) != 1:
            raise HostError(
                f"{path}: the space group has two origins, and the file does not tell which one "
                "it has: write ':1' or ':2' behind the symbol, or list the symmetry operations."
            )
        found = fitting
    ((operations, atoms, moved),) = found
    notes = []
    if operations.choice and len(choices) > 1:
        notes.append(f"origin choice {operations.choice}: with the other one the atoms do not fit")
    if moved is not None:
        shift = _largest_shift(listed, moved)
        notes.append(
            "coordinates of few digits, such as 0.333 for 1/3: atoms are put onto the special "
            f"positions next to them, at most {shift:.3f} Å away"
        )
        listed = moved
    notes += [*_operations_note(block, operations, cell.array), *_formula_note(block, atoms)]
    return atoms, listed, notes


def _operations(block: CIFBlock, cell: NDArray[np.float64]) -> list[Operations]:
    listed = [str(text) for tag in _OPERATIONS for text in block.get(tag, ())]
    magnetic, centring = ([str(t) for t in block.get(tag, ())] for tag in _MAGNETIC)
    if magnetic:
        own = _product(read_operations(magnetic), read_operations(centring or ["x,y,z"]))
    elif listed and set(listed).isdisjoint({"?", "."}):
        own = read_operations(listed)
    else:
        found = _named_operations(block, cell)
        if not found:
            return [read_operations(["x,y,z"])]
        setting = str(block.get("_symmetry_space_group_setting", ""))
        return [one for one in found if one.choice == setting] or found
    if not own.is_group():
        raise HostError(
            f"the {len(own.rotations)} symmetry operations that it lists are no group: one is "
            "missing or mistyped; correct them."
        )
    return [own]


def _named_operations(block: CIFBlock, cell: NDArray[np.float64]) -> list[Operations]:
    symbol, hall, number = (_first(block, tags) for tags in (_SYMBOLS, _HALL, _NUMBERS))
    if symbol is hall is number is None:
        return []
    return operations_of(symbol, None if number is None else int(number), hall, cell)


def _operations_note(
    block: CIFBlock, operations: Operations, cell: NDArray[np.float64]
) -> list[str]:
    """Return a line if a block lists fewer or more operations than the space group has."""
    try:
        named = _named_operations(block, cell)
    except HostError:
        return []
    n, of_name = len(operations.keys()), [len(own.keys()) for own in named]
    if _MAGNETIC[0] in block or not named or n in of_name:
        return []
    name = _first(block, _SYMBOLS) or _first(block, _NUMBERS)
    line = (
        f"it lists {n} symmetry operations, and its space group {name} has {of_name[0]}; those "
        "that it lists are taken"
    )
    return [line]


def _product(operations: Operations, centring: Operations) -> Operations:
    shifts = centring.translations
    moved = (operations.translations[None] + shifts[:, None]).reshape(-1, 3) % 1.0
    return Operations(np.tile(operations.rotations, (len(shifts), 1, 1)), moved)


def _first(block: CIFBlock, tags: Sequence[str]) -> str | None:
    values = (str(block.get(tag, "?")).strip() for tag in tags)
    return next((value for value in values if value not in _UNKNOWN), None)


def _filled(
    block: CIFBlock, listed: Atoms, operations: Operations, occupancies: Any
) -> tuple[Atoms, Atoms | None]:
    """Return all sites; and the listed ones if they had to be moved onto special positions."""
    group = _space_group(block, operations)

    def fill(basis: Atoms) -> Atoms:
        return crystal(
            basis, spacegroup=group, setting=group.setting, occupancies=occupancies,
            onduplicates="keep",
        )  # fmt: skip

    atoms = fill(listed)
    if not _has_fused_copies(atoms):
        return atoms, None
    moved = listed.copy()
    places = listed.get_scaled_positions()
    moved.set_scaled_positions(special_positions(places, operations, listed.cell.array, FUSED))
    return fill(moved), moved


def _has_fused_copies(atoms: Atoms) -> bool:
    kinds = atoms.arrays["spacegroup_kinds"]
    return any(kinds[i] == kinds[j] for i, j, _ in too_close(atoms, np.ones(len(atoms)), FUSED))


def _space_group(block: CIFBlock, operations: Operations) -> Any:
    """Return the space group for ASE: its own where the operations are the same, in its order.

    The order of the sites hangs on it, and with it what runs have stored of their hosts.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            own = block.get_spacegroup(True)
            rotations, translations = map(np.array, zip(*own.get_symop(), strict=True))
            if Operations(rotations, translations).keys() == operations.keys():
                return own
        except Exception:  # noqa: BLE001 -- ASE's name for it; the operations are known
            pass
    return spacegroup_from_data(
        no=1, setting=1, sitesym=[], subtrans=[(0.0, 0.0, 0.0)], rotations=operations.rotations,
        translations=operations.translations,
    )  # fmt: skip


def _largest_shift(one: Atoms, other: Atoms) -> float:
    shifts = other.get_scaled_positions() - one.get_scaled_positions()
    shifts -= np.round(shifts)
    return float(np.linalg.norm(shifts @ one.cell.array, axis=1).max())


def _occupied(atoms: Atoms) -> NDArray[np.float64]:
    """Return (n,) occupancies of the sites, all elements together."""
    occupancy = atoms.info.get("occupancy", {})
    kinds = atoms.arrays["spacegroup_kinds"]
    return np.array([_total(occupancy.get(str(k))) for k in kinds])


def _total(shares: Mapping[str, Any] | None) -> float:
    if not shares:
        return 1.0
    return sum(v if isinstance(v, int | float) else 1.0 for v in shares.values())


def _contents(atoms: Atoms) -> dict[str, float]:
    occupancy = atoms.info.get("occupancy", {})
    found: dict[str, float] = {}
    for kind, symbol in zip(atoms.arrays["spacegroup_kinds"], atoms.symbols, strict=True):
        for element, share in (occupancy.get(str(kind)) or {symbol: 1.0}).items():
            own = "H" if element == "D" else element
            found[own] = found.get(own, 0.0) + (share if isinstance(share, int | float) else 1.0)
    return {element: n for element, n in found.items() if n}


def formula_of(block: CIFBlock) -> str:
    """Return the formula that a block names, as it is written there; "" if it names none."""
    text = str(block.get("_chemical_formula_sum", "?")).strip()
    return "" if text in _UNKNOWN else " ".join(text.split())


def _formula(block: CIFBlock) -> dict[str, float]:
    """Return the formula of the block itself; empty if it has none that can be read."""
    text = str(block.get("_chemical_formula_sum", "?")).replace(",", " ")
    parts = [re.fullmatch(r"([A-Z][a-z]?)(\d*\.?\d*)(?:\(\d+\))?", p) for p in text.split()]
    found: dict[str, float] = {}
    for part in parts:
        if part is None or part[1] not in {*atomic_numbers, "D"}:
            return {}
        element = "H" if part[1] == "D" else part[1]
        found[element] = found.get(element, 0.0) + float(part[2] or 1)
    return found


def _is_plausible(block: CIFBlock, atoms: Atoms) -> bool:
    return not too_close(atoms, _occupied(atoms)) and _fits(block, atoms)


def _fits(block: CIFBlock, atoms: Atoms) -> bool:
    formula, held = _formula(block), _contents(atoms)
    if not formula or not held:
        return True
    size = sum(held.values()) / sum(formula.values())
    differing = [
        e for e in {*formula, *held}
        if abs(held.get(e, 0.0) / size - formula.get(e, 0.0)) > _SHARE * max(1, formula.get(e, 0.0))
    ]  # fmt: skip
    units = block.get("_cell_formula_units_z")
    known = [1.0, float(units)] if isinstance(units, int | float) else [size]
    return not differing and any(abs(size - n) <= _SHARE * n for n in known)


def _formula_note(block: CIFBlock, atoms: Atoms) -> list[str]:
    if _fits(block, atoms):
        return []
    held = " ".join(f"{element}{n:.4g}" for element, n in sorted(_contents(atoms).items()))
    units = block.get("_cell_formula_units_z")
    times = f" (Z = {units})" if isinstance(units, int | float) else ""
    line = (
        f"its cell holds {held}, but its own formula is {block['_chemical_formula_sum']}{times}: "
        "check that no atoms are missing and that the symmetry is right"
    )
    return [line]
