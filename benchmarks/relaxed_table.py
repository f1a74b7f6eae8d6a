"""All distinct decorations of NaxFePO4 in one supercell, relaxed: a table of energies.

    python benchmarks/relaxed_table.py 1 2 1                              all compositions
    python benchmarks/relaxed_table.py 1 3 1 -x 5/6 -x 0 -x 1             some of them
    python benchmarks/relaxed_table.py 1 3 1 -x 2/3 --potential pmmcs --measure 20
    python benchmarks/relaxed_table.py 1 3 1 -x 2/3 --potential pmmcs --workers 16
    python benchmarks/relaxed_table.py 1 3 1 -x 2/3 --potential painn-nafepo4 --device cuda

Each start is the one of `gasearch run` with seed 1 for the canonical decoration (displacements of
0.02 Å that follow from the fingerprint), relaxed to 0.02 eV/Å by the batch relaxer and judged as
`gasearch init` sets it up: by plain CHGNet's moments for the shipped potentials, by the potential's
own otherwise, and by the sites of its Na. Results are appended to tables/NAME.csv.part at once, so
that the script may be killed and started again; when all are there they are sorted into
tables/NAME.csv. What reads them: `relaxed_landscapes.py`.

The displacements are the same numbers for every image of a decoration, and so mean something else
to each. From the sixteen images of 7e7e, 1x2x1, pmmcs ends within 0.6 meV per cell fifteen times,
and 130 meV lower once. A search that proposes another image than the canonical one can find a lower
energy than the table has, or a higher one.

Processor time of one core (AMD EPYC) for one relaxation: chgnet-nafepo4 1.7 s for the 56 atoms of
1x2x1; at x = 2/3 of 1x3x1, with 10,410 distinct decorations of 80 atoms, painn-nafepo4 0.8 s (2.3 h
for all), cpainn-nafepo4 0.6 s (1.6 h), pmmcs 0.2 s (0.6 h). Hence no network's table of that
composition; pmmcs is cheap enough, and its order of energies at one x means something.
"""

from __future__ import annotations

import csv
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

os.environ.setdefault("OMP_NUM_THREADS", "1")

import typer

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Composition, Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.potentials.shipped import shipped_names
from gasearch.relax.audit import RULE
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.settings import RelaxSettings
from gasearch.relax.working_sites import WorkingSites
from gasearch.search.dispatcher import start_structure

if TYPE_CHECKING:
    from gasearch.relax.batched.relaxer import BatchRelaxer

TABLES = Path(__file__).parent / "tables"
COLUMNS = ("fingerprint", "x", "orbit_size", "energy_eV", "verdict", "n_calls")
RATTLE, SEED, FMAX = 0.02, 1, 0.02
_SHARE, _LARGE_SHARE = 32, 512  # decorations that a process is given at once
_loaded: list[BatchRelaxer] = []  # of this process, where it is one of several


@dataclass(frozen=True)
class Entry:
    """One line of a table.

    Parameters
    ----------
    x
        As the table writes it: six digits at most.
    energy_eV
        Of the whole cell, as text; "" where the relaxation failed.
    """

    fingerprint: str
    x: str
    orbit_size: int
    energy_eV: str
    verdict: str
    n_calls: int

    @classmethod
    def of(cls, decoration: Decoration, relaxed: Relaxed) -> Entry:
        """Return the line of a relaxed decoration."""
        energy = f"{relaxed.energy:.6f}" if math.isfinite(relaxed.energy) else ""
        return cls(
            decoration.fingerprint,
            f"{decoration.x:.6g}",
            decoration.orbit_size,
            energy,
            relaxed.verdict,
            relaxed.n_calls,
        )

    @property
    def cells(self) -> list[str]:
        """What stands between the commas."""
        return [str(getattr(self, column)) for column in COLUMNS]


def decorations(host: Host, composition: Composition) -> list[Decoration]:
    """Return all distinct decorations of a composition, by ascending fingerprint."""
    return [
        Decoration.from_fingerprint(host, text) for text in sorted(host.fingerprints(composition))
    ]


def make_relaxer(potential: str, device: str, probe: Decoration) -> tuple[BatchRelaxer, str]:
    """Return a relaxer with the reader that `gasearch init` would choose, and its level's name.

    Parameters
    ----------
    probe
        Any decoration: a level is told from others by an energy too.
    """
    import torch

    from gasearch.allocator import keep_freed_memory
    from gasearch.potentials.measured.level import measure_level
    from gasearch.potentials.registry import load_potential
    from gasearch.relax.batched.relaxer import BatchRelaxer
    from gasearch.relax.moment_reader import load_reader

    if device == "cpu":
        torch.set_num_threads(1)
        keep_freed_memory()
    loaded = load_potential(potential, device=device)
    reader = load_reader("chgnet" if potential in shipped_names() else "own", device)
    relaxer = BatchRelaxer(
        loaded, RelaxSettings(fmax=FMAX, sites=WorkingSites.of(probe.host)), reader
    )
    return relaxer, measure_level(loaded, [probe.to_atoms()]).name


def relax(relaxer: BatchRelaxer, wanted: Sequence[Decoration]) -> Iterator[Entry]:
    """Relax decorations from the standard start, and yield their lines as they are finished."""
    starts = ((n, start_structure(d, RATTLE, SEED)) for n, d in enumerate(wanted))
    for number, relaxed in relaxer.relax(starts):
        yield Entry.of(wanted[number], relaxed)


