"""What few DFT energies say of a potential's hull, before any network is trained.

A potential may rank the orders at one x well and yet have the energies across x wrong: a held
universal potential does. Then the difference to DFT is smooth in x, and a handful of energies
determine it. Energies of the lowest orders at each x and of both ends say most.

Energies are of whole cells, and the model is one of energies per formula unit of one supercell: x,
the bow and the scale are the same in all supercells of a host, but the features of an order belong
to a supercell, as those of the search's surrogate do. Orders of a smaller supercell count in a
larger one as what they are there, their repeats (`gasearch.search.seeds.tilings.tiled_sites`),
with energies multiplied; smaller cells learn nothing from larger ones.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.errors import GasearchError
from gasearch.learning.expected.process import Floats, Integers, Mixture, Orders, n_line_terms
from gasearch.search.surrogate.features import Features
from gasearch.search.surrogate.fitting import one_thread

_AS_GOOD = 1 + 1e-6


class UnevenInputError(GasearchError, ValueError):
    """Occupations and energies that do not belong together."""

    def __init__(self, what: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        super().__init__(what, found, expected)
        self.what = what
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.what} has shape {self.found}, not {self.expected}: one row for each order."


@dataclass(frozen=True, eq=False)
class Corrected:
    """Energies on DFT's scale.

    Parameters
    ----------
    mean_eV
        (n,) of the whole cell. NaN where the potential's energy is no finite number.
    sigma_eV
        (n,) standard deviation of what DFT would give from it, of the whole cell. Infinite at an x
        that no DFT energy ties to DFT's scale; NaN where the mean is.
    """

    mean_eV: Floats
    sigma_eV: Floats


class Correction:
    """From a potential's energies to DFT's. Made by `fit_correction`.

    Attributes
    ----------
    n_orders
        Distinct orders whose DFT energies it has.
    error_eV_per_fu, error_without_eV_per_fu
        Root mean square of what is wrong with the formation energies of these orders: each
        predicted from all the others, and as the potential has them. The ends of the range are not
        counted, for they are the reference. NaN where nothing could be left out.
    left_out_sigma_eV_per_fu, left_out_error_eV_per_fu
        (n_counted,) what was expected and what was wrong, one by one.
    """

    def __init__(self, view: View, known: Orders, difference: Floats, dft: Floats) -> None:
        self._view = view
        self.n_orders = len(difference)
        self._mixture = Mixture(known, difference) if len(difference) else None
        counted = _may_be_left_out(known.place)
        mean, variance = self._mixture.left_out() if self._mixture else (difference, difference)
        self.left_out_error_eV_per_fu = (difference - mean)[counted]
        self.left_out_sigma_eV_per_fu = np.sqrt(variance[counted])
        self.error_eV_per_fu = _root_mean_square(self.left_out_error_eV_per_fu)
        without = _without(known.place, difference, dft)
        self.error_without_eV_per_fu = _root_mean_square(without[counted])

    @property
    def is_used(self) -> bool:
        """Whether it predicts no worse than the potential alone, by what was left out.

        With one order between the ends it is as good: left out, both say the straight line.
        """
        return bool(self.error_eV_per_fu <= _AS_GOOD * self.error_without_eV_per_fu)

    def predict(self, occupations: ArrayLike, energies_eV: ArrayLike) -> Corrected:
        """Return what DFT would give for orders, whether or not it `is_used`.

        Orders whose DFT energy is known get it back, to within a meV per formula unit.

        Parameters
        ----------
        occupations
            (n, n_sites).
        energies_eV
            (n,) of the potential, of the whole cell.
        """
        digits, energies = _checked(self._view.host, occupations, energies_eV)
        per_fu = energies / self._view.host.n_formula_units
        mean, variance = per_fu.copy(), np.full(len(per_fu), np.inf)
        finite = np.isfinite(per_fu)
        if self._mixture is not None and finite.any():
            orders = self._view.orders(digits[finite], per_fu[finite])
            with one_thread():
                shift, variance[finite] = self._mixture.predict(orders)
            variance[finite] = np.where(self._is_tied(orders.place), variance[finite], np.inf)
            mean[finite] += shift
        mean[~finite] = variance[~finite] = np.nan
        units = self._view.host.n_formula_units
        return Corrected(units * mean, units * np.sqrt(variance))

    def _is_tied(self, place: Floats) -> NDArray[np.bool_]:
        """Return (n,) whether the energies at a value of x are tied to DFT's scale."""
        known = self._mixture.known.place if self._mixture else np.zeros(0)
        if n_line_terms(known) == 2:
            return np.ones(len(place), dtype=bool)
        return np.asarray(np.isclose(place, known[0], atol=1e-9))

    @property
    def bow_per_fu(self) -> float:
        """By how much the lowest orders halfway in x go up, in eV, the ends kept; NaN at one x."""
        if self._mixture is None or n_line_terms(self._mixture.known.place) < 2:
            return float("nan")
        left, middle, right = self._mixture.predict(self._view.lowest(np.array([0, 0.5, 1])))[0]
        return float(middle - (left + right) / 2)

    @property
    def scale(self) -> tuple[float, float]:
        """Mean and standard deviation of the factor on the potential's energies of orders."""
        return self._mixture.scale() if self._mixture else (1.0, float("nan"))

    def describe(self) -> str:
        """Return one line: what is corrected, and how well."""
        if self._mixture is None:
            return "no correction: no DFT energy yet"
        number = f"{self.n_orders} DFT {'energy' if self.n_orders == 1 else 'energies'}"
        if not np.isfinite(self.error_eV_per_fu):
            return f"correction from {number}: too few to tell whether it is better than none"
        scale, spread = self.scale
        bow = f"{1000 * self.bow_per_fu:+.0f} meV/f.u. halfway in x, "
        return (
            f"correction from {number}, {'used' if self.is_used else 'not used'}: "
            f"{bow if np.isfinite(self.bow_per_fu) else ''}"
            f"orders scaled by {scale:.2f} ± {spread:.2f}; error "
            f"{1000 * self.error_eV_per_fu:.0f} meV/f.u. where left out, "
            f"{1000 * self.error_without_eV_per_fu:.0f} without"
        )


