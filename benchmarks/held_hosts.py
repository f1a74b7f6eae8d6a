"""Searches of hosts of many chemistries with a held potential: no training, no key set by hand.

Each host goes from `gasearch init` to `gasearch hull` as a user's would, with the run.toml that
`init` writes. The run folders stay in build/held-hosts, so that the command continues what was
stopped, and does nothing for what is done. Structures are in benchmarks/hosts.

usage: held_hosts.py run [HOST ...]
       held_hosts.py report [--output benchmarks/results]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from machine import describe_machine

from gasearch.analysis.findings import HELD_FROM, Findings, Ranked
from gasearch.relax.calibration import Calibration
from gasearch.run.folder import RunFolder
from gasearch.search.resume import CALIBRATION_FOUND

ROOT = Path(__file__).parents[1]
HOSTS = ROOT / "benchmarks" / "hosts"
RUNS = ROOT / "build" / "held-hosts"
PACKAGES = ("gasearch", "torch", "chgnet", "numpy")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Case:
    """A host, and what is known of it.

    Parameters
    ----------
    host
        As `gasearch init --host` takes it.
    known
        What experiment or DFT says of the order and of intermediate phases, with its source.
    edit
        What a user who knows the material corrects in the guess of `init`, from and to.
    """

    host: str
    supercell: tuple[int, int, int]
    budget: int
    known: str
    edit: tuple[str, str] | None = None


CASES = {
    "LiFePO4": Case(
        "lifepo4-olivine",
        (1, 2, 1),
        25,
        "no intermediate phase at room temperature (Padhi 1997; solid solution at 450 °C: "
        "Delacourt 2005); formation energies positive in DFT+U (Zhou 2004)",
    ),
    "LiMnPO4": Case(
        "LiMnPO4.cif",
        (1, 1, 1),
        16,
        "two phases, LiMnPO4 and MnPO4 (Yonemura 2004)",
    ),
    "LiFe0.5Mn0.5PO4": Case(
        "LiFe05Mn05PO4.cif",
        (1, 1, 1),
        25,
        "Fe is oxidised first, near 3.5 V, Mn near 4.1 V (Padhi 1997; Yamada 2001): "
        "at x = 1/2 all Fe3+, all Mn2+",
    ),
    "LiCoPO4": Case(
        "LiCoPO4.cif",
        (1, 1, 1),
        16,
        "an intermediate phase at x = 2/3 (Bramnik 2007; Strobridge 2014), which this cell "
        "cannot hold",
    ),
    "Na2FeSiO4": Case(
        "na2fesio4",
        (1, 1, 1),
        20,
        "no order is published that we know of",
    ),
    "Na3V2(PO4)3": Case(
        "Na3V2P3O12.cif",
        (1, 1, 1),
        60,
        "Na1 and Na3 are phases, two-phase reaction at 3.4 V (Gopalakrishnan 1992; Jian 2012); "
        "Na2 appears in between, metastable (Park 2022)",
    ),
    "LiMn2O4": Case(
        "LiMn2O4.cif",
        (1, 1, 1),
        20,
        "Mn3+/Mn4+ order below 290 K in a 3x3x1 cell (Rodriguez-Carvajal 1998), which this cell "
        "cannot hold; Li order at x = 1/2 (Gao 1996)",
    ),
    "LiNi0.5Mn1.5O4": Case(
        "LiNi05Mn15O4.cif",
        (1, 1, 1),
        20,
        "Mn stays 4+; phases at x = 1, 1/2 and 0 (Ariyoshi 2004)",
    ),
    "LiNi0.5Mn1.5O4, Ni4+ added": Case(
        "LiNi05Mn15O4.cif",
        (1, 1, 1),
        20,
        "as above",
        ('["Ni2+", "Ni3+"]', '["Ni2+", "Ni3+", "Ni4+"]'),
    ),
    "LiNiO2": Case(
        "LiNiO2.cif",
        (2, 2, 1),
        25,
        "vacancy orders at x = 1/4, 1/3, 1/2, 3/4 (Peres 1999; Arroyo y de Dompablo 2002): "
        "formation energies are negative",
    ),
    "NaNFM": Case(
        "NaNiFeMnO2.cif",
        (2, 1, 1),
        20,
        "Ni2+, Fe3+, Mn4+ at x = 1; Ni is oxidised first (Kim 2012)",
    ),
}


@app.command()
def run(hosts: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Search hosts, one after the other; all by default."""
    for name in hosts or CASES:
        if name not in CASES:
            raise typer.BadParameter(f"expected some of {', '.join(CASES)}")
        typer.echo(f"{name}: {search(name)}", err=True)


@app.command()
def report(
    output: Annotated[Path | None, typer.Option(help="Folder for held_hosts.*.")] = None,
) -> None:
    """Summarise the searches."""
    rows = {name: summary(name) for name in CASES if (RUNS / name).exists()}
    document = {"hosts": rows, "machine": describe_machine(PACKAGES)}
    text = page(rows)
    if output is not None:
        written = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        (output / "held_hosts.json").write_text(written, encoding="utf-8")
        (output / "held_hosts.md").write_text(text, encoding="utf-8")
    typer.echo(text)


