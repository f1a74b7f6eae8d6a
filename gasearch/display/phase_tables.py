"""What `gasearch phase-diagram` prints. Nothing is computed here."""

from __future__ import annotations

from rich.table import Table

from gasearch.display.tables import make_table, milli
from gasearch.phases.diagram import PhaseDiagram
from gasearch.phases.phase_diagram import Study
from gasearch.phases.study import Model
from gasearch.phases.walks.orders import SHORT_RANGE


def model_lines(found: Study) -> list[str]:
    """Return what the Hamiltonians are made of."""
    training, full = found.training, found.models[0].fit
    cells = ", ".join(f"{len(one)} of {one.name}" for one in training.cells)
    held = f"; {training.n_left_out} held by force left out" if training.n_left_out else ""
    inverse = full.hamiltonian.inverse_dielectric
    screening = f"dielectric constant {1 / inverse:.1f}" if inverse > 1e-6 else "charges unscreened"
    cell = " x ".join(map(str, found.repeats))
    attempts = f"{found.n_attempts:.3g} attempted moves"
    many = f"{len(full.hamiltonian.interactions)} interactions"
    return [
        f"energies      {cells}{held}",
        f"Hamiltonian   {many} ({full.n_told_apart} combinations told apart), {screening}",
        f"Monte Carlo   {cell} unit cells, {found.n_formula_units} f.u., {attempts}",
    ]


def quality_table(models: tuple[Model, ...]) -> Table:
    """Return the errors of the Hamiltonians where energies were left out."""
    rows = [
        (
            model.disorder,
            one.what,
            str(one.n),
            milli(one.error),
            "-" if one.low_error != one.low_error else milli(one.low_error),
            milli(one.spread),
            f"{one.explained:.0%}" if one.spread > 0 else "-",
        )
        for model in models
        for one in (model.fit.crystals, *model.fit.cells)
    ]
    columns = (
        "disorder", "left out", "n", "error\n(meV/f.u.)", "near hull\n(meV/f.u.)",
        "spread\n(meV/f.u.)", "explained",
    )  # fmt: skip
    return make_table(columns, rows, ("disorder", "left out"))


def phases(diagram: PhaseDiagram, at: tuple[float, ...]) -> list[Table]:
    """Return a table of the two-phase regions at some temperatures; none where there is none."""
    rows = [
        (
            f"{diagram.temperatures_K[n]:.0f}",
            _with_error(gap.x_from, gap.error_from),
            _with_error(gap.x_to, gap.error_to),
            f"{1000 * gap.depth:.2f}",
        )
        for n in (diagram.at(temperature_K) for temperature_K in at)
        for gap in diagram.gaps[n]
    ]
    return [make_table(("T\n(K)", "x", "to x", "depth\n(meV/f.u.)"), rows, ())] if rows else []


def _with_error(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}"


def transitions_table(diagrams: tuple[PhaseDiagram, ...]) -> Table:
    """Return where the orders of ground states go."""
    rows = [
        (
            diagram.disorder,
            f"{one.x:.4g}",
            one.cell,
            one.what,
            _kelvin(one.temperature_K),
            _kelvin(one.cooled_K),
        )
        for diagram in diagrams
        for one in diagram.transitions
    ]
    columns = ("disorder", "x", "found in", "order of", "lost at\n(K)", "formed at\n(K)")
    return make_table(columns, rows, ("disorder", "found in", "order of"))


def _kelvin(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def short_range_table(found: Study) -> Table:
    """Return correlations of neighbours at the temperature, over x."""
    diagram = found.diagrams[0]
    n = diagram.at(found.options.temperature_K)
    rows = [
        (
            f"{branch.x:.3f}",
            milli(float(branch.free_energy[n] - _line(diagram, n, branch.x))),
            milli(float(branch.error[n])),
            f"{branch.heat_capacity[n]:.2f}",
            *(f"{value:+.2f}" for value in branch.short_range[n]),
        )
        for branch in diagram.branches
    ]
    columns = (
        "x", "F_f\n(meV/f.u.)", "error\n(meV/f.u.)", "heat cap.\n(k/f.u.)",
        *(f"{name}\norder" for name in SHORT_RANGE),
    )  # fmt: skip
    return make_table(columns, rows, ())


def _line(diagram: PhaseDiagram, n: int, x: float) -> float:
    first, last = diagram.branches[0], diagram.branches[-1]
    slope = (last.free_energy[n] - first.free_energy[n]) / (last.x - first.x)
    return float(first.free_energy[n] + slope * (x - first.x))


def size_lines(found: Study) -> list[str]:
    """Return what a smaller cell gives: free energies, and where orders are lost."""
    smaller = found.smaller
    if smaller is None:
        return ["no smaller cell to compare with: what the size of this one does is not known"]
    cell = " x ".join(map(str, smaller.repeats))
    lines = [f"a cell of {cell} for comparison, at {found.options.temperature_K:g} K:"]
    for is_two_phase, where in ((False, "of one phase"), (True, "within two phases, where F")):
        worst = smaller.worst(is_two_phase=is_two_phase)
        if worst is not None:
            more = " is that of no phase" if is_two_phase else ""
            lines.append(
                f"  F differs by {1000 * worst.difference:+.2f} ± {1000 * worst.error:.2f} "
                f"meV/f.u. at most {where}{more} (x = {worst.x:.3g})"
            )
    large = {(one.x, one.what): one for one in found.diagrams[0].transitions}
    for one in smaller.transitions:
        other = large.get((one.x, one.what))
        if other is not None:
            lines.append(
                f"  the order of {one.what} at x = {one.x:.3g} is lost at "
                f"{_kelvin(one.temperature_K)} K, not {_kelvin(other.temperature_K)} K"
            )
    return lines


def closing_line(diagram: PhaseDiagram) -> str:
    """Return up to where there are two phases."""
    name = diagram.disorder
    if diagram.highest_two_phase is None:
        return f"{name}: one phase at all temperatures and compositions that were sampled"
    highest = max(diagram.temperatures_K)
    if diagram.highest_two_phase >= highest:
        return f"{name}: two phases up to the highest temperature, {highest:.0f} K"
    return f"{name}: two phases up to {diagram.highest_two_phase:.0f} K"
