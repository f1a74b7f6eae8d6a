"""Symmetry operations of a space group in the setting that its symbol, or the cell, tells."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray

from gasearch.crystal.declaration import HostError

_N_SETTINGS = 530
_ORIGINS = {"1": "1", "2": "2", "s": "1", "z": "2"}
_AXES = {"h": "H", "r": "R"}
_OLDER: Mapping[int, Mapping[str, str]] = {
    67: {"": "Cmma", "ba-c": "Cmmb", "cab": "Abmm", "-cba": "Acmm", "bca": "Bmcm", "a-cb": "Bmam"},
    68: {"": "Ccca", "ba-c": "Cccb", "cab": "Abaa", "-cba": "Acaa", "bca": "Bbcb", "a-cb": "Bbab"},
}
"""Names by axes, of the groups whose names with e mean two settings (International Tables)."""
_METRIC = 0.02  # relative; cells are written with few digits
_ADVICE = "list the symmetry operations in the file, as VESTA and pymatgen write them"


@dataclass(frozen=True, eq=False)
class Operations:
    """Symmetry operations in fractional coordinates.

    Parameters
    ----------
    rotations
        (n, 3, 3) integers.
    translations
        (n, 3), from 0 to 1.
    choice
        "1" or "2" where the space group has two origins; "" for operations that a file lists.
    """

    rotations: NDArray[np.int64]
    translations: NDArray[np.float64]
    choice: str = ""

    def keys(self) -> set[tuple[int, ...]]:
        """Return what is equal for equal operations, whatever their order."""
        return set(map(tuple, self._rows().tolist()))

    def is_group(self) -> bool:
        """Whether the product of any two operations is among them."""
        known, rows = self.keys(), []
        for rotation, translation in zip(self.rotations, self.translations, strict=True):
            moved = self.translations @ rotation.T + translation
            rows.append(Operations(rotation @ self.rotations, moved)._rows())
        return known == set(map(tuple, np.concatenate(rows).tolist()))

    def fits(self, cell: NDArray[np.float64]) -> bool:
        """Whether the operations leave the lengths and angles of a cell (3, 3) as they are."""
        metric = cell @ cell.T
        turned = np.swapaxes(self.rotations, 1, 2) @ metric @ self.rotations
        lengths = np.sqrt(np.diag(metric))
        return bool((np.abs(turned - metric) / np.outer(lengths, lengths)).max() < _METRIC)

    def _rows(self) -> NDArray[np.int64]:
        """Return (n, 12) integers: translations in 1/1000, those near 1/24 exactly there."""
        parts = self.translations * 24
        near = np.abs(parts - np.round(parts)) < 0.05
        exact = np.where(near, np.round(parts) / 24, self.translations) % 1.0
        thousandths = np.round(exact * 1000).astype(int) % 1000
        return np.hstack([self.rotations.reshape(-1, 9), thousandths])


@dataclass(frozen=True)
class _Setting:
    hall: int
    number: int
    names: frozenset[str]
    choice: str
    hall_symbol: str
    is_default: bool

    @property
    def axes(self) -> str:
        """How the axes are exchanged, "" if not: "ba-c"."""
        return self.choice.lstrip("12")


def operations_of(
    symbol: str | None, number: int | None, hall: str | None, cell: NDArray[np.float64]
) -> list[Operations]:
    """Return the operations in every setting that symbols can mean in a cell.

    Several are left only where the file leaves the origin open.

    Parameters
    ----------
    symbol
        Of Hermann and Mauguin, with ":2", ":R" or "Z" for the origin or the axes if need be.
    number
        From 1 to 230.
    hall
        Hall's symbol.
    cell
        (3, 3) lattice vectors, in Å.
    """
    told = " ".join(str(s) for s in (symbol, hall, number) if s is not None)
    by_hall, by_symbol = _by_hall(hall), _by_symbol(symbol, number)
    chosen = by_hall or by_symbol or _by_number(symbol, number)
    if not chosen:
        raise HostError(f"the space group {told!r} is in a setting that is not known: {_ADVICE}.")
    contradicts = by_hall and by_symbol and not set(by_hall).intersection(by_symbol)
    if contradicts or (number is not None and all(s.number != number for s in chosen)):
        raise HostError(
            f"the space group {told!r} contradicts itself: one of its names is that of number "
            f"{chosen[0].number} in another setting or group. Correct it, or {_ADVICE}."
        )
    fitting = [found for s in chosen if (found := _operations(s)).fits(cell)]
    if not fitting:
        raise HostError(
            f"the cell does not have the symmetry of the space group {told!r}: check its angles, "
            f"write the setting that it is in, or {_ADVICE}."
        )
    return fitting if {own.choice for own in fitting} == {"1", "2"} else fitting[:1]


def _by_hall(hall: str | None) -> list[_Setting]:
    if hall is None:
        return []
    wanted = " ".join(hall.replace("_", " ").split()).lower()
    return [s for s in _settings() if s.hall_symbol == wanted]


def _by_symbol(symbol: str | None, number: int | None) -> list[_Setting]:
    """Return the settings that a symbol names; b before c before a as the unique axis."""
    if symbol is None:
        return []
    bare, choice = _split(symbol)
    found = [s for s in _settings() if bare in s.names]
    if not found:
        found = [s for s in _settings() if any(_is_older(name, bare, s.number) for name in s.names)]
    if number is not None and any(s.number == number for s in found):
        found = [s for s in found if s.number == number]
    if choice:
        found = [s for s in found if s.choice[:1] == choice]
    if any(s.is_default for s in found) and len({s.axes for s in found}) > 1:
        found = [s for s in found if not s.axes or s.number not in _OLDER]
    elif len({s.axes for s in found if s.number in _OLDER}) > 1:
        return []
    return sorted(found, key=lambda s: (not s.is_default, "bca".find(s.choice.strip("-")[:1])))


def _by_number(symbol: str | None, number: int | None) -> list[_Setting]:
    """Return the standard setting of a number, in both origins or on both axes if it has two."""
    if symbol is not None or number is None:
        return []
    own = [s for s in _settings() if s.number == number]
    return [s for s in own if s.is_default or s.choice in {"1", "2", "H", "R"}]


def _split(symbol: str) -> tuple[str, str]:
    """Return a symbol without blanks, and its choice of origin or axes ("" if it has none)."""
    text = symbol.strip().strip("'\"").replace("_", "")
    bare, _, choice = text.partition(":")
    if not choice and (found := re.fullmatch(r"(.*[a-z0-9\s])([HRSZ])", text)):
        bare, choice = found[1], found[2]
    key = choice.strip().lower()
    return _plain(bare), _ORIGINS.get(key, _AXES.get(key, key))


def _plain(symbol: str) -> str:
    text = "".join(symbol.replace("_", "").split())
    return text[:1].upper() + text[1:].lower()


def _is_older(name: str, symbol: str, number: int) -> bool:
    """Whether a symbol is the older form of a name: Cmca for Cmce, Fm3m for Fm-3m."""
    if number in _OLDER:
        return False
    if number >= 200:
        return name.replace("-3", "3") == symbol
    return "e" in name and re.fullmatch(name.replace("e", "[abc]"), symbol) is not None


@functools.cache
def _settings() -> tuple[_Setting, ...]:
    found: list[_Setting] = []
    seen: set[int] = set()
    for hall in range(1, _N_SETTINGS + 1):
        kind = _from_spglib(spglib.get_spacegroup_type, hall)
        is_default = kind.number not in seen
        seen.add(kind.number)
        names = [kind.international_full, *kind.international.split("=")[0 if is_default else 1 :]]
        if "=" not in kind.international:
            names += [kind.international, kind.international_short]
        full = kind.international_full.split()
        if 3 <= kind.number <= 15:
            names.append("".join(part for part in full if part != "1"))
        if kind.number in _OLDER:
            names.append(_OLDER[kind.number][kind.choice.lstrip("12")])
        hall_symbol = " ".join(kind.hall_symbol.split()).lower()
        own = frozenset(map(_plain, names))
        found.append(_Setting(hall, kind.number, own, kind.choice, hall_symbol, is_default))
    return tuple(found)


def _operations(setting: _Setting) -> Operations:
    found = _from_spglib(spglib.get_symmetry_from_database, setting.hall)
    choice = setting.choice[:1] if setting.choice[:1] in {"1", "2"} else ""
    return Operations(found["rotations"].astype(int), found["translations"] % 1.0, choice)


def _from_spglib(table: Callable[[int], Any], hall: int) -> Any:
    """Return what spglib's tables say of a setting, numbered as Hall does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of returning None instead of raising
        return table(hall)