def search(name: str) -> str:
    """Bring one host from `init` to its hull; return the last line that was said."""
    case, folder = CASES[name], RUNS / name
    if not (folder / "run.toml").exists():
        host = str(HOSTS / case.host) if case.host.endswith(".cif") else case.host
        cells = [str(n) for n in case.supercell]
        options = ["--host", host, "--supercell", *cells, "--budget", str(case.budget)]
        _say(folder, "init", str(folder), *options)
        if case.edit is not None:
            text = (folder / "run.toml").read_text(encoding="utf-8").replace(*case.edit)
            (folder / "run.toml").write_text(text, encoding="utf-8")
    return _say(folder, "run", str(folder))


def _say(folder: Path, *words: str) -> str:
    """Run a command of gasearch; keep what it says in a log; return its last line of errors."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "gasearch", *words]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "operators")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "COLUMNS": "200"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    log = folder.parent / f"{folder.name}.log"
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ gasearch {' '.join(words[:1])}\n{ended.stdout}{ended.stderr}\n")
    if ended.returncode:
        refused = folder.parent / f"{folder.name}.refused"
        refused.write_text(ended.stderr.strip().splitlines()[-1] + "\n", encoding="utf-8")
        return ended.stderr.strip().splitlines()[-1]
    return "done"


def summary(name: str) -> dict[str, Any]:
    """Return what became of one host."""
    case, folder = CASES[name], RunFolder(RUNS / name)
    known: dict[str, Any] = {"host": case.host, "supercell": case.supercell, "known": case.known}
    if not folder.is_started:
        refused = RUNS / f"{name}.refused"
        return {**known, "refused": refused.read_text().strip() if refused.exists() else "not run"}
    with folder.open_store() as store:
        findings = Findings(store)
        rows, ok = findings.ranked(verdict=None), findings.ranked()
        calibration = Calibration.from_json(store.run.settings[CALIBRATION_FOUND])  # type: ignore[arg-type]
        return {
            **known,
            "n_atoms": len(findings.host.atoms),
            "held_by": calibration.hold.by,
            "calibration": calibration.in_words(),
            "relaxed": len(rows),
            "verdicts": dict(sorted(Counter(row.verdict for row in rows).items())),
            "with_residual": sum(row.penalty_eV >= HELD_FROM for row in ok),
            "residual_meV_max": 1000 * max((row.penalty_eV for row in ok), default=0.0),
            "points": _lowest(findings, ok),
        }


def _lowest(findings: Findings, rows: Sequence[Ranked]) -> list[dict[str, Any]]:
    """Return the lowest candidate of each composition, and its formation energy."""
    lowest: dict[str, Ranked] = {}
    for row in sorted(rows, key=lambda row: row.energy_eV):
        lowest.setdefault(row.formula, row)
    return [
        {
            "x": row.x,
            "formation_energy_meV_per_fu": (
                None
                if row.formation_energy_eV_per_fu is None
                else 1000 * row.formation_energy_eV_per_fu
            ),
            "on_hull": row.on_hull,
            "residual_meV": 1000 * row.penalty_eV,
            "states": _states(findings, row.id),
        }
        for row in sorted(lowest.values(), key=lambda row: row.x)
    ]


def _states(findings: Findings, candidate: int) -> dict[str, int]:
    """Return how many redox sites of a candidate have each state."""
    from gasearch.crystal.decoration import Decoration

    occupation = findings.store.proposal(candidate).occupation
    decoration = Decoration.from_bytes(findings.host, occupation)
    atoms = decoration.to_atoms()
    charges = atoms.get_initial_charges().round().astype(int)
    redox = {s.element for part in findings.host.sublattices[1:] for s in part.species}
    found = Counter(
        f"{symbol}{charge}+"
        for symbol, charge in zip(atoms.symbols, charges, strict=True)
        if symbol in redox
    )
    return dict(sorted(found.items()))


_HEADS = (
    *("host", "atoms", "held by", "relaxed", "order kept", "with residual", "largest, meV/cell"),
    *("lowest E_f, meV/f.u. (x)", "literature"),
)


def page(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table of all hosts."""
    lines = [
        "# Hosts of many chemistries, held without training",
        "",
        "From `gasearch init` to the hull with CHGNet 0.3.0 and the run.toml that `init` writes.",
        "Orders kept are read by the quantity that does not hold, where it tells states apart.",
        "Formation energies across x are the potential's own, and not mended by a hold.",
        "",
        f"| {' | '.join(_HEADS)} |",
        "|---|---:|---|---:|---:|---:|---:|---|---|",
    ]
    for name, row in rows.items():
        if "refused" in row:
            lines.append(f"| {name} | | | | | | | refused | {row['known']} |")
            continue
        kept = row["verdicts"].get("ok", 0)
        lines.append(
            f"| {name} | {row['n_atoms']} | {row['held_by']} | {row['relaxed']} | {kept} "
            f"| {row['with_residual']} | {row['residual_meV_max']:.1f} "
            f"| {_energies(row['points'])} | {row['known']} |"
        )
    lines += ["", "## Beside the literature", "", *_beside(rows)]
    lines += ["", "## What they were held to, and what was said", ""]
    for name, row in rows.items():
        lines += [f"- **{name}**: {row.get('refused') or _told(row)}"]
    lines += ["", f"Sources: {'; '.join(SOURCES)}."]
    return "\n".join(lines) + "\n"


