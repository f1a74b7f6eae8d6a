"""`gasearch phase-diagram`: from a finished search to temperature and composition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gasearch.cli.common import Json, err, print_result
from gasearch.cli.hull import Folders, Level

# What is heavy is imported by the command: its errors, and Ctrl-C, then meet `main`.
if TYPE_CHECKING:
    from gasearch.analysis.joint_hull import JointHull
    from gasearch.phases.phase_diagram import Study
    from gasearch.phases.study import Options
    from gasearch.phases.walks.sampling import Task


def phase_diagram(
    folders: Folders,
    temperature: Annotated[
        float, typer.Option("--temperature", "-T", metavar="T_K", help="Of voltage and tables.")
    ] = 300.0,
    lowest: Annotated[float, typer.Option(metavar="T_K", help="Lowest temperature.")] = 150.0,
    highest: Annotated[float, typer.Option(metavar="T_K", help="Highest temperature.")] = 1200.0,
    compositions: Annotated[
        int, typer.Option(metavar="N", help="Compositions from end to end, both included.")
    ] = 25,
    cell: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="A B C", help="Unit cells in the Monte Carlo; about 500 f.u."),
    ] = None,
    sweeps: Annotated[
        int, typer.Option(min=1, metavar="N", help="Attempted moves per site and temperature.")
    ] = 400,
    pairs: Annotated[float, typer.Option(metavar="R", help="Longest pairs, in Å.")] = 8.0,
    triplets: Annotated[float, typer.Option(metavar="R", help="Widest triplets, in Å.")] = 6.0,
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 1,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Processes.")] = 1,
    both_only: Annotated[
        bool, typer.Option("--both-only", help="Not without electronic entropy, nor without ions.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Even where the energies are not worth a diagram.")
    ] = False,
    level: Level = None,
    metal_energy: Annotated[
        float | None,
        typer.Option(metavar="E", help="Energy of the working ion's metal, in eV per atom."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the results; phase-diagram in the first run folder."),
    ] = None,
    json: Json = False,
) -> None:
    """Compute a temperature-composition diagram.

    One Hamiltonian is fitted to all run folders, and sampled by Monte Carlo: ions and charges
    together, then each of them with the other slaved. Killed and started again, it goes on.
    """
    from gasearch.phases.energies.clusters import Reach
    from gasearch.phases.energies.training import read_training, worthless
    from gasearch.phases.phase_diagram import study, write_document
    from gasearch.phases.study import Options

    options = Options(
        reach=Reach(pairs, triplets),
        repeats=cell,
        n_compositions=compositions,
        temperature_K=temperature,
        lowest_K=lowest,
        highest_K=highest,
        n_sweeps=sweeps,
        seed=seed,
        disorders=("ions and charges",) if both_only else Options.disorders,
    )
    options.check()
    hull, training = read_training(folders, level, anyway=anyway)
    reason = worthless(hull)
    cautions = [f"note: {reason}"] if reason else []
    place = output or folders[0] / "phase-diagram"
    with _progress(json) as progress:
        found = study(
            training,
            options,
            place,
            n_workers=workers,
            anyway=anyway,
            progress=progress,
            cautions=cautions,
        )
    write_document(found, place / "phase-diagram.json")
    lines = [f"wrote {place / 'phase-diagram.json'}", *_figures(found, hull, metal_energy, place)]
    _print(found, lines, json=json)


@contextmanager
def _progress(json: bool) -> Iterator[Callable[[int, int, Task], None] | None]:
    from gasearch.display.progress import Step, displays

    if json:
        yield None
        return
    with displays(err, with_counts=True) as (display,):

        def show(done: int, total: int, task: Task) -> None:
            line = f"{done} of {total} walks; last: {task.name}"
            display.show(Step(line, "walks", done, total, task.name))

        yield show


def _figures(found: Study, hull: JointHull, metal_energy: float | None, place: Path) -> list[str]:
    """Write the figures, and return lines that say so, or why there are none."""
    from gasearch.analysis.voltage import NoMetalError, hull_voltage, metal_of
    from gasearch.display.phase_figures import plot_diagrams, plot_thermal_voltage
    from gasearch.display.plotting import NoPlotError

    lines = []
    try:
        for ending in ("png", "pdf"):
            path = place / f"phase-diagram.{ending}"
            plot_diagrams(found, path, f"{found.training.lattice.name}, {hull.level.name}")
            lines.append(f"wrote {path}")
        metal = metal_of(hull.members[0], metal_energy)
        ground = hull_voltage(hull, metal_energy).steps
        path = place / "voltage.png"
        plot_thermal_voltage(found, found.voltage(metal), ground, metal.energy, metal.element, path)
        lines.append(f"wrote {path}")
    except (NoMetalError, NoPlotError) as error:
        lines.append(f"note: {error}".rstrip("."))
    return lines


def _print(found: Study, lines: list[str], *, json: bool) -> None:
    from gasearch.display import phase_tables as tables

    shown: list[object] = [*tables.model_lines(found), "", tables.quality_table(found.models), ""]
    for diagram in found.diagrams:
        temperatures = _some(diagram.temperatures_K, found.options)
        shown += [tables.closing_line(diagram), *tables.phases(diagram, temperatures), ""]
    if any(diagram.transitions for diagram in found.diagrams):
        shown += ["orders of ground states:", tables.transitions_table(found.diagrams), ""]
    else:
        shown += ["orders of ground states: none between the ends in this cell", ""]
    shown += [
        f"ions and charges at {found.options.temperature_K:g} K:",
        tables.short_range_table(found),
        *tables.size_lines(found),
        "",
        *lines,
    ]
    print_result(found.document(), *shown, json=json, notes=found.notes)


def _some(temperatures_K: tuple[float, ...], options: Options) -> tuple[float, ...]:
    """Return a few temperatures for a table, the chosen one among them."""
    own = options.temperature_K
    few = [t for n, t in enumerate(reversed(temperatures_K)) if n % 6 == 0]
    return tuple(sorted({own, *few}))
