"""Phase diagrams: NaxFePO4 from a real search, Onsager's transition, and what a move costs.

    python benchmarks/phase_diagram.py speed
    python benchmarks/phase_diagram.py onsager --sizes 8,16,32
    python benchmarks/phase_diagram.py nafepo4 --work FOLDER      searches first, where it did not
    python benchmarks/phase_diagram.py lifepo4 --work FOLDER      the same

Each writes its part of results/phase_diagram.json; the last two also the figures. The text around
the numbers is in results/phase_diagram.md.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import typer
from ase import Atoms
from ase.units import kB
from machine import describe_machine

from gasearch.crystal.declaration import HostDeclaration, SublatticeDeclaration
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.species import Species
from gasearch.phases.energies.clusters import ClusterBasis, Reach
from gasearch.phases.energies.hamiltonian import Hamiltonian
from gasearch.phases.energies.lattice import Lattice
from gasearch.phases.walks.monte_carlo import Cell, Walk, random_spins

RESULTS = Path(__file__).parent / "results"
_RUNS: dict[str, tuple[tuple[str, tuple[int, int, int], int, tuple[str, ...]], ...]] = {
    "nafepo4": (
        ("121", (1, 2, 1), 150, ()),
        ("111", (1, 1, 1), 16, ()),
        ("131", (1, 3, 1), 70, ("2/3", "5/6")),
    ),
    "lifepo4": (
        ("121", (1, 2, 1), 90, ()),
        ("111", (1, 1, 1), 16, ()),
        ("112", (1, 1, 2), 90, ()),
    ),
}
app = typer.Typer(add_completion=False)


def _record(part: str, found: Any) -> None:
    file = RESULTS / "phase_diagram.json"
    document = json.loads(file.read_text("utf-8")) if file.exists() else {}
    document["machine"] = describe_machine(("gasearch", "numba", "numpy"))
    document[part] = found
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


@app.command()
def speed() -> None:
    """Measure attempted moves per second and core, against size and temperature."""
    lattice = Lattice(builtin_host("nafepo4-olivine"))
    basis = ClusterBasis(lattice, Reach(8.0, 6.0))
    rng = np.random.default_rng(0)
    hamiltonian = Hamiltonian(basis, rng.normal(size=len(basis)) * 0.003, 0.07, 0.0)
    found = []
    for repeats in ((2, 3, 2), (4, 6, 8), (8, 12, 12)):
        tracemalloc.start()
        cell = Cell(hamiltonian, repeats)
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        walk = Walk(cell, random_spins(cell, cell.n_working // 2, rng), rng)
        for temperature_K in (1000.0, 600.0, 300.0):
            walk.run(200_000, temperature_K)
            walk.taken[:] = 0
            started = time.process_time()
            walk.run(500_000, temperature_K)
            cost_s = time.process_time() - started
            found.append(
                {
                    "n_formula_units": cell.n_formula_units,
                    "temperature_K": temperature_K,
                    "attempts_per_s": 500_000 / cost_s,
                    "accepted": float(walk.taken[:, 1].sum() / walk.taken[:, 0].sum()),
                    "memory_MB": memory / 1e6,
                    "n_pair_orbits": sum(o.size == 2 for o in basis.orbits),
                }
            )
    _record("speed", found)


def rows(coupling: float) -> Hamiltonian:
    """Return rows of ions and rows of charges on a square lattice; unlike neighbours are lower."""
    places = [(0, 0, 0), (0, 0.5, 0), (0.5, 0.25, 0.5)]
    atoms = Atoms(["Na", "Fe", "N"], scaled_positions=places, cell=[4, 8, 20], pbc=True)
    parse = Species.parse
    declaration = HostDeclaration(
        "rows",
        atoms,
        (
            SublatticeDeclaration("working_ion", ("Na",), (parse("Na+"), parse("vacancy"))),
            SublatticeDeclaration("redox", ("Fe",), (parse("Fe2+"), parse("Fe3+"))),
        ),
        {"N": parse("N3-")},
        "NaFeN",
    )
    basis = ClusterBasis(Lattice(declaration), Reach(4.1, 0.0))
    return Hamiltonian(basis, np.array([coupling if o.size == 2 else 0.0 for o in basis.orbits]))


COUPLING = 0.02
CRITICAL_K = 2 * COUPLING / math.log(1 + 2**0.5) / kB
"""Onsager's transition."""


@dataclass(frozen=True)
class Sampled:
    """A walk at one temperature: energies in eV and the order of checkerboards, sweep by sweep."""

    temperature_K: float
    energy: np.ndarray
    order: np.ndarray

    def cumulant(self, temperature_K: float) -> float:
        """Return Binder's 1 - <m^4> / 3 <m^2>^2 at a temperature nearby, by reweighting."""
        change = 1 / (kB * temperature_K) - 1 / (kB * self.temperature_K)
        exponent = -change * self.energy
        weights = np.exp(exponent - exponent.max())
        weights /= weights.sum()
        square = weights @ self.order**2
        return float(1 - weights @ self.order**4 / (3 * square**2))

    def without(self, block: int, of: int) -> Sampled:
        """Return all but one of so many blocks of sweeps."""
        kept = np.arange(len(self.energy)) * of // len(self.energy) != block
        return Sampled(self.temperature_K, self.energy[kept], self.order[kept])


def checkerboard(cell: Cell) -> np.ndarray:
    """Return (n_sites,) the signs of a checkerboard on the rows."""
    b, x, y, _ = np.unravel_index(np.arange(cell.n_sites), (2, *cell.repeats))
    return 1.0 - 2 * ((x + 2 * y + b) % 2)