SEPARATES = ("LiFePO4", "LiMnPO4")
"""Hosts whose ends are the only phases in nature: all energies between them should be positive."""
FIRST = {
    "LiFe0.5Mn0.5PO4": (0.5, {"Fe3+": 2, "Mn2+": 2}, "Fe oxidised before Mn"),
    "NaNFM": (1.0, {"Fe3+": 2, "Mn4+": 2, "Ni2+": 2}, "Ni2+ beside Fe3+, not Ni3+ beside Fe2+"),
    "Na3V2(PO4)3": (0.75, {"V3+": 4}, "V3+ alone"),
}
"""States that literature has in the ground state at an x."""


def _beside(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Return how the lowest orders agree with what is known, and what does not."""
    lines = []
    for name in SEPARATES:
        inner = [p["formation_energy_meV_per_fu"] for p in rows.get(name, {}).get("points", ())]
        lowest = min((energy for energy in inner if energy is not None), default=0.0)
        lines.append(
            f"- {name} separates into its ends: no energy between them should be negative, the "
            f"lowest here is {lowest:.0f} meV/f.u."
        )
    for name, (x, expected, words) in FIRST.items():
        points = rows.get(name, {}).get("points", ())
        states = next((p["states"] for p in points if abs(p["x"] - x) < 1e-6), None)
        if states is not None:
            answer = "so it is here" if states == expected else f"here {_counted(states)}"
            lines.append(f"- {name} at x = {x:g}: {words}; {answer}.")
    for name in ("LiNiO2", "Na3V2(PO4)3", "LiNi0.5Mn1.5O4, Ni4+ added"):
        points = rows.get(name, {}).get("points", ())
        if points:
            on_hull = ", ".join(f"{p['x']:.3g}" for p in points if p["on_hull"])
            lines.append(f"- {name}: on the hull of these few candidates at x = {on_hull}.")
    return lines


def _counted(states: dict[str, int]) -> str:
    return " ".join(f"{n} {name}" for name, n in states.items())


SOURCES = (
    "Padhi et al., J. Electrochem. Soc. 144, 1188 (1997)",
    "Delacourt et al., Nat. Mater. 4, 254 (2005)",
    "Zhou et al., Phys. Rev. B 69, 201101 (2004)",
    "Yonemura et al., J. Electrochem. Soc. 151, A1352 (2004)",
    "Yamada et al., J. Electrochem. Soc. 148, A1153 (2001)",
    "Bramnik et al., Chem. Mater. 19, 908 (2007)",
    "Strobridge et al., Chem. Mater. 26, 6193 (2014)",
    "Gopalakrishnan and Kasthuri Rangan, Chem. Mater. 4, 745 (1992)",
    "Jian et al., Electrochem. Commun. 14, 86 (2012)",
    "Park et al., Chem. Mater. 34, 451 (2022)",
    "Rodriguez-Carvajal et al., Phys. Rev. Lett. 81, 4660 (1998)",
    "Gao et al., Phys. Rev. B 54, 3878 (1996)",
    "Ariyoshi et al., J. Electrochem. Soc. 151, A296 (2004)",
    "Peres et al., J. Phys. Chem. Solids 60, 1849 (1999)",
    "Arroyo y de Dompablo et al., Phys. Rev. B 66, 064112 (2002)",
    "Kim et al., Electrochem. Commun. 18, 66 (2012)",
)


def _energies(points: Sequence[dict[str, Any]]) -> str:
    told = [
        f"{p['formation_energy_meV_per_fu']:.0f} ({p['x']:.3g})"
        for p in points
        if p["formation_energy_meV_per_fu"] is not None and 1e-9 < p["x"] < 1 - 1e-9
    ]
    return ", ".join(told) or "no end member"


def _told(row: dict[str, Any]) -> str:
    others = {k: n for k, n in row["verdicts"].items() if k != "ok"}
    losses = ", ".join(f"{n} {k}" for k, n in others.items()) or "none lost"
    return (
        f"{'; '.join(row['calibration'])}. Of {row['relaxed']}: {losses}. "
        f"States of the lowest: {_states_in_words(row['points'])}."
    )


def _states_in_words(points: Sequence[dict[str, Any]]) -> str:
    return "; ".join(f"x = {p['x']:.3g} {_counted(p['states'])}" for p in points)


if __name__ == "__main__":
    app()
