"""The live page beside a search that writes: sizes, times, and what a commit waits for it.

    serve.py                            100,000 candidates, two minutes
    serve.py --size 10000 --duration 10

The database is synthetic (`scale_synthetic.py`), with energies around a hull and a tenth of the
candidates not ok. A writer commits four results and four proposals at a time, five times a second,
as a search at full speed does: alone, beside `gasearch serve` with a reader that asks as often as
four open pages do, and beside `gasearch status` over and over, which reads everything each time.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import scale
import scale_synthetic
import typer
from machine import describe_machine
from sqlalchemy import select, update

from gasearch.run.folder import RunFolder
from gasearch.serve.document import section_documents
from gasearch.serve.overview import run_document
from gasearch.serve.panels import panels
from gasearch.serve.site import page_files
from gasearch.serve.watching import LiveRun
from gasearch.store.population_store import PopulationStore
from gasearch.store.schema import candidate, evaluation
from gasearch.testing.store import example_proposal, example_relaxed

PACKAGES = ("gasearch", "numpy", "sqlalchemy", "plotly")
ROOT = Path(__file__).resolve().parents[1]
_EVERY_S = 0.2
_AT_ONCE = 4
_REASONS = (
    "after {} calls the largest force is 0.{} eV/Å (limit 0.02)",
    "Fe {} and O {} are fused",
)
_CHUNK = 500
_DRAWN = (
    "(all => all.length > 0 && all.every(p => p.querySelector('.main-svg')))"
    "([...document.querySelectorAll('.plot')].filter(p => {}))"
)
app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def main(
    size: Annotated[int, typer.Option(help="Candidates.")] = 100_000,
    duration: Annotated[float, typer.Option(help="Seconds of each measurement of commits.")] = 20.0,
    output: Annotated[Path | None, typer.Option(help="Folder for serve.json and .md.")] = None,
    note: Annotated[str, typer.Option(help="What else the machine did.")] = "",
) -> None:
    """Measure everything, and print tables."""
    folder = Path(tempfile.mkdtemp(prefix="gasearch-serve-"))
    try:
        make_database(folder, size)
        document = {
            "machine": describe_machine(PACKAGES),
            "note": note,
            "size": size,
            "reading": reading(folder),
            "browser": browsing(folder),
            "commits": commits(folder, duration),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = tables(document)
    if output is not None:
        (output / "serve.json").write_text(json.dumps(document, indent=2) + "\n")
        (output / "serve.md").write_text(text)
    print(text)


def make_database(folder: Path, size: int) -> None:
    """Make a search of this size, as it would be after days."""
    path = folder / "search.db"
    host = scale._host()
    scale.new_store(host, path).close()
    scale._measured("timed", path, 64)
    with PopulationStore.open(path) as store:
        scale_synthetic.Filler(host, store).fill(size)
        rng = np.random.default_rng(1)
        query = select(evaluation.c.id, candidate.c.x).join(
            candidate, candidate.c.id == evaluation.c.candidate
        )
        rows = store.read(lambda connection: connection.execute(query).all())
        for start in range(0, len(rows), 20_000):
            store.write(lambda t, some=rows[start : start + 20_000]: _falsify(t, some, rng))


def _falsify(transaction: Any, rows: Any, rng: np.random.Generator) -> None:
    """Give candidates energies about a hull, and verdicts, as a search has them."""
    for key, x in rows:
        above = 0.0 if x in (0.0, 1.0) else rng.gamma(3.0, 0.03)
        values: dict[str, Any] = {"energy": float(16 * (-20 - x + 0.4 * x * (x - 1) + above))}
        if x not in (0.0, 1.0) and rng.random() < 0.1:
            reason = _REASONS[key % 2].format(key % 500, key % 97)
            values |= {"verdict": ("unconverged", "broken")[key % 2], "reason": reason}
        change = update(evaluation).where(evaluation.c.id == key).values(**values)
        transaction.connection.execute(change)


def reading(folder: Path) -> dict[str, Any]:
    """Return what it takes to read the whole, and to make the documents of the page."""
    run, took = LiveRun(RunFolder(folder)), []
    step = run._step

    def timed() -> Any:
        began_s = time.perf_counter()
        found = step()
        took.append(time.perf_counter() - began_s)
        return found

    run._step = timed  # type: ignore[method-assign]
    whole_s, _ = _timed(lambda: run.look(threading.Event()))
    nothing_new_s, _ = _timed(lambda: run.look(threading.Event()))
    table_s, _ = _timed(run._rows.table)
    sections_s, sections = _timed(lambda: section_documents(panels(run.moment, None)))
    run.close()
    files = page_files().values()
    return {
        "whole_s": whole_s,
        "transactions": len(took),
        "median_transaction_ms": 1000 * statistics.median(took),
        "longest_transaction_ms": 1000 * max(took),
        "nothing_new_ms": 1000 * nothing_new_s,
        "columns_ms": 1000 * table_s,
        "sections_ms": 1000 * sections_s,
        "page_MB": sum(len(one.body) for one in files) / 1e6,
        "page_packed_MB": sum(len(one.packed) for one in files) / 1e6,
        "sections_MB": len(json.dumps(sections)) / 1e6,
        "poll_kB": len(json.dumps(run_document(run, 0))) / 1e3,
    }


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began_s = time.perf_counter()
    found = work()
    return time.perf_counter() - began_s, found


def browsing(folder: Path) -> dict[str, Any] | None:
    """Return when a browser shows the texts and the figures; None without a browser."""
    sys.path.append(str(ROOT / "tests" / "support"))
    import browser

    if not any(map(shutil.which, browser.BROWSERS)):
        return None
    with serving(folder) as address, tempfile.TemporaryDirectory() as profile:
        _wait_until_whole(address)
        rows = []
        for _ in range(3):  # the first one begins with an empty cache
            with browser.Page(Path(profile)) as page:
                began_s = time.perf_counter()
                page.open(address)
                page.wait_for("document.querySelectorAll('#overview tbody tr').length > 0")
                texts_s = time.perf_counter() - began_s
                page.wait_for(_DRAWN.format("p.getBoundingClientRect().top < innerHeight"))
                view_s = time.perf_counter() - began_s
                page.wait_for(_DRAWN.format("true"))
                figures_s = time.perf_counter() - began_s
                row = {"texts_s": texts_s, "view_s": view_s, "figures_s": figures_s}
                row["cpu_s"] = page.cpu_s()
                rows.append(row)
    return {"first": rows[0], "next": min(rows[1:], key=lambda row: row["figures_s"])}


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run `gasearch serve`; yield its address."""
    command = [sys.executable, "-m", "gasearch", "serve", str(folder), "--port", "0"]
    process = subprocess.Popen([*command, "--every", "0.5"], stdout=subprocess.PIPE, text=True)
    try:
        yield (process.stdout.readline() if process.stdout else "").removeprefix("open ").strip()
    finally:
        process.terminate()
        process.wait()