def relax_in_processes(
    potential: str, device: str, wanted: Sequence[Decoration], n_workers: int
) -> Iterator[Entry]:
    """Relax decorations in several processes of one thread each; lines come share by share."""
    share = min(_SHARE if device == "cpu" else _LARGE_SHARE, -(-len(wanted) // n_workers))
    shares = [wanted[n : n + share] for n in range(0, len(wanted), share)]
    # a process that has loaded torch must not be forked
    with multiprocessing.get_context("spawn").Pool(
        len(shares[:n_workers]), _load, (potential, device, wanted[:1])
    ) as pool:
        for entries in pool.imap_unordered(_relax_share, shares):
            yield from entries


def _load(potential: str, device: str, probe: Sequence[Decoration]) -> None:
    _loaded.extend(make_relaxer(potential, device, one)[0] for one in probe)


def _relax_share(wanted: Sequence[Decoration]) -> list[Entry]:
    return list(relax(_loaded[0], wanted))


def read_lines(file: Path) -> list[list[str]]:
    """Return the complete lines of a table, its comment and header left out."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n") and not line.startswith("#")]
    return list(csv.reader(whole[1:]))


def write_lines(file: Path, comment: str, lines: Sequence[Sequence[str]]) -> None:
    """Write a table anew, under another name first."""
    text = [f"# {comment}", ",".join(COLUMNS), *(",".join(line) for line in lines)]
    new = file.with_name(file.name + ".new")
    new.write_text("\n".join(text) + "\n", encoding="utf-8")
    new.replace(file)


def describe(host: Host, supercell: Sequence[int], xs: Sequence[str], level: str) -> str:
    """Return the comment on a table's first line."""
    chosen = [host.composition_at(x) for x in xs] or host.compositions
    total = sum(host.n_distinct(composition) for composition in chosen)
    where = f", at x = {', '.join(xs)}," if xs else ""
    cell = "x".join(map(str, supercell))
    return (
        f"NaxFePO4, {cell}: all {total} distinct decorations{where} relaxed with {level} "
        f"(fmax {FMAX} eV/Å), from the starts of `gasearch run` with seed {SEED}; "
        f"verdicts by {RULE}."
    )


def measure(relaxer: BatchRelaxer, wanted: Sequence[Decoration], sample: int) -> None:
    """Print what relaxations cost in processor time, from decorations spread evenly over all."""
    step = max(1, len(wanted) // sample)
    chosen = list(islice(wanted, step // 2, None, step))[:sample]
    next(relax(relaxer, chosen[:1]))
    started = time.process_time()
    entries = list(relax(relaxer, chosen))
    cost_s = (time.process_time() - started) / len(entries)
    calls = sum(entry.n_calls for entry in entries) / len(entries)
    print(
        f"{cost_s:.2f} s and {calls:.0f} calls per relaxation, "
        f"{cost_s * len(wanted) / 3600:.2f} h for all {len(wanted)}"
    )


def main(
    supercell: tuple[int, int, int],
    x: Annotated[list[str] | None, typer.Option("-x", help="Compositions; all if none.")] = None,
    potential: Annotated[str, typer.Option(help="A registered name.")] = "chgnet-nafepo4",
    output: Annotated[Path, typer.Option(help="Folder of the tables.")] = TABLES,
    device: Annotated[str, typer.Option(help="As torch writes it.")] = "cpu",
    sample: Annotated[
        int, typer.Option("--measure", help="Only time so many relaxations; no table.")
    ] = 0,
    workers: Annotated[int, typer.Option(help="Processes, each with the potential.")] = 1,
) -> None:
    """Relax all distinct decorations, or go on where an earlier call was killed."""
    host = Host.build(builtin_host("nafepo4-olivine"), supercell)
    chosen = [host.composition_at(value) for value in x or ()] or list(host.compositions)
    wanted = [d for composition in chosen for d in decorations(host, composition)]
    relaxer, level = make_relaxer(potential, device, wanted[0])
    if sample:
        measure(relaxer, wanted, sample)
        return
    name = f"nafepo4-{''.join(map(str, supercell))}-{potential}"
    part, comment = output / f"{name}.csv.part", describe(host, supercell, x or [], level)
    output.mkdir(parents=True, exist_ok=True)
    done = {line[0]: line for line in read_lines(part)}
    write_lines(part, comment, list(done.values()))
    left = [d for d in wanted if d.fingerprint not in done]
    is_shared = workers > 1 and len(left) > 1
    lines = (
        relax_in_processes(potential, device, left, workers) if is_shared else relax(relaxer, left)
    )
    with part.open("a", encoding="utf-8") as file:
        for entry in lines:
            done[entry.fingerprint] = entry.cells
            file.write(",".join(entry.cells) + "\n")
            file.flush()
            print(f"{len(done)} of {len(wanted)}", file=sys.stderr)
    order = sorted(wanted, key=lambda d: (d.x, d.fingerprint))
    write_lines(output / f"{name}.csv", comment, [done[d.fingerprint] for d in order])
    part.unlink()


if __name__ == "__main__":
    typer.run(main)
