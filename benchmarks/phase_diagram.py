"""Phase diagrams: NaxFePO4 from a real search, Onsager's transition, and what a move costs.

    python benchmarks/phase_diagram.py speed
    python benchmarks/phase_diagram.py onsager
    python benchmarks/phase_diagram.py nafepo4 --work FOLDER      searches first, where it did not

Each writes its part of results/phase_diagram.json; `nafepo4` also the figures. The text around the
numbers is in results/phase_diagram.md.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
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
_RUNS = (
    ("121", (1, 2, 1), 150, ()),
    ("111", (1, 1, 1), 16, ()),
    ("131", (1, 3, 1), 70, ("2/3", "5/6")),
)
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


def square(coupling: float) -> Hamiltonian:
    """Return ions and charges on the two colours of a square lattice, with one coupling."""
    side = 4 * 2**0.5
    places = [(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5)]
    atoms = Atoms(["Na", "Fe", "N"], scaled_positions=places, cell=[side, side, 20], pbc=True)
    parse = Species.parse
    declaration = HostDeclaration(
        "square",
        atoms,
        (
            SublatticeDeclaration("working_ion", ("Na",), (parse("Na+"), parse("vacancy"))),
            SublatticeDeclaration("redox", ("Fe",), (parse("Fe2+"), parse("Fe3+"))),
        ),
        {"N": parse("N3-")},
        "NaFeN",
    )
    basis = ClusterBasis(Lattice(declaration), Reach(4.1, 0.0))
    return Hamiltonian(basis, np.array([-coupling if o.size == 2 else 0.0 for o in basis.orbits]))


@app.command()
def onsager(
    sizes: Annotated[str, typer.Option(help="Cells along each side.")] = "8,16",
    sweeps: Annotated[int, typer.Option(help="Per temperature.")] = 20_000,
) -> None:
    """Find the transition of the square lattice, where Binder's cumulants of two sizes meet."""
    coupling = 0.02
    critical_K = 2 * coupling / math.log(1 + 2**0.5) / kB
    shares = np.linspace(0.96, 1.04, 9)
    cumulants: dict[int, list[float]] = {}
    for size in map(int, sizes.split(",")):
        cell = Cell(square(coupling), (size, size, 1))
        rng = np.random.default_rng(size)
        walk = Walk(cell, random_spins(cell, cell.n_working, rng), rng)
        cumulants[size] = []
        for share in shares:
            walk.run(sweeps // 5 * cell.n_sites, share * critical_K, 0.0)
            magnetisation = []
            for _ in range(sweeps):
                walk.run(cell.n_sites, share * critical_K, 0.0)
                magnetisation.append(float(walk.spins.mean()))
            m = np.array(magnetisation)
            cumulants[size].append(float(1 - (m**4).mean() / (3 * (m**2).mean() ** 2)))
    small, large = (np.array(cumulants[size]) for size in sorted(cumulants))
    line = np.polynomial.Polynomial.fit(shares, large - small, 1)
    found = float(line.roots()[0])
    _record(
        "onsager",
        {"shares": shares.tolist(), "cumulants": cumulants, "found_over_exact": found},
    )


@app.command()
def nafepo4(
    work: Annotated[Path, typer.Option(help="Folder of the runs.")],
    cell: Annotated[tuple[int, int, int], typer.Option(help="Of the Monte Carlo.")] = (2, 6, 4),
    sweeps: Annotated[int, typer.Option()] = 200,
    compositions: Annotated[int, typer.Option()] = 13,
) -> None:
    """Make the diagram of the default model, from `gasearch init` to the figure."""
    command = [sys.executable, "-m", "gasearch"]
    for name, repeats, budget, xs in _RUNS:
        folder = work / name
        if not folder.exists():
            work.mkdir(parents=True, exist_ok=True)
            words = ["--supercell", *map(str, repeats), "--budget", str(budget), "--seed", "1"]
            subprocess.run([*command, "init", str(folder), *words], check=True)
            if xs:
                _search_at(folder / "run.toml", xs)
        subprocess.run([*command, "run", str(folder)], check=True)
    folders = [str(work / name) for name, *_ in _RUNS]
    words = [
        "--cell",
        *map(str, cell),
        "--sweeps",
        str(sweeps),
        "--compositions",
        str(compositions),
    ]
    started = time.monotonic()
    subprocess.run([*command, "phase-diagram", *folders, *words], check=True)
    place = work / _RUNS[0][0] / "phase-diagram"
    for source, target in (
        ("phase-diagram", "phase_diagram"),
        ("voltage", "phase_diagram_voltage"),
    ):
        shutil.copy(place / f"{source}.png", RESULTS / f"{target}.png")
    document = json.loads((place / "phase-diagram.json").read_text("utf-8"))
    for each in document["diagrams"]:
        for at in each["temperatures"]:
            del at["points"]
    document["wall_s"] = time.monotonic() - started
    for model in document["models"]:
        del model["interactions"]
    _record("nafepo4", document)


def _search_at(file: Path, xs: tuple[str, ...]) -> None:
    lines = file.read_text("utf-8").splitlines(keepends=True)
    chosen = ", ".join(f'"{x}"' for x in xs)
    new = [f"x = [{chosen}]\n" if line.lstrip("# ").startswith("x = ") else line for line in lines]
    file.write_text("".join(new), encoding="utf-8")


if __name__ == "__main__":
    app()
