"""How far one driver goes: hundreds of workers, and a million candidates.

    scale.py                            everything, several minutes
    scale.py --sizes 1000,10000 --workers 64 --duration 10

Workers sleep as long as a relaxation takes (`scale_workers.py`); each case is a process of its own,
so that its memory is its own. What is measured: the share of time that workers are busy, candidates
per second with relaxations that cost nothing, memory of the driver, over SQLite and PostgreSQL; and
the engine's time per candidate in databases of a thousand to a million (`scale_synthetic.py`).
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import scale_synthetic
import scale_workers
import typer
from free import FreeExecutor
from machine import describe_machine

from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.io.hosts import host_to_json
from gasearch.execution.contract import Executor, PotentialSource
from gasearch.execution.local import process
from gasearch.execution.local.pool import WorkerPool
from gasearch.operators.contract import default_operators
from gasearch.relax.settings import RelaxSection
from gasearch.run.execution_section import ExecutionSection
from gasearch.run.sections import ScreeningSection
from gasearch.search.dispatcher import Dispatcher, DispatchSettings
from gasearch.search.proposer import ProposalSettings, Proposer
from gasearch.search.search import Search, SearchLimits
from gasearch.search.visibility import Immediate
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import LevelRecord, Outcome, RunRecord

PACKAGES = ("gasearch", "numpy", "sqlalchemy", "psycopg", "ase")
SUPERCELL = (1, 2, 2)  # 16 formula units, 112 atoms
app = typer.Typer(pretty_exceptions_enable=False)


@contextmanager
def place_of(backend: str, folder: Path) -> Iterator[Any]:
    """Yield where a population is made: a file, or a schema of a server of our own."""
    if backend == "sqlite":
        yield folder / "search.db"
        return
    from gasearch.testing.postgresql import test_server

    with test_server() as server:
        yield server.place()


def new_store(host: Host, place: Any) -> PopulationStore:
    """Make a database of a search that ranks only."""
    run = RunRecord(host_to_json(host), host.atoms, {"search.x": "all"}, {}, 1, 16, {})
    level = LevelRecord("free", "free", "", (0.0, 0.0), ranks_only=True)
    return PopulationStore.create(place, run, level)


def make_search(
    host: Host,
    store: PopulationStore,
    executor: Executor,
    stop: threading.Event,
    observe: Any,
    *,
    budget: int,
    in_flight: int,
    screened: bool = False,
) -> Search:
    """Return a search; screened by a surrogate, or by operators and rank fitness alone."""
    settings = DispatchSettings(1, RelaxSection(), ExecutionSection(lease_s=1e6))
    drawn = ProposalSettings()
    if screened:
        drawn = ProposalSettings(screening=ScreeningSection(exact=False), hull_aware=False)
    return Search(
        store,
        Proposer(host, default_operators(), host.compositions, drawn),
        Immediate(),
        Dispatcher(host, store, executor, settings, stop),
        SearchLimits(budget, in_flight, stagnation=0, tight_window_per_fu=-1.0),
        observe,
    )


def most_memory() -> float:
    """Return the most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_now() -> float:
    """Return the memory that this process has, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 1e6


@app.command()
def busy(
    workers: int,
    in_flight: int,
    backend: str,
    duration: float,
    sleep: float,
    screened: bool = False,
    warm_up: float = 6.0,
) -> None:
    """Print how busy sleeping workers are, and what the driver takes."""
    host = _host()
    folder = Path(tempfile.mkdtemp(prefix="gasearch-scale-"))
    stamps: list[tuple[float, float, int]] = []
    stop = threading.Event()

    timer = threading.Timer(warm_up + workers / 20 + duration, stop.set)

    def observe(outcomes: Sequence[Outcome]) -> None:
        if not stamps:
            timer.start()
        stamps.append((time.perf_counter(), time.process_time(), len(outcomes)))

    try:
        with place_of(backend, folder) as place, new_store(host, place) as store:
            process.start_process = scale_workers.sleeping_processes(sleep)
            source = PotentialSource("sleep", folder, {})
            pool = WorkerPool(source, workers, 3600.0, folder / "workers.log")
            search = make_search(
                host, store, pool, stop, observe, budget=10**9, in_flight=in_flight,
                screened=screened,
            )  # fmt: skip
            search.run()
            n_candidates = store.n_candidates
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    end_s, end_cpu_s, _ = stamps[-1]
    since = [stamp for stamp in stamps if stamp[0] >= end_s - duration]
    wall_s = end_s - since[0][0]
    n_done = sum(n for _, _, n in since[1:])
    row = {
        "backend": backend,
        "workers": workers,
        "in_flight": in_flight,
        "screened": screened,
        "sleep_s": sleep,
        "busy_share": n_done * sleep / (wall_s * workers),
        "candidates_per_s": n_done / wall_s,
        "driver_cpu_share": (end_cpu_s - since[0][1]) / wall_s,
        "driver_MB": most_memory(),
        "candidates": n_candidates,
    }
    print(json.dumps(row))


@app.command()
def alone(backend: str, in_flight: int, number: int) -> None:
    """Print how many candidates per second the engine makes with relaxations that cost nothing."""
    host = _host()
    folder = Path(tempfile.mkdtemp(prefix="gasearch-scale-"))
    try:
        with place_of(backend, folder) as place, new_store(host, place) as store:
            began = time.perf_counter(), time.process_time()
            options = {"budget": number, "in_flight": in_flight}
            make_search(host, store, FreeExecutor(), threading.Event(), _nothing, **options).run()
            wall_s, cpu_s = time.perf_counter() - began[0], time.process_time() - began[1]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    row = {
        "backend": backend,
        "in_flight": in_flight,
        "candidates": number,
        "candidates_per_s": number / wall_s,
        "cpu_ms_per_candidate": 1000 * cpu_s / number,
        "driver_MB": most_memory(),
    }
    print(json.dumps(row))


def _nothing(outcomes: Sequence[Outcome]) -> None:
    """Look at no results."""


@app.command()
def growth(sizes: str, window: int = 1280, limit: float = 600.0) -> None:
    """Print the engine's time per candidate at each size, until the time limit in seconds."""
    folder = Path(tempfile.mkdtemp(prefix="gasearch-scale-"))
    path, began_s = folder / "search.db", time.monotonic()
    try:
        new_store(_host(), path).close()
        _measured("timed", path, 64)
        for size in map(int, sizes.split(",")):
            filled_s = time.monotonic()
            _measured("fill", path, size - min(window, size // 2))
            filled_s = time.monotonic() - filled_s
            for row in _measured("timed", path, size):
                file_MB = path.stat().st_size / 1e6
                print(json.dumps({**row, "fill_s": filled_s, "file_MB": file_MB}), flush=True)
            if time.monotonic() - began_s > limit:
                break
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@app.command()
def fill(path: Path, number: int) -> None:
    """Add synthetic candidates to a database until it has so many."""
    with PopulationStore.open(path) as store:
        scale_synthetic.Filler(_host(), store).fill(number)


@app.command()
def timed(path: Path, size: int) -> None:
    """Resume a search and go on to a size; print what both take."""
    stamps: list[tuple[float, float, int]] = []
    memory: list[float] = []

    def observe(outcomes: Sequence[Outcome]) -> None:
        stamps.append((time.perf_counter(), time.process_time(), len(outcomes)))
        memory.append(memory_now())

    host = _host()
    with PopulationStore.open(path) as store:
        began_s, n_before = time.perf_counter(), store.n_candidates
        stop = threading.Event()
        search = make_search(host, store, FreeExecutor(), stop, observe, budget=size, in_flight=64)
        search.run()
    first, last = stamps[0], stamps[-1]
    number = max(1, sum(n for _, _, n in stamps[1:]))
    row = {
        "candidates": size,
        "window": size - n_before,
        "resume_s": first[0] - began_s,
        "ms_per_candidate": 1000 * (last[0] - first[0]) / number,
        "cpu_ms_per_candidate": 1000 * (last[1] - first[1]) / number,
        "driver_MB": memory[-1],
        "driver_at_end_MB": most_memory(),
    }
    print(json.dumps(row))


def _host() -> Host:
    return Host.build(builtin_host("nafepo4-olivine"), SUPERCELL)


def _measured(*words: object) -> list[dict[str, Any]]:
    """Run one case as a process of its own, and return its rows; none where it cannot run."""
    command = [sys.executable, str(Path(__file__).resolve()), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(f"{' '.join(map(str, words))}: left out ({last})", file=sys.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


@app.command("all")
def everything(
    workers: Annotated[str, typer.Option(help="Comma-separated.")] = "64,256",
    sizes: Annotated[
        str, typer.Option(help="Comma-separated; none: growth as it was measured before.")
    ] = "1000,10000,100000,1000000",
    duration: Annotated[float, typer.Option(help="Seconds that are measured.")] = 30.0,
    output: Annotated[Path | None, typer.Option(help="Folder for scale.json and .md.")] = None,
    note: Annotated[str, typer.Option(help="What else the machine did.")] = "",
) -> None:
    """Measure everything, and print tables."""
    backends = ("sqlite", "postgresql")
    busy_rows, alone_rows = [], []
    for count in map(int, workers.split(",")):
        more = 3 * count // 2
        busy_rows += _measured("busy", count, count, "sqlite", duration, 1.0)
        busy_rows += _measured("busy", count, more, "sqlite", duration, 1.0)
        busy_rows += _measured("busy", count, more, "postgresql", duration, 1.0)
        busy_rows += _measured("busy", count, more, "sqlite", duration, 1.0, "--screened")
    for backend in backends:
        alone_rows += _measured("alone", backend, 64, 6400)
        alone_rows += _measured("alone", backend, 256, 6400)
    growth_rows = _measured("growth", sizes) if sizes else _growth_before(output)
    document = {
        "machine": describe_machine(PACKAGES),
        "note": note,
        "busy": busy_rows,
        "alone": alone_rows,
        "growth": growth_rows,
    }
    text = tables(document)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "scale.json").write_text(json.dumps(document, indent=2) + "\n")
        (output / "scale.md").write_text(text)
    print(text)


def _growth_before(output: Path | None) -> list[dict[str, Any]]:
    if output is None or not (output / "scale.json").exists():
        return []
    rows: list[dict[str, Any]] = json.loads((output / "scale.json").read_text())["growth"]
    return rows


def tables(document: dict[str, Any]) -> str:
    """Return what was measured as Markdown."""
    machine = ", ".join(f"{key} {value}" for key, value in document["machine"].items())
    grown = "| candidates | ms per candidate | of it CPU | ratio of CPU | resume, s "
    head = "| store | workers | s per task | in flight | screened | busy | candidates/s "
    lines = [
        "# How far one driver goes",
        "",
        f"Machine: {machine}. The driver, all workers and the PostgreSQL server share its cores;",
        "the server runs with `fsync = off`, so the latency of its disk is in no figure.",
        *([document["note"]] if document.get("note") else []),
        "",
        "## Workers that sleep",
        "",
        "Whole seconds are counted in a window of some twenty, so shares are right within 5",
        "%. With as many candidates in flight as workers, a worker waits for each commit;",
        "half as many more keep it busy. Energies are random, so a surrogate (screened) is",
        "refitted, found to be of no use, and not used. Where it is used, a proposal takes 26",
        "to 49 ms (see the search benchmark), and one driver feeds 20 to 40",
        "relaxations per second at most.",
        "",
        f"{head}| driver's core | driver, MB |",
        "|---|---:|---:|---:|---|---:|---:|---:|---:|",
        *[_busy_line(row) for row in document["busy"]],
        "",
        "## The engine alone: relaxations that cost nothing",
        "",
        "| store | in flight | candidates/s | CPU ms per candidate | driver, MB |",
        "|---|---:|---:|---:|---:|",
        *[_alone_line(row) for row in document["alone"]],
        "",
        "## Growth (SQLite, synthetic databases, 64 in flight)",
        "",
        "The engine's time per candidate just before each size. At its end, a search fits its",
        "surrogate to all results once more, for the last look: that is when it needs most memory.",
        "",
        f"{grown}| driver, MB | at its end, MB | file, MB |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
        *[_growth_line(row, document["growth"][0]) for row in document["growth"]],
    ]
    return "\n".join(lines) + "\n"


def _busy_line(row: dict[str, Any]) -> str:
    screened = "yes" if row["screened"] else "no"
    name = f"| {row['backend']} | {row['workers']} | {row['sleep_s']:g} | {row['in_flight']}"
    rates = f"{row['busy_share']:.0%} | {row['candidates_per_s']:.1f}"
    return (
        f"{name} | {screened} | {rates} | {row['driver_cpu_share']:.0%} | {row['driver_MB']:.0f} |"
    )


def _alone_line(row: dict[str, Any]) -> str:
    rates = f"{row['candidates_per_s']:.0f} | {row['cpu_ms_per_candidate']:.2f}"
    return f"| {row['backend']} | {row['in_flight']} | {rates} | {row['driver_MB']:.0f} |"


def _growth_line(row: dict[str, Any], first: dict[str, Any]) -> str:
    ratio = row["cpu_ms_per_candidate"] / first["cpu_ms_per_candidate"]
    times = f"{row['ms_per_candidate']:.2f} | {row['cpu_ms_per_candidate']:.2f} | {ratio:.1f}"
    memory = f"{row['driver_MB']:.0f} | {row['driver_at_end_MB']:.0f}"
    sizes = f"{row['resume_s']:.1f} | {memory} | {row['file_MB']:.0f}"
    return f"| {row['candidates']:,} | {times} | {sizes} |"


if __name__ == "__main__":
    app()
