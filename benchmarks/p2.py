"""Evaluations until the Na order of P2-NaxCoO2 is found on a landscape with a known answer.

    python benchmarks/p2.py            writes results/p2.json and results/p2.md

Na sites of P2 exclude each other: Na_f (between two Co) and Na_e are 1.64 Å apart. On them, Na ions
repel each other by a screened Coulomb law, and Na_f costs a little more; that is what decides the
orders of NaxCoO2 (Zhang et al., Phys. Rev. B 2005, 71, 153102; Roger et al., Nature 2007, 445,
631). Every legal decoration of the cell is enumerated, so the ground state is known; a search is
told the energy of what it proposes, nothing else.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from energies import Digits, Floats
from landscapes import Landscape, canonical_words, sublattice_space_groups
from machine import describe_machine
from search_case import searched_by, uncharged
from search_methods import (
    evaluations_needed,
    ground_state_goal,
    plain,
    random_run,
    screened,
    table_problem,
)
from search_report import statistics

from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host

PACKAGES = ("gasearch", "numpy", "ase")
RESULTS = Path(__file__).parent / "results"
COULOMB_eV_A = 14.3996  # e^2 / (4 pi eps_0)
PERMITTIVITY = 4.0
SCREENING = 3.0  # Å
FACE_eV = 0.06  # what Na_f costs more than Na_e
REACH = 18.0  # Å: exp(-6) of the repulsion
CASES = {"1/2": (4, 2, 1), "2/3": (3, 3, 1)}
"""The cell of each x: the smallest hexagonal ones that hold the orders that are known there."""


def p2_energy(host: Host) -> Callable[[Digits], Floats]:
    """Return the function from occupations (n, n_sites) to energies (n,) in eV/f.u."""
    repulsion = _repulsion(host)
    is_face = _is_face(host)
    (working,) = (s for s in host.sublattices if s.moving == "Na")
    na = next(n for n, species in enumerate(working.species) if species.element == "Na")

    def energies(occupations: Digits) -> Floats:
        filled = (occupations[:, working.slice] == na).astype(float)
        pairs = 0.5 * np.einsum("ni,ij,nj->n", filled, repulsion, filled)
        return np.asarray((pairs + FACE_eV * filled @ is_face) / host.n_formula_units)

    return energies


def _repulsion(host: Host) -> Floats:
    """Return (n_sites, n_sites) energies of two Na ions with all images, in eV."""
    cell = host.atoms.cell.array
    repeats = np.ceil(REACH / np.abs(1 / np.linalg.norm(np.linalg.inv(cell), axis=0))).astype(int)
    shifts = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in repeats), indexing="ij"), -1)
    positions = host.atoms.positions[host.sites]
    apart = positions[:, None] - positions[None]
    total = np.zeros(apart.shape[:2])
    for shift in shifts.reshape(-1, 3) @ cell:
        r = np.linalg.norm(apart + shift, axis=-1)
        near = (r > 1e-6) & (r < REACH)
        r = np.where(near, r, 1.0)
        total += np.where(near, COULOMB_eV_A / PERMITTIVITY * np.exp(-r / SCREENING) / r, 0.0)
    return total


def _is_face(host: Host) -> Floats:
    """Return (n_sites,) 1 for the sites above and below Co, 0 for the others."""
    cobalt = host.atoms.positions[host.atoms.symbols == "Co"]
    scaled = np.linalg.solve(host.atoms.cell.array.T, cobalt.T).T
    sites = np.linalg.solve(host.atoms.cell.array.T, host.atoms.positions[host.sites].T).T
    apart = sites[:, None, :2] - scaled[None, :, :2]
    apart -= np.round(apart)
    return np.asarray((np.abs(apart).max(axis=-1) < 1e-3).any(axis=1), dtype=float)


def p2_landscape(x: str, supercell: tuple[int, int, int]) -> Landscape:
    """Return all legal decorations of a cell at an x, with their energies."""
    host = Host.build(builtin_host("nacoo2-p2"), supercell)
    composition = host.composition_at(x)
    chunks = list(host.enumerate_distinct(composition))
    occupations = np.concatenate([part for part, _ in chunks])
    order = np.argsort(canonical_words(host, occupations))
    occupations = occupations[order]
    energy_of = p2_energy(host)
    return Landscape(
        name="P2",
        seed=0,
        host=host,
        composition=composition,
        energy_of=energy_of,
        occupations=occupations,
        orbit_sizes=np.concatenate([part for _, part in chunks])[order],
        energies=energy_of(occupations),
        space_groups=np.zeros(len(occupations), dtype=np.int64),
    )


def methods(landscape: Landscape) -> dict[str, Callable[[int], Iterator[int]]]:
    """Return the searches that are compared, from a seed to what they evaluate."""
    problem = table_problem(landscape)
    return {
        "gasearch": searched_by(problem, screened()),
        "gasearch, no Coulomb": searched_by(problem, uncharged()),
        "gasearch, no surrogate": searched_by(problem, plain()),
        "random": functools.partial(random_run, landscape),
    }


def measure(x: str, supercell: tuple[int, int, int], runs: int) -> dict[str, Any]:
    """Return what is known of a landscape, and how many evaluations each method took to it."""
    landscape = p2_landscape(x, supercell)
    goals = {"ground state": ground_state_goal(landscape)}
    row: dict[str, Any] = describe(landscape, supercell)
    for name, run in methods(landscape).items():
        row["evaluations"][name] = [
            evaluations_needed(run(seed), goals, len(landscape))[0]["ground state"]
            for seed in range(1, runs + 1)
        ]
    return row


def describe(landscape: Landscape, supercell: tuple[int, int, int]) -> dict[str, Any]:
    """Return the numbers of a landscape and of its ground state."""
    host, best = landscape.host, landscape.ground_state
    atoms = host.atoms[host.sites][landscape.occupations[best] == 0]
    apart = atoms.get_all_distances(mic=True)
    (group,) = sublattice_space_groups(host, landscape.occupations[best, None])
    return {
        "x": str(Fraction(landscape.composition.x).limit_denominator(100)),
        "supercell": list(supercell),
        "formula_units": host.n_formula_units,
        "raw": int(landscape.orbit_sizes.sum()),
        "distinct": len(landscape),
        "ground_state_orbit": int(landscape.orbit_sizes[best]),
        "gap_meV_per_fu": 1000 * landscape.gap,
        "na_face": int(_is_face(host)[landscape.occupations[best] == 0].sum()),
        "na_edge": int((1 - _is_face(host))[landscape.occupations[best] == 0].sum()),
        "shortest_na_na_A": float(apart[np.triu_indices(len(atoms), 1)].min()),
        "space_group": int(group),
        "evaluations": {},
    }


def markdown(document: dict[str, Any]) -> str:
    """Return the page of the results."""
    text = (
        "Na on the two kinds of prism of P2, of which neighbours exclude each other; a screened "
        f"Coulomb repulsion (relative permittivity {PERMITTIVITY:g}, screening length "
        f"{SCREENING:g} Å) and {1000 * FACE_eV:.0f} meV for each Na below Co (Na_f). All legal "
        "decorations of each cell were enumerated. Medians, and quartiles in brackets, over "
        f"{document['runs']} seeds; `random` draws evenly from the legal decorations and skips "
        "what it had. Made by `python benchmarks/p2.py`."
    )
    heads = (
        "x", "cell", "decorations (distinct)", "ground state: Na_f + Na_e, nearest Na, orbit",
        "method", "evaluations", "random / method",
    )  # fmt: skip
    title = "# Na order of P2-NaxCoO2: evaluations until the known ground state"
    lines = [title, "", text, "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in document["rows"]:
        medians = {name: statistics(found) for name, found in row["evaluations"].items()}
        for name, found in medians.items():
            cell = "x".join(map(str, row["supercell"]))
            state = (
                f"{row['na_face']} + {row['na_edge']}, {row['shortest_na_na_A']:.2f} Å, "
                f"{row['ground_state_orbit']}"
            )
            ratio = medians["random"]["median"] / found["median"]
            lines.append(
                f"| {row['x']} | {cell}, {row['formula_units']} f.u. | {row['raw']:,} "
                f"({row['distinct']:,}) | {state} | {name} | {found['median']} "
                f"({found['quartile_1']} to {found['quartile_3']}) | {ratio:.1f} |"
            )
    machine = ", ".join(f"{name} {value}" for name, value in document["machine"].items())
    return "\n".join([*lines, "", machine, ""])


def main(
    runs: Annotated[int, typer.Option(help="Seeds 1, 2, ... of each method.")] = 31,
    x: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(CASES)}.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS,
) -> None:
    """Count evaluations until the ground state of P2."""
    document: dict[str, Any] = {"machine": describe_machine(PACKAGES), "runs": runs, "rows": []}
    for one in x or CASES:
        document["rows"].append(measure(one, CASES[one], runs))
    (output / "p2.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (output / "p2.md").write_text(markdown(document), encoding="utf-8")
    print(markdown(document))


if __name__ == "__main__":
    typer.run(main)
