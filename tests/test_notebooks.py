"""The notebooks run from top to bottom, and say what the package says."""

import contextlib
import json
import math
import os
import re

import pytest
from command_line import run_here
from places import ROOT

NOTEBOOKS = ROOT / "notebooks"
ASKED = {
    "01_first_search": {
        "totals": "[one.total for one in status.by_composition]",
        "proven": "[one.proven for one in status.by_composition]",
        "best": "[best.id, best.energy_eV]",
        "total_charge": "float(structure.get_initial_charges().sum())",
        "fe": "[[float(charge), float(moment)] for charge, moment in zip(charges, moments)]",
    },
    "02_hull_and_voltage": {
        "one_cell": "[[p.x, p.id] for p in one_cell.vertices()]",
        "both": "[[p.x, p.cell, p.id] for p in both.vertices()]",
        "average_V": "[hull_voltage(hull).average_voltage_V for hull in (one_cell, both)]",
        "steps_V": "[step.voltage_V for step in hull_voltage(both).steps]",
        "exhausted": "curves['1x1x1', TEMPERATURES_K[0]].is_exhausted",
        "entropies": "[[n, entropy] for n, entropy in entropies.items()]",
    },
    "03_charge_order": {
        "times": "times",
        "aware": "[relaxed[n].verdict for n in relaxed]",
        "blind": "[lost[n].verdict for n in lost]",
        "gaps_meV": "[float(aware_gap), float(blind_gap)]",
        "moments": "{stage: [[float(m) for m in of[2]], [float(m) for m in of[3]]]"
        " for stage, of in found.items()}",
    },
    "04_inside_ase_ga": {
        "n_known": "len(rank)",
        "rank": "rank[from_candidate(host, lowest[0]).fingerprint]",
        "charges": "[float(a.get_initial_charges().sum()) for a in candidates]",
        "origins": "origins",
        "rank_of_gasearch": "rank[best[0].fingerprint]",
        "made_by": "made_by",
    },
    "05_sodium_iron_phosphate": {
        "dft": "[[p.x, p.fingerprint] for p in hulls['DFT'].vertices()]",
        "kendall": "{one.x: one.kendall for one in compared}",
        "average_V": "[curve.average_voltage_V for curve in curves.values()]",
        "corners": "[round(p['x'], 4) for p in corners]",
        "first": "{x: outside[x][0]['space_group'] for x in ('2/3', '5/6')}",
        "orders": "{x: len(outside[x]) for x in ('2/3', '5/6')}",
    },
    "06_phase_diagram": {
        "n_energies": "len(energies)",
        "explained": "{m.disorder: m.fit.crystals.explained for m in found.models}",
        "entropy": "entropy",
        "ends": "[float(v) for values in mixing.values() for v in values[[0, -1]]]",
    },
}

SHORTER = {"02_hull_and_voltage": ("(1, 2, 1): 20", "(1, 2, 1): 5")}
"""Budgets in the first cell that are lowered here: nothing that is asked depends on them."""


