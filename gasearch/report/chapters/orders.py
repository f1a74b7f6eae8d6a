"""The chapter on charge orders: how energies are distributed over them at one Na order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gasearch.analysis.outcomes import one_outcome
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.display.plotting import BLUE, ORANGE
from gasearch.report.material import Material, OneRun
from gasearch.report.sections import Block, Chart, Section, Series, Text, file_name
from gasearch.store.records import EvaluationRow

_MOST_COMPARED = 200  # charge orders of lowest energy whose structures are compared
_MOST_RAW = 100_000  # charge orders that are enumerated to count the distinct ones


@dataclass(frozen=True, eq=False)
class IonOrder:
    """All evaluated charge orders of one order of the working ions.

    Parameters
    ----------
    key
        Equal for orders that the host's symmetry makes equivalent.
    candidates
        By energy, lowest first.
    energies_eV_per_fu
        (n,) of them.
    occupation
        (n_sites,) of the lowest one.
    """

    host: Host
    occupation: NDArray[np.uint8]
    key: str
    candidates: tuple[int, ...]
    energies_eV_per_fu: tuple[float, ...]

    @cached_property
    def n_distinct(self) -> int | None:
        """Distinct charge orders that there are; None where they are too many to count here."""
        return n_charge_orders(self.host, self.occupation)

    @property
    def spread_eV_per_fu(self) -> float:  # noqa: N802 -- the unit
        """From the lowest to the highest."""
        return self.energies_eV_per_fu[-1] - self.energies_eV_per_fu[0]


def ion_orders(run: OneRun, rows: Sequence[EvaluationRow]) -> list[IonOrder]:
    """Return evaluated candidates of one composition by the order of their working ions.

    Parameters
    ----------
    rows
        Valid evaluations, lowest first; the order of the ground state comes first.
    """
    if not rows:
        return []
    host = run.host
    occupations = np.array([_occupation(run, row.candidate) for row in rows])
    ions = occupations.copy()
    ions[:, ~host.may_be_vacant] = 0
    words, _ = host.canonicalizer.canonical_words(ions)
    groups: dict[str, list[int]] = {}
    for n, word in enumerate(words):
        groups.setdefault(host.canonicalizer.text(word), []).append(n)
    return [
        IonOrder(
            host=host,
            occupation=occupations[members[0]],
            key=key,
            candidates=tuple(rows[n].candidate for n in members),
            energies_eV_per_fu=tuple(rows[n].energy / run.n_units for n in members),
        )
        for key, members in groups.items()
    ]


def _occupation(run: OneRun, number: int) -> NDArray[np.uint8]:
    return Decoration.from_bytes(run.host, run.proposals[number].occupation).occupation


def n_charge_orders(host: Host, occupation: NDArray[np.uint8]) -> int | None:
    """Return how many distinct charge orders an order of working ions has.

    None where the redox sites hold more than two species, or too many orders to enumerate.
    """
    sites = np.flatnonzero(~host.may_be_vacant)
    redox = occupation[sites]
    if len(np.unique(host.n_species[sites])) != 1 or host.n_species[sites][0] != 2:
        return None
    n_marked = int(redox.sum())
    raw = round(float(np.exp(_log_choose(len(sites), n_marked))))
    if raw > _MOST_RAW:
        return None
    known: set[str] = set()
    chosen = itertools.combinations(range(len(sites)), n_marked)
    for chunk in iter(lambda: list(itertools.islice(chosen, 4096)), []):
        table = np.repeat(occupation[None], len(chunk), axis=0)
        table[:, sites] = 0
        for row, marked in enumerate(chunk):
            table[row, sites[list(marked)]] = 1
        words, _ = host.canonicalizer.canonical_words(table)
        known.update(host.canonicalizer.text(word) for word in words)
    return len(known)


def _log_choose(n: int, k: int) -> float:
    steps = np.arange(1, k + 1)
    return float(np.log((n - k + steps) / steps).sum())


def orders_section(material: Material) -> Section:
    """Return the energies of the charge orders of one Na order at the composition of interest."""
    x, blocks = material.x_of_interest, list[Block]()
    element = material.host.working_element
    for run in material.runs:
        rows = [row for row in run.store.evaluations() if abs(row.x - x) < 1e-6]
        orders = ion_orders(run, rows)
        if not orders:
            blocks.append(Text(f"{run.name}: no valid candidate at x = {x:.4g}."))
            continue
        text = f"{run.name}: {len(rows)} valid candidates at x = {x:.4g} share {len(orders)}"
        blocks.append(Text(f"{text} distinct {element} orders."))
        richest = max(orders, key=lambda one: (len(one.candidates), -one.energies_eV_per_fu[0]))
        shown = [(orders[0], "that of the ground state", BLUE)]
        if richest is not orders[0]:
            shown.append((richest, "the one with most charge orders", ORANGE))
        blocks += _charts(run, shown, x, element)
    return Section("orders", f"Charge orders at x = {x:.4g}", blocks)


def _outcomes(run: OneRun, order: IonOrder) -> str:
    """Return how many of the charge orders only seem to differ; "" where none does."""
    n_fu = run.host.n_formula_units
    energies = [n_fu * energy for energy in order.energies_eV_per_fu[:_MOST_COMPARED]]
    lowest = dict(zip(order.candidates, energies, strict=False))
    same = one_outcome(run.host, run.store, lowest)
    if not same:
        return ""
    among = "" if len(lowest) == len(order.candidates) else f" of the lowest {len(lowest)}"
    pairs = ", ".join(f"{one} as {other}" for one, other in sorted(same.items())[:5])
    more = f" and {len(same) - 5} more" if len(same) > 5 else ""
    return (
        f" {len(same)}{among} relaxed into the same crystal as a lower one ({pairs}{more}): "
        "the same energy within 1 meV/f.u. and the same distances within 0.05 Å are one outcome."
    )


def _charts(
    run: OneRun, shown: Sequence[tuple[IonOrder, str, str]], x: float, element: str
) -> list[Block]:
    blocks: list[Block] = []
    for n, (order, name, colour) in enumerate(shown, 1):
        n_evaluated = f"{len(order.candidates):,}"
        if order.n_distinct is not None:
            n_evaluated += f" of {order.n_distinct:,} distinct"
        lowest = order.candidates[0]
        spread = f"{1000 * order.spread_eV_per_fu:.1f} meV/f.u. from the lowest to the highest"
        text = (
            f"{element} order {n}, {name} (its lowest is candidate {lowest}): {n_evaluated} "
            f"charge orders evaluated; {spread}."
        ) + _outcomes(run, order)
        blocks.append(Text(text))
        if len(order.candidates) < 2:
            continue
        heights = 1000 * (np.array(order.energies_eV_per_fu) - order.energies_eV_per_fu[0])
        n_bins = min(40, max(8, 2 * int(np.sqrt(len(heights)))))
        counts, edges = np.histogram(heights, bins=n_bins)
        middles = ((edges[:-1] + edges[1:]) / 2).tolist()
        width = float(edges[1] - edges[0])
        series = Series(middles, counts.astype(float).tolist(), "bars", name, colour)
        chart = Chart(
            name=file_name("charge-orders", run.name, str(n)),
            title=f"Charge orders at one {element} order, x = {x:.4g}, {run.name}",
            x_label="above the lowest (meV/f.u.)",
            y_label="charge orders",
            series=[series],
            bar_width=0.95 * width,
        )
        blocks.append(chart)
    return blocks
