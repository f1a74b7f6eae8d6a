"""An outside test: the Na orders of P2_1/c in NaxFePO4, 1x3x1, at x = 2/3 and 5/6.

Experiment and DFT give the phases at x = 2/3 and 5/6 a threefold cell along b with diagonal rows of
vacancies, space group P2_1/c (Boucher et al., JACS 2014; Saracibar et al., PCCP 2016). Of the 32
distinct Na orders of the 84-atom cell at x = 2/3 two have that space group, and two of the 7 at
x = 5/6. `search` runs an ordinary search with the charge-aware default model, in which nothing
names them; `charge-orders` then relaxes the charge orders of lowest Coulomb energy of each P2_1/c
order at x = 2/3, so that X

usage: outside.py search FOLDER [--budget N]
       outside.py charge-orders FOLDER [--most N]
       outside.py blind MODEL [--output FILE]
       outside.py report FOLDER [--blind FILE] [--json FILE]
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, TextIO

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import spglib
import typer
from machine import describe_machine
from numpy.typing import NDArray

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.run.folder import RunFolder
from gasearch.search.dispatcher import start_structure
from gasearch.search.surrogate.coulomb import CoulombEnergy

SUPERCELL = (1, 3, 1)
SHARES = ("2/3", "5/6")
NAMED = "P2_1/c"
RATTLE, SEED = 0.02, 1
PACKAGES = ("gasearch", "torch", "chgnet", "ase", "spglib")
RESULTS = Path(__file__).parent / "results"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class NaOrder:
    """One way to fill the Na sites, charge order left open.

    Parameters
    ----------
    key
        Canonical form: "0" for Na, "1" for a vacancy, by site.
    space_group
        With all Fe alike.
    multiplicity
        Equivalent ones in the cell.
    """

    key: str
    space_group: str
    multiplicity: int


class NaOrders:
    """Na orders of a host, told apart under its symmetry."""

    def __init__(self, host: Host) -> None:
        self.host = host
        sodium = next(s for s in host.sublattices if s.kind == "working_ion")
        self.where = sodium.slice
        self._images = host.permutations[:, self.where] - self.where.start

    def key(self, occupation: NDArray[np.uint8]) -> str:
        """Return the canonical Na order of an occupation of all sites, or of the Na sites."""
        digits = occupation[self.where] if len(occupation) == self.host.n_sites else occupation
        moved = np.empty((len(self._images), len(digits)), dtype=np.uint8)
        np.put_along_axis(moved, self._images, np.broadcast_to(digits, moved.shape), axis=1)
        return min("".join(map(str, row)) for row in moved.tolist())

    def at(self, share: str) -> list[NaOrder]:
        """Return all distinct orders with a share of the sites filled."""
        n_sites = self._images.shape[1]
        n_vacancies = round(n_sites * (1 - Fraction(share)))
        found: dict[str, int] = {}
        for vacancies in combinations(range(n_sites), n_vacancies):
            digits = np.zeros(n_sites, dtype=np.uint8)
            digits[list(vacancies)] = 1
            key = self.key(digits)
            found[key] = found.get(key, 0) + 1
        return [NaOrder(key, self._space_group(key), n) for key, n in sorted(found.items())]

    def _space_group(self, key: str) -> str:
        numbers = self.host.atoms.numbers.copy()
        sites = self.host.sites[self.where]
        numbers[sites[[digit == "1" for digit in key]]] = 0
        cell = (self.host.atoms.cell.array, self.host.atoms.get_scaled_positions(), numbers)
        return str(spglib.get_spacegroup(cell, 1e-2)).split(" ")[0]

    def charge_orders(self, order: NaOrder, share: str) -> list[Decoration]:
        """Return the distinct decorations of one Na order, by ascending Coulomb energy."""
        host = self.host
        composition = host.composition_at(share)
        rows = [Decoration.from_fingerprint(host, text) for text in host.fingerprints(composition)]
        mine = [d for d in rows if self.key(d.occupation) == order.key]
        energies = CoulombEnergy(host)(np.array([d.occupation for d in mine]))
        return [mine[k] for k in np.argsort(energies, kind="stable")]


class Energies:
    """Lowest energies by decoration: those of a search, and those relaxed besides."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.beside = folder / "charge_orders.jsonl"

    @cached_property
    def searched(self) -> dict[str, tuple[int, float]]:
        """Number of the candidate and energy (eV/f.u.), by fingerprint; verdict ok only."""
        found: dict[str, tuple[int, float]] = {}
        with RunFolder(self.folder).open_store() as store:
            n = store.run.n_formula_units
            for row in store.evaluations(tight=False):
                found[row.fingerprint] = row.candidate, row.energy / n
        return found

    def besides(self) -> dict[str, dict[str, Any]]:
        """Return what `charge-orders` relaxed, by fingerprint."""
        if not self.beside.exists():
            return {}
        lines = self.beside.read_text(encoding="utf-8").splitlines()
        return {line["fingerprint"]: line for line in map(json.loads, lines)}

    def all(self) -> dict[str, float]:
        """Energies (eV/f.u.) by fingerprint."""
        found = {name: energy for name, (_, energy) in self.searched.items()}
        for name, line in self.besides().items():
            if line["verdict"] == "ok":
                found[name] = min(line["energy_per_fu"], found.get(name, np.inf))
        return found