def sampled(size: int, sweeps: int, temperature_K: float, seed: int) -> Sampled:
    """Return a walk in which ions come in and go out with their electrons, around x = 1/2."""
    cell = Cell(rows(COUPLING), (size, size // 2, 1))
    rng = np.random.default_rng((seed, size))
    walk = Walk(cell, random_spins(cell, cell.n_working // 2, rng), rng)
    pattern = checkerboard(cell) / cell.n_sites
    walk.run(sweeps // 10 * cell.n_sites, temperature_K, 0.0)
    walk.refresh()
    energy, order = np.empty(sweeps), np.empty(sweeps)
    for n in range(sweeps):
        walk.run(cell.n_sites, temperature_K, 0.0)
        energy[n], order[n] = walk.energy, pattern @ walk.spins
    return Sampled(temperature_K, energy, order)


def crossing(small: Sampled, large: Sampled) -> float:
    """Return where the cumulants of two sizes are alike, in units of Onsager's temperature."""
    shares = np.linspace(0.94, 1.04, 41)
    apart = [large.cumulant(s * CRITICAL_K) - small.cumulant(s * CRITICAL_K) for s in shares]
    below = int(np.flatnonzero(np.diff(np.sign(apart)))[-1])
    first, second = apart[below : below + 2]
    return float(shares[below] + first / (first - second) * (shares[1] - shares[0]))


def crossing_with_error(small: Sampled, large: Sampled, n: int = 20) -> tuple[float, float]:
    """Return where they are alike, and its standard deviation by a jackknife over n blocks."""
    left = [crossing(small.without(k, n), large.without(k, n)) for k in range(n)]
    return crossing(small, large), float(np.sqrt((n - 1) * np.var(left)))


@app.command()
def onsager(
    sizes: Annotated[str, typer.Option(help="Sites along each side, each twice the last.")] = (
        "8,16,32"
    ),
    sweeps: Annotated[int, typer.Option(help="Per size.")] = 100_000,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Find the transition of a square lattice, where Binder's cumulants of two sizes meet.

    As many ions as charges are up, and that costs a small cell some energy, in proportion to 1 over
    its sites: crossings of pairs of sizes are extrapolated by it.
    """
    started = time.process_time()
    chosen = sorted(map(int, sizes.split(",")))
    walks = [sampled(size, sweeps, 1.01 * CRITICAL_K, seed) for size in chosen]
    found = [crossing_with_error(*pair) for pair in itertools.pairwise(walks)]
    result: dict[str, Any] = {
        "sizes": chosen,
        "sweeps": sweeps,
        "cumulants": [walk.cumulant(CRITICAL_K) for walk in walks],
        "crossings": [
            {"sizes": [a, b], "found_over_exact": value, "error": error}
            for (a, b), (value, error) in zip(itertools.pairwise(chosen), found, strict=True)
        ],
        "processor_s": time.process_time() - started,
    }
    if len(found) > 1:
        (one, error), (other, own) = found[-2:]
        result["extrapolated"] = {
            "found_over_exact": (4 * other - one) / 3,
            "error": math.hypot(4 * own, error) / 3,
        }
    _record("onsager", result)


Work = Annotated[Path, typer.Option(help="Folder of the runs.")]


@app.command()
def nafepo4(work: Work) -> None:
    """Make the diagram of the default model, as its page in docs/how-to makes it."""
    _diagram("nafepo4", work, "phase_diagram")


@app.command()
def lifepo4(work: Work) -> None:
    """Make that of LixFePO4, with the model that was learned for it."""
    _diagram("lifepo4", work, "phase_diagram_lifepo4")


def _diagram(crystal: str, work: Path, figure: str) -> None:
    """Search where it was not, and write the diagram, its figures and its numbers."""
    command = [sys.executable, "-m", "gasearch"]
    for name, repeats, budget, xs in _RUNS[crystal]:
        folder = work / name
        if not folder.exists():
            work.mkdir(parents=True, exist_ok=True)
            own = ["--host", f"{crystal}-olivine", "--supercell", *map(str, repeats)]
            own += ["--budget", str(budget), "--seed", "1"]
            subprocess.run([*command, "init", str(folder), *own], check=True)
            if xs:
                _search_at(folder / "run.toml", xs)
        subprocess.run([*command, "run", str(folder)], check=True)
    folders = [str(work / name) for name, *_ in _RUNS[crystal]]
    started = time.monotonic()
    subprocess.run([*command, "phase-diagram", *folders, "--workers", "2"], check=True)
    place = work / _RUNS[crystal][0][0] / "phase-diagram"
    for source, target in (("phase-diagram", figure), ("voltage", f"{figure}_voltage")):
        shutil.copy(place / f"{source}.png", RESULTS / f"{target}.png")
    document = json.loads((place / "phase-diagram.json").read_text("utf-8"))
    for each in document["diagrams"]:
        for at in each["temperatures"]:
            del at["points"]
    document["wall_s"] = time.monotonic() - started
    for model in document["models"]:
        del model["interactions"]
    _record(crystal, document)


def _search_at(file: Path, xs: tuple[str, ...]) -> None:
    lines = file.read_text("utf-8").splitlines(keepends=True)
    chosen = ", ".join(f'"{x}"' for x in xs)
    new = [f"x = [{chosen}]\n" if line.lstrip("# ").startswith("x = ") else line for line in lines]
    file.write_text("".join(new), encoding="utf-8")


if __name__ == "__main__":
    app()