def execute(name, folder):
    """Run a committed notebook, and return what its variables are at the end, and its folder."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    if name in SHORTER:
        first = next(cell for cell in notebook.cells if cell["cell_type"] == "code")
        assert SHORTER[name][0] in first["source"]
        first["source"] = first["source"].replace(*SHORTER[name])
    asked = ", ".join(f"{key!r}: {value}" for key, value in ASKED[name].items())
    source = f"import json, os\nprint(json.dumps({{{asked}, 'folder': os.getcwd()}}))"
    notebook.cells.append(nbformat.v4.new_code_cell(source))
    client = NotebookClient(
        notebook,
        timeout=540,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    )
    places = {name: str(folder) for name in ("TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR")}
    client.execute(env={**os.environ, **places, "OMP_NUM_THREADS": "1"})
    printed = "".join(part["text"] for part in notebook.cells[-1].outputs if "text" in part)
    return json.loads(printed)


def printed_by(folder, *arguments):
    """Return what the command line prints as JSON."""
    with contextlib.chdir(folder):
        return run_here(*arguments, "--json").json


def test_a_first_search_proves_all_of_the_small_cell(tmp_path):
    found = execute("01_first_search", tmp_path)
    assert found["totals"] == [1, 2, 10, 2, 1]
    assert all(found["proven"])
    lowest = printed_by(found["folder"], "best", "first", "-x", "1/2", "-n", "1")[0]
    assert found["best"] == [lowest["id"], pytest.approx(lowest["energy_eV"])]
    assert found["total_charge"] == 0
    assert sorted(charge for charge, _ in found["fe"]) == [2, 2, 3, 3]
    assert all((moment > 4.15) == (charge == 3) for charge, moment in found["fe"])


def test_hull_and_voltage_are_those_of_the_command_line(tmp_path):
    found = execute("02_hull_and_voltage", tmp_path)
    points = printed_by(found["folder"], "hull", "1x1x1")["points"]
    assert found["one_cell"] == [[p["x"], p["id"]] for p in points if p["on_hull"]]
    assert [x for x, _ in found["one_cell"]][:: len(found["one_cell"]) - 1] == [0, 1]
    points = printed_by(found["folder"], "hull", "1x1x1", "1x2x1")["points"]
    on_hull = [[p["x"], p["cell"], p["id"]] for p in points if p["on_hull"]]
    assert all(corner in on_hull for corner in found["both"])
    assert {x for x, *_ in found["both"]} == {x for x, *_ in on_hull}
    # the average follows from the ends alone, and voltages fall as Na goes in
    assert found["average_V"][0] == pytest.approx(found["average_V"][1], abs=0.005)
    assert sorted(found["steps_V"], reverse=True) == found["steps_V"]
    assert found["exhausted"]
    entropies = dict(found["entropies"])
    assert entropies[4] == pytest.approx(math.log(36) / 4)
    assert entropies[8] == pytest.approx(math.log(4900) / 8)
    assert sorted(entropies.values()) == list(entropies.values())
    assert max(entropies.values()) < 2 * math.log(2)


def test_charge_orders_are_kept_by_the_aware_potential_and_lost_by_the_blind_one(tmp_path):
    found = execute("03_charge_order", tmp_path)
    assert (sum(found["times"]), len(found["times"])) == (28, 10)
    assert set(found["aware"]) == {"ok"}
    assert set(found["blind"]) == {"order_lost"}
    aware, blind = found["gaps_meV"]
    assert aware > 30
    assert abs(blind) < 3
    fe2, fe3 = found["moments"]["aware"]
    assert max(fe2) < 4.15 < min(fe3)
    before = [moment for of_label in found["moments"]["before"] for moment in of_label]
    assert max(before) - min(before) < 0.3
    assert len(before) == 16


def test_both_ways_into_ase_ga_find_low_crystals(tmp_path):
    found = execute("04_inside_ase_ga", tmp_path)
    assert found["n_known"] == 344
    assert found["rank"] <= 20
    assert found["rank_of_gasearch"] <= 20
    assert not any(found["charges"])
    assert len(found["charges"]) < 80
    assert {"CutAndSplice", "CoupledSwap", "RandomSlabPermutation"} <= found["origins"].keys()
    assert found["made_by"]["ase_ga.slab_operators:RandomSlabPermutation"] > 0


def test_the_results_of_long_searches_are_what_the_text_says(tmp_path):
    found = execute("05_sodium_iron_phosphate", tmp_path)
    assert found["dft"] == [[0, "ff"], [0.5, "53"], [1, "00"]]
    assert found["kendall"]["0.5"] == pytest.approx(0.956, abs=0.001)
    assert found["average_V"] == pytest.approx([2.916, 2.912], abs=0.001)
    assert found["corners"] == [0, 0.6667, 1]
    assert found["first"] == {"2/3": "Pnma", "5/6": "P2_1/c"}
    assert found["orders"] == {"2/3": 32, "5/6": 7}


def test_the_entropy_of_charges_lowers_the_free_energy(tmp_path):
    found = execute("06_phase_diagram", tmp_path)
    assert found["n_energies"] == 874
    assert found["explained"]["ions and charges"] > 0.75
    assert found["ends"] == pytest.approx([0] * 6, abs=1e-6)
    entropy = found["entropy"]
    assert entropy["ions"] < math.log(2)
    assert math.log(2) < entropy["ions and charges"] < 2 * math.log(2)


def committed():
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def test_every_notebook_is_executed_here():
    assert [path.stem for path in committed()] == sorted(ASKED)


def test_the_documentation_names_every_notebook():
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert all(f"notebooks/{path.name}" in text for path in committed())


@pytest.mark.parametrize("path", committed(), ids=lambda path: path.stem)
def test_a_committed_notebook_has_outputs_of_a_run_without_errors_and_noise(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert all(cell["execution_count"] is None for cell in code)
    kinds = {output["output_type"] for output in outputs}
    assert "error" not in kinds
    assert "stream" in kinds
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize("path", committed(), ids=lambda path: path.stem)
def test_a_committed_notebook_has_no_path_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    images_out = re.sub(r'"image/png": "[^"]*"', "", text)
    folders = "home|root|tmp|usr|var|opt|mnt|work|private|Users"
    assert not re.search(rf"(?<![\w.])/(?:{folders})/|[A-Z]:\\\\", images_out)
    assert str(ROOT) not in images_out