def _keep(file: TextIO, line: dict[str, Any]) -> None:
    """Write a line at once, so that nothing is lost with the process."""
    file.write(json.dumps(line) + "\n")
    file.flush()
    typer.echo(json.dumps(line))


def _host() -> Host:
    return Host.build(builtin_host("nafepo4-olivine"), SUPERCELL)


@app.command()
def search(folder: Path, budget: int = 420) -> None:
    """Start or continue the search; like `gasearch run` on a folder of its own."""
    from gasearch.cli.app import app as gasearch

    if not folder.exists():
        shares = ", ".join(f'"{share}"' for share in SHARES)
        arguments = ["--host", "nafepo4-olivine", "--supercell", *map(str, SUPERCELL)]
        arguments += ["--budget", str(budget)]
        gasearch(["init", str(folder), *arguments], standalone_mode=False)
        run_file = folder / "run.toml"
        text = run_file.read_text(encoding="utf-8")
        lines = [
            f"x = [{shares}]" if line.split("=")[0].strip("# ") == "x" else line
            for line in text.splitlines()
        ]
        run_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    gasearch(["run", str(folder)], standalone_mode=False)


@app.command("charge-orders")
def charge_orders(folder: Path, most: int = 20) -> None:
    """Relax the charge orders of lowest Coulomb energy of each P2_1/c order at x = 2/3."""
    from relaxed_table import make_relaxer

    host = _host()
    orders, energies = NaOrders(host), Energies(folder)
    named = [o for o in orders.at(SHARES[0]) if o.space_group == NAMED]
    chosen = [d for o in named for d in orders.charge_orders(o, SHARES[0])[:most]]
    done = {*energies.searched, *energies.besides()}
    wanted = [d for d in chosen if d.fingerprint not in done]
    relaxer, _ = make_relaxer("chgnet-nafepo4", "cpu", wanted[0] if wanted else chosen[0])
    starts = ((n, start_structure(d, RATTLE, SEED)) for n, d in enumerate(wanted))
    with energies.beside.open("a", encoding="utf-8") as file:
        for number, relaxed in relaxer.relax(starts):
            line = {
                "fingerprint": wanted[number].fingerprint,
                "energy_per_fu": relaxed.energy / host.n_formula_units,
                "verdict": relaxed.verdict,
            }
            _keep(file, line)