def special_positions(
    places: NDArray[np.float64], operations: Operations, cell: NDArray[np.float64], near: float
) -> NDArray[np.float64]:
    """Return places (n, 3) with those within `near` Å of their own images at the images' middle.

    That is the special position which a coordinate of few digits means: 0.333 for 1/3.
    """
    moved = places.copy()
    for n, place in enumerate(places):
        for _ in range(2):
            images = operations.rotations @ place + operations.translations
            shifts = images - place
            shifts -= np.round(shifts)
            own = shifts[np.linalg.norm(shifts @ cell, axis=1) < near]
            place = place + own.mean(axis=0)
        moved[n] = place
    return moved


def read_operations(texts: Sequence[str]) -> Operations:
    """Return operations that are written "-x, y+1/2, z"; a time reversal at the end is ignored."""
    rotations, translations = [], []
    for text in texts:
        parts = [part.strip() for part in text.strip().strip("'\"").lower().split(",")][:3]
        rows = [_row(part, text) for part in parts]
        if len(rows) != 3:
            raise HostError(f"{text!r} is no symmetry operation: expected as in 'x, -y, z+1/2'.")
        rotations.append([row[:3] for row in rows])
        translations.append([row[3] for row in rows])
    exact = np.rint(rotations).astype(int)
    return Operations(exact, np.array(translations, dtype=float) % 1.0)


def _row(part: str, text: str) -> list[float]:
    """Return three factors and the translation of one coordinate."""
    row = [0.0] * 4
    compact = part.replace(" ", "")
    terms = re.findall(r"([+-]?)(?:([xyz])|(\d+\.?\d*|\.\d+)(?:/(\d+))?)", compact)
    read = "".join(s + x + n + (f"/{d}" if d else "") for s, x, n, d in terms)
    if not terms or read != compact or not all(sign for sign, *_ in terms[1:]):
        raise HostError(f"{text!r} is no symmetry operation: expected as in 'x, -y, z+1/2'.")
    for sign, axis, numerator, denominator in terms:
        size = -1.0 if sign == "-" else 1.0
        if axis:
            row["xyz".index(axis)] += size
        else:
            row[3] += size * float(numerator) / float(denominator or 1)
    return row