def fit_correction(
    host: Host, occupations: ArrayLike, energies_eV: ArrayLike, dft_eV: ArrayLike
) -> Correction:
    """Return the correction of a potential that some DFT energies say.

    Works from any number of energies: with both ends it is a straight line in x, and with more it
    bends. Of equivalent orders, the one of lowest DFT energy counts.

    Parameters
    ----------
    occupations
        (n, n_sites).
    energies_eV
        (n,) of the potential, of the whole cell; orders without a finite one do not count.
    dft_eV
        (n,) of the whole cell; NaN where there is none yet. Orders without it still say what is
        lowest at each x in the potential: give all that are known.

    Raises
    ------
    UnevenInputError
        Where the arrays do not belong together.
    DecorationError
        Where an occupation is none of the host's.
    """
    digits, energies = _checked(host, occupations, energies_eV)
    dft = np.asarray(dft_eV, dtype=float)
    if dft.shape != energies.shape:
        raise UnevenInputError("dft_eV", dft.shape, energies.shape)
    finite = np.isfinite(energies)
    digits, energies, dft = digits[finite], energies[finite], dft[finite]
    view = View(host, digits, energies / host.n_formula_units)
    rows = _distinct(host, digits, dft)
    per_fu, dft_per_fu = energies[rows] / host.n_formula_units, dft[rows] / host.n_formula_units
    with one_thread():
        return Correction(view, view.orders(digits[rows], per_fu), dft_per_fu - per_fu, dft_per_fu)


