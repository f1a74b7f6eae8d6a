"""What the live page knows of a run is what the commands say of it."""

import threading

import numpy as np
import pytest
from host_classes import magnetite

from gasearch.analysis.findings import Findings
from gasearch.analysis.hull_history import hull_history
from gasearch.analysis.joint_hull import joint_hull
from gasearch.run.folder import RunFolder
from gasearch.serve.overview import run_document
from gasearch.serve.panels import panels
from gasearch.serve.rows import Rows
from gasearch.serve.view import View
from gasearch.serve.watching import LiveRun, Moment
from gasearch.store.activity import activity
from gasearch.store.sql.following import CandidateLine, EvaluationLine, Step


@pytest.fixture(scope="module", params=["one", "two", "ranks"])
def seen(request, report_runs):
    """A run folder and how it is seen."""
    folder = RunFolder(report_runs / request.param)
    run = LiveRun(folder)
    run.look(threading.Event())
    assert not run.moment.trouble
    yield folder, run
    run.close()


def test_energies_and_hull_are_those_of_the_commands(seen):
    folder, run = seen
    view = run.moment.view
    with folder.open_store() as store:
        ranked = {row.id: row for row in Findings(store).ranked()}
    assert sorted(view.number.tolist()) == sorted(ranked)
    expected = [ranked[number] for number in view.number.tolist()]
    formation = view.formation(view.x, view.energy)
    assert formation == pytest.approx([r.formation_energy_eV_per_fu for r in expected], abs=1e-12)
    assert view.above_hull == pytest.approx([r.above_hull_eV_per_fu for r in expected], abs=1e-12)
    vertices = joint_hull([folder.path]).vertices()
    assert view.number[view.ground_states].tolist() == [point.id for point in vertices]


def test_the_hull_of_the_past_is_that_of_the_record(seen):
    folder, run = seen
    view = run.moment.view
    with folder.open_store() as store:
        moments = hull_history(store, every=5)
    for moment in moments:
        found = view.hull_after(moment.n_candidates)
        x, energy = np.array(moment.vertices).T
        assert (np.interp(x, *found) <= energy + 1e-9).all()  # tighter ones lower the past too
        if folder.path.name != "ranks":
            assert np.column_stack(found) == pytest.approx(np.column_stack([x, energy]))


def test_the_lowest_of_a_composition_came_down_in_steps(seen):
    _, run = seen
    view = run.moment.view
    for code, formula in enumerate(view.table.compositions):
        steps = view.steps(code)
        energies = view.energy[steps].tolist()
        assert energies == sorted(energies, reverse=True)
        assert energies[-1] == view.lowest[code], formula
        assert view.order[steps].tolist() == sorted(view.order[steps].tolist())


def test_a_host_of_one_composition_has_energies_and_no_hull():
    host = magnetite()
    (composition,) = host.compositions
    rows, energies = Rows(), [-10.0, -10.4, -10.2, -10.6]
    rows.take(Step([_line(n, composition, e) for n, e in enumerate(energies, 1)]))
    view = View(rows.table(), host)
    found = panels(Moment(version=1, view=view), None)
    charts = [chart for section in found for chart in section.charts]
    assert [chart.name for chart in charts] == ["arrivals"]
    candidates, lowest = charts[0].series
    heights = [1000 * (e + 10.6) / host.n_formula_units for e in energies]
    assert candidates.y == pytest.approx(heights, abs=1e-3)
    assert lowest.y == pytest.approx([heights[0], heights[1], heights[3], heights[3]])
    assert charts[0].y_label.startswith("above the lowest")


def _line(number, composition, energy):
    one = EvaluationLine(
        number, "search", "relaxed", "ok", energy, 0.0, 3, "", 1, 0, None, 1.0, number
    )
    x, formula = composition.x, composition.formula
    return CandidateLine(number, x, formula, "random", 0, 0, number, (one,))


def test_counts_and_rates_are_those_of_the_status(seen):
    folder, run = seen
    document = run_document(run, 0)
    with folder.open_store() as store:
        status = Findings(store).status()
        n_tight = len(
            store.asked_for("tight")
        )  # the status counts relaxations, the page candidates
        rate = activity(store, False).overall_per_h
    assert document["done"] == status.counts.relaxed + status.counts.failed
    assert document["budget"] == document["done"]
    assert document["valid"] == status.counts.by_verdict["ok"]
    assert f"verdicts: {document['valid']} ok" in document["lines"]
    assert document["state"] == status.ending == "budget"
    assert float(document["overall"].replace(",", "")) == pytest.approx(
        rate * document["done"] / (document["done"] + n_tight), rel=0.01
    )
    assert any("ranks orders" in text for text in document["warnings"]) == (
        folder.path.name == "ranks"
    )
