"""The first chapter: what was searched, how far, and at which level."""

from __future__ import annotations

from datetime import UTC, datetime

from gasearch import __version__
from gasearch.crystal.host import Host
from gasearch.display.tables import cautions, hull_runs
from gasearch.report.material import Material
from gasearch.report.sections import Section, Table, Text


def summary_section(material: Material) -> Section:
    """Return the host, and a line for each run."""
    blocks: list[Text | Table] = [
        Text(_host_text(name, host)) for name, host in material.hosts.items()
    ]
    texts = dict.fromkeys(
        text for hull in material.hulls for text in cautions(hull.level, hull_runs(hull))
    )
    blocks += [Text(text, is_warning=True) for text in texts]
    rows = [
        (
            run.name,
            run.cell,
            run.findings.level.name,
            f"{run.status.counts.candidates:,}",
            f"{run.status.counts.by_verdict.get('ok', 0):,}",
            f"{run.status.counts.n_calls:,}",
            run.status.ending or ("running" if run.status.running else "stopped"),
        )
        for run in material.runs
    ]
    names = ("run", "cell", "level of theory", "candidates", "valid", "force calls", "state")
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    made = Text(f"Made by gasearch {__version__} on {now}.")
    numbers = {"host": ", ".join(material.hosts), "x_of_interest": material.x_of_interest}
    return Section("summary", "Summary", [*blocks, Table(names, rows), made], numbers)


def _host_text(name: str, host: Host) -> str:
    low, high = host.x_range
    text = (
        f"x from {low:.4g} to {high:.4g}. Working ion {host.working_element}."
        if host.has_axis
        else f"{host.compositions[0].formula} alone: nothing comes and goes."
    )
    return f"{name}, {host.space_group.symbol}, {host.declaration.formula_unit}; {text}"