def _asked(address: str, path: str) -> Any:
    with urllib.request.urlopen(address + path) as answer:
        return json.loads(answer.read())


def _wait_until_whole(address: str) -> None:
    while not _asked(address, "api/runs")["runs"][0]["is_whole"]:
        time.sleep(0.2)


def commits(folder: Path, duration_s: float) -> list[dict[str, Any]]:
    """Return how long commits take: alone, beside the live page, and beside the status."""
    rows = [_committing(folder, "alone", duration_s)]
    with serving(folder) as address, _over_and_over(lambda: _poll(address)):
        _wait_until_whole(address)
        rows.append(_committing(folder, "gasearch serve, asked eight times a second", duration_s))
    with serving(folder):
        rows.append(_committing(folder, "gasearch serve, as it reads all at its start", duration_s))
    command = [sys.executable, "-m", "gasearch", "status", str(folder), "--json"]
    with _over_and_over(lambda: subprocess.run(command, capture_output=True, check=False)):
        rows.append(_committing(folder, "gasearch status, over and over", duration_s))
    return rows


def _poll(address: str) -> None:
    with suppress(OSError):
        _asked(address, "api/runs")
        _asked(address, "api/run?n=0")
    time.sleep(0.125)


@contextmanager
def _over_and_over(work: Callable[[], object]) -> Iterator[None]:
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            work()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _committing(folder: Path, beside: str, duration_s: float) -> dict[str, Any]:
    took: list[float] = []
    relaxed = example_relaxed(0, 16)
    with PopulationStore.open(folder / "search.db") as store:
        end_s = time.perf_counter() + duration_s
        leases: tuple[Any, ...] = ()
        while time.perf_counter() < end_s:
            first = store.n_candidates + 1
            numbers = range(first, first + _AT_ONCE)
            batch = store.batch()
            for lease in leases:
                batch.record(lease, relaxed)
            batch.propose(example_proposal(number) for number in numbers)
            batch.lease(numbers)
            began_s = time.perf_counter()
            leases = batch.commit().leases
            took.append(time.perf_counter() - began_s)
            time.sleep(max(0.0, _EVERY_S - took[-1]))
    ranked = sorted(took)
    return {
        "beside": beside,
        "commits": len(took),
        "median_ms": 1000 * statistics.median(took),
        "p95_ms": 1000 * ranked[int(0.95 * len(ranked))],
        "longest_ms": 1000 * ranked[-1],
    }


def tables(document: dict[str, Any]) -> str:
    """Return what was measured as Markdown."""
    machine = ", ".join(f"{key} {value}" for key, value in document["machine"].items())
    read, browser = document["reading"], document["browser"]
    pieces = f"{read['transactions']}, median {read['median_transaction_ms']:.1f} ms"
    rows = {
        "the database read to its end, with pauses": f"{read['whole_s']:.1f} s",
        f"in transactions of {_CHUNK} candidates, with what becomes of their rows": (
            f"{pieces}, longest {read['longest_transaction_ms']:.0f} ms"
        ),
        "a look without anything new": f"{read['nothing_new_ms']:.1f} ms",
        "columns after something new": f"{read['columns_ms']:.0f} ms",
        "sections after something new": f"{read['sections_ms']:.0f} ms",
        "page with scripts": f"{read['page_MB']:.2f} MB, sent as {read['page_packed_MB']:.2f} MB",
        "sections of a run": f"{read['sections_MB']:.3f} MB",
        "what is asked for every two seconds": f"{read['poll_kB']:.1f} kB",
    }
    for name, row in (browser or {}).items():
        rows[f"{name} visit, in Chromium"] = (
            f"texts after {row['texts_s']:.1f} s, figures in view after {row['view_s']:.1f} s, all "
            f"after {row['figures_s']:.1f} s; "
            f"{row['cpu_s']:.1f} s of CPU time in the page"
        )
    lines = [
        f"# The live page at {document['size']:,} candidates",
        "",
        f"Machine: {machine}.",
        *([document["note"]] if document["note"] else []),
        "",
        "| what | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
    ]
    lines += [
        "",
        f"Commits of {_AT_ONCE} results and {_AT_ONCE} proposals, {1 / _EVERY_S:.0f} a second:",
        "",
        "| beside | commits | median, ms | 95 %, ms | longest, ms |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['beside']} | {row['commits']} | {row['median_ms']:.1f} | {row['p95_ms']:.1f} | "
        f"{row['longest_ms']:.0f} |"
        for row in document["commits"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    app()