class View:
    """How the model sees the orders of a host: places in x, heights above the lowest, features."""

    def __init__(self, host: Host, occupations: NDArray[np.uint8], per_fu: Floats) -> None:
        self.host = host
        place = self._places(occupations)
        self._knots, numbers = np.unique(place, return_inverse=True)
        self._lowest = np.full(len(self._knots), np.inf)
        np.minimum.at(self._lowest, numbers, per_fu)

    def orders(self, occupations: NDArray[np.uint8], per_fu: Floats) -> Orders:
        """Return n orders with the potential's energies (n,), in eV/f.u."""
        place = self._places(occupations)
        return Orders(
            place,
            per_fu - self._reference(place),
            _features(self.host, occupations),
            self.host.canonicalizer.canonical_words(occupations)[0],
        )

    def lowest(self, place: Floats) -> Orders:
        """Return what lies on the reference and is no order that exists."""
        width = len(_grouped_features(self.host)[1])
        nobody = np.full((len(place), self.host.canonicalizer.n_words), -1)
        return Orders(place, np.zeros_like(place), np.zeros((len(place), width)), nobody)

    def _places(self, occupations: NDArray[np.uint8]) -> Floats:
        low, high = self.host.x_range
        found = (self.host.composition_of(row) for row in occupations)
        x = np.array([c.x for c in found if c is not None], dtype=float)
        return np.asarray((x - low) / (high - low) if high > low else np.zeros(len(x)))

    def _reference(self, place: Floats) -> Floats:
        """Return (n,) the potential's lowest energy at each x, in between on straight lines.

        Beyond the outermost x too, so that no straight line in x changes a height.
        """
        if not len(self._knots):
            return np.zeros(len(place))
        if len(self._knots) == 1:
            return np.full(len(place), self._lowest[0])
        right = np.clip(np.searchsorted(self._knots, place), 1, len(self._knots) - 1)
        slope = np.diff(self._lowest) / np.diff(self._knots)
        return np.asarray(
            self._lowest[right - 1] + slope[right - 1] * (place - self._knots[right - 1])
        )


@functools.lru_cache(maxsize=8)
def _grouped_features(host: Host) -> tuple[Features, Floats]:
    """Return the features of a host, and a factor for each: groups of features weigh the same."""
    features = Features(host, host.compositions)
    groups = list(features.groups)
    sizes = np.array([groups.count(group) for group in groups], dtype=float)
    return features, 1 / np.sqrt(sizes * max(len(set(groups)), 1))


def _features(host: Host, occupations: NDArray[np.uint8]) -> Floats:
    """Return (n, n_features) of occupations (n, n_sites), whatever their compositions."""
    features, factors = _grouped_features(host)
    result = np.zeros((len(occupations), len(factors)))
    found = [host.composition_of(row) for row in occupations]
    for composition in host.compositions:
        here = np.array([one == composition for one in found], dtype=bool)
        if here.any():
            result[here] = features(occupations[here], composition) * factors
    return result


def _checked(
    host: Host, occupations: ArrayLike, energies_eV: ArrayLike
) -> tuple[NDArray[np.uint8], Floats]:
    """Return occupations and energies as arrays that fit each other and the host."""
    energies = np.asarray(energies_eV, dtype=float).reshape(-1)
    given = np.asarray(occupations)
    expected = (len(energies), host.n_sites)
    if given.size == 0:
        given = given.reshape(len(given) if given.ndim else 0, host.n_sites)
    if given.shape != expected:
        raise UnevenInputError("occupations", given.shape, expected)
    rows = [Decoration(host, row).occupation for row in given]
    return np.array(rows, dtype=np.uint8).reshape(expected), energies


def _distinct(host: Host, occupations: NDArray[np.uint8], dft: Floats) -> Integers:
    """Return the rows with a DFT energy: of equivalent orders, the lowest; in their own order."""
    words, _ = host.canonicalizer.canonical_words(occupations)
    rows = np.flatnonzero(np.isfinite(dft))
    rows = rows[np.argsort(dft[rows], kind="stable")]
    first = np.unique(words[rows], axis=0, return_index=True)[1]
    return np.sort(rows[first])


def _may_be_left_out(place: Floats) -> NDArray[np.bool_]:
    """Return (n,) the orders without which the range of x stays the same."""
    result = np.ones(len(place), dtype=bool)
    if len(place) == 1:
        return ~result
    for end in (place.min(), place.max()) if len(place) else ():
        here = np.isclose(place, end, atol=1e-9)
        if np.count_nonzero(here) == 1:
            result &= ~here
    return result


def _without(place: Floats, difference: Floats, dft: Floats) -> Floats:
    """Return (n,) how wrong the potential's own formation energies are, in eV/f.u.

    Those of both levels are taken against their own lowest orders at the ends of what is known.
    Where all have one x, each difference is taken against the mean of the others.
    """
    n = len(place)
    if n_line_terms(place) < 2:
        return (difference - difference.mean()) * n / (n - 1) if n > 1 else np.zeros(n)
    own = dft - difference
    lines = []
    for energies in (dft, own):
        ends = [place.min(), place.max()]
        lowest = [energies[np.isclose(place, end, atol=1e-9)].min() for end in ends]
        lines.append(np.interp(place, ends, lowest))
    return np.asarray(difference - (lines[0] - lines[1]))


def _root_mean_square(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")