@app.command()
def blind(model: Path, output: Path = Path("blind.jsonl")) -> None:
    """Relax each Na order with a charge-blind model, from one charge order."""
    from gasearch.potentials.networks.checkpoint import load_checkpoint
    from gasearch.relax.batched.relaxer import BatchRelaxer
    from gasearch.relax.settings import RelaxSettings

    host = _host()
    orders = NaOrders(host)
    relaxer = BatchRelaxer(load_checkpoint(model), RelaxSettings())
    wanted = [(share, order) for share in SHARES for order in orders.at(share)]
    first = {order.key: orders.charge_orders(order, share)[0] for share, order in wanted}
    starts = (
        (n, start_structure(first[order.key], RATTLE, SEED)) for n, (_, order) in enumerate(wanted)
    )
    with output.open("w", encoding="utf-8") as file:
        for number, relaxed in relaxer.relax(starts):
            share, order = wanted[number]
            line = {
                "x": share,
                "na_order": order.key,
                "energy_per_fu": relaxed.energy / host.n_formula_units,
                "converged": relaxed.converged,
            }
            _keep(file, line)


@app.command()
def report(
    folder: Path,
    blind: Annotated[Path | None, typer.Option(help="What `blind` wrote.")] = None,
    output: Annotated[Path | None, typer.Option("--json", help="Written too.")] = None,
) -> None:
    """Rank the Na orders by their lowest energies, with charge and without."""
    host, energies = _host(), Energies(folder)
    orders = NaOrders(host)
    found: dict[str, Any] = {"machine": describe_machine(PACKAGES), "budget": _budget(folder)}
    controls = _blind_energies(blind)
    for share in SHARES:
        rows = list(_rows(orders, share, energies, controls))
        found[share] = rows
        typer.echo("\n".join([f"x = {share}", "", *_table(rows), ""]))
    if output is not None:
        output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _budget(folder: Path) -> dict[str, int]:
    with RunFolder(folder).open_store() as store:
        return {"candidates": store.n_candidates}


def _blind_energies(file: Path | None) -> dict[str, float]:
    if file is None:
        return {}
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {line["na_order"]: line["energy_per_fu"] for line in lines}


def _rows(
    orders: NaOrders, share: str, energies: Energies, controls: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """Yield one line for each Na order, the lowest first."""
    host = orders.host
    lowest: dict[str, tuple[float, str]] = {}
    n_relaxed: dict[str, int] = {}
    composition = host.composition_at(share)
    for name, energy in energies.all().items():
        decoration = Decoration.from_fingerprint(host, name)
        if decoration.composition != composition:
            continue
        key = orders.key(decoration.occupation)
        n_relaxed[key] = n_relaxed.get(key, 0) + 1
        lowest[key] = min(lowest.get(key, (np.inf, "")), (energy, name))
    known = orders.at(share)
    base = min((energy for energy, _ in lowest.values()), default=np.nan)
    blind_base = min((controls[o.key] for o in known if o.key in controls), default=np.nan)
    blind_order = sorted(controls[o.key] for o in known if o.key in controls)
    ranked = sorted(known, key=lambda o: (lowest.get(o.key, (np.inf, ""))[0], o.key))
    for rank, order in enumerate(ranked, start=1):
        energy, name = lowest.get(order.key, (None, ""))
        control = controls.get(order.key)
        yield {
            "na_order": order.key,
            "space_group": order.space_group,
            "rank": rank if energy is not None else None,
            "above_lowest_meV_per_fu": None if energy is None else 1000 * (energy - base),
            "best": name,
            "candidate": energies.searched.get(name, (None, None))[0],
            "relaxed": n_relaxed.get(order.key, 0),
            "blind_rank": None if control is None else 1 + blind_order.index(control),
            "blind_above_lowest_meV_per_fu": None
            if control is None
            else 1000 * (control - blind_base),
        }


_HEAD = [
    "| rank | Na order | space group | meV/f.u. | relaxed | blind rank | blind meV/f.u. |",
    "|---|---|---|---|---|---|---|",
]


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lowest ten, and those of P2_1/c."""
    shown = [r for k, r in enumerate(rows) if k < 10 or r["space_group"] == NAMED]
    return _HEAD + [
        f"| {_told(r['rank'], 'd')} | {r['na_order']} | {r['space_group']} "
        f"| {_told(r['above_lowest_meV_per_fu'], '.1f')} | {r['relaxed']} "
        f"| {_told(r['blind_rank'], 'd')} | {_told(r['blind_above_lowest_meV_per_fu'], '.1f')} |"
        for r in shown
    ]


def _told(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    app()
