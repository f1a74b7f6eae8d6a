"""What a report says of run folders is what the commands say of them."""

import functools
import json
import shutil

import numpy as np
import pytest
from command_line import run_here

from gasearch.analysis.findings import Findings
from gasearch.analysis.joint_hull import DifferentRunsError
from gasearch.analysis.lineage import lineage
from gasearch.analysis.thermodynamics import TemperatureError
from gasearch.analysis.voltage import hull_voltage
from gasearch.crystal.declaration import HostError
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.errors import UsageError
from gasearch.report.chapters import (
    cells,
    energies,
    moments,
    orders,
    parity,
    progress,
    temperature,
    xrd,
)
from gasearch.report.collect import collect
from gasearch.report.material import opened
from gasearch.report.sections import Chart, StructureView, Table, Text


def printed(*words):
    """Return what a command prints as JSON."""
    result = run_here(*words, "--json")
    assert result.status == 0, result.err
    return result.json


def texts(section):
    return " ".join(block.text for block in section.blocks if isinstance(block, Text))


def tables(section):
    return [block for block in section.blocks if isinstance(block, Table)]


def plain(table):
    return [[getattr(cell, "text", cell) for cell in row] for row in table.rows]


@pytest.fixture(scope="module")
def report(report_runs):
    return collect([report_runs / "one", report_runs / "two"])


@pytest.fixture(scope="module")
def sections(report):
    return {section.key: section for section in report.sections}


class TestNumbers:
    def test_they_are_those_of_the_commands(self, report, report_runs):
        folders = report_runs / "one", report_runs / "two"
        numbers = json.loads(json.dumps(report.numbers))
        search, dft = numbers["hulls"]
        assert search == printed("hull", *folders)
        assert dft == printed("hull", folders[0], "--level", dft["level"])
        assert [run["status"] for run in numbers["runs"]] == [
            printed("status", folder) for folder in folders
        ]
        one = [folders[0], "--level", dft["level"]]
        assert numbers["voltages"] == [None, printed("voltage", *one)]
        warm, warm_dft = numbers["temperatures"]
        assert warm_dft == printed("voltage", *one, "--temperature", 300)
        assert warm["metal"] is None
        given = printed("voltage", *folders, "--temperature", 300, "--metal-energy", -1.3)
        assert [run["points"] for run in warm["runs"]] == [run["points"] for run in given["runs"]]
        assert warm["notes"] == given["notes"]

    def test_every_chapter_is_there_once(self, report):
        keys = [section.key for section in report.sections]
        assert len(keys) == len(set(keys)) == 18
        assert all(section.blocks for section in report.sections)
        names = [chart.name for section in report.sections for chart in section.charts]
        assert len(names) == len(set(names)) > 15

    def test_the_points_of_the_hull_are_all_drawn(self, sections, report):
        chart = sections["hull"].charts[0]
        drawn = sorted(
            (x, y)
            for one in chart.series
            if one.kind == "points"
            for x, y in zip(one.x, one.y, strict=True)
        )
        known = sorted(
            (p["x"], 1000 * p["formation_energy_eV_per_fu"])
            for p in report.numbers["hulls"][0]["points"]
        )
        assert drawn == known

    def test_ground_states_stand_in_the_table(self, sections, report):
        rows = plain(tables(sections["hull"])[0])
        on_hull = {str(p["id"]) for p in report.numbers["hulls"][0]["points"] if p["on_hull"]}
        assert {row[0] for row in rows} <= on_hull
        assert [row[1] for row in rows] == sorted({row[1] for row in rows}, key=float)

    def test_structures_that_a_table_points_to_are_shown(self, sections):
        (view,) = [b for b in sections["structures"].blocks if isinstance(b, StructureView)]
        shown = {one["key"] for one in view.structures}
        pointed = {
            cell.target
            for section in sections.values()
            for table in tables(section)
            for row in table.rows
            for cell in row
            if hasattr(cell, "target")
        }
        assert len(pointed) > 10
        assert any(one.targets for one in sections["hull"].charts[0].series)
        assert pointed <= shown
        for one in view.structures:
            assert len(one["kind"]) == len(one["positions"])
            n_vacant = sum(one["kinds"][kind] == "vacancy" for kind in one["kind"])
            n_ions = sum(one["kinds"][kind] == "Na+" for kind in one["kind"])
            assert n_vacant + n_ions in (4, 8)
            places = np.array(one["positions"])
            is_ion = np.isin([one["kinds"][kind] for kind in one["kind"]], ["Na+", "vacancy"])
            between = places[is_ion][:, None] - places[None]
            apart = np.linalg.norm(between, axis=2)[:, ~is_ion]
            assert apart.min() > 1.5  # a vacancy lies where no atom is

    def test_of_too_many_points_the_lowest_stay(self, report_runs):
        with opened([report_runs / "one", report_runs / "two"]) as material:
            points = material.hulls[0].points
        assert energies.thinned(points) == list(points)
        many = [p for p in points if p.x == 0.5] * 30
        kept = energies.thinned(many, 100)
        assert kept[:50] == many[:50]
        assert len(kept) < 110


class TestWarnings:
    def test_a_potential_that_only_ranks_has_no_voltage_and_says_so(self, report_runs):
        sections = {s.key: s for s in collect([report_runs / "ranks"]).sections}
        for key in ("summary", "hull", "voltage"):
            warned = [b for b in sections[key].blocks if isinstance(b, Text) and b.is_warning]
            assert "no physical meaning" in warned[0].text
        assert not sections["voltage"].charts
        assert "gives no moments" in texts(sections["moments"])
        assert "no DFT result was collected" in texts(sections["parity"])

    def test_the_hull_is_that_of_the_host(self, sections):
        assert "maricite is the stable polymorph" in texts(sections["hull"])

    def test_without_a_metal_there_is_one_line(self, sections):
        assert "no voltage: './toy.py:LabelEnergy' has no model.json" in texts(sections["voltage"])
        (chart,) = sections["voltage"].charts  # of DFT alone, whose metal is known
        assert [series.name[:12] for series in chart.series] == ["gpaw-pbeu450"]

    def test_a_search_without_ends_has_lines_that_say_so(self, tmp_path, make_run):
        from gasearch.run.folder import RunFolder
        from gasearch.search.session import Session

        run = make_run(tmp_path, "./toy.py:NotANumber", budget=1)
        Session(RunFolder(run)).run()
        sections = {s.key: s for s in collect([run]).sections}
        assert "no hull yet, for no valid candidate is at x = 1" in texts(sections["hull"])
        assert not any(s.charts for s in map(sections.get, ("hull", "voltage", "parity", "dft")))


class TestFolders:
    def test_another_host_is_refused(self, report_runs, tmp_path, make_run):
        from gasearch.run.folder import RunFolder
        from gasearch.search.session import Session

        other = make_run(
            tmp_path, budget=1, host={"structure": "lifepo4-olivine", "supercell": [1, 1, 1]}
        )
        Session(RunFolder(other)).run()
        with pytest.raises(DifferentRunsError, match="compositions differ"):
            collect([report_runs / "one", other])

    def test_two_levels_have_two_hulls(self, report_runs):
        report = collect([report_runs / "two", report_runs / "ranks"])
        levels = [hull["level"] for hull in report.numbers["hulls"]]
        assert len(set(levels)) == 2
        (hull,) = [section for section in report.sections if section.key == "hull"]
        together = hull.charts[-1]
        assert together.name == "hulls-of-all-levels"

    def test_x_is_the_one_asked_for_or_the_nearest_to_two_thirds(self, report_runs):
        folders = [report_runs / "one", report_runs / "two"]
        assert collect(folders).numbers["x_of_interest"] in (0.625, 0.75)
        assert collect(folders, "1/2").numbers["x_of_interest"] == 0.5
        with pytest.raises(HostError, match="cannot hold x = 2/3"):
            collect(folders, "2/3")

    def test_folders_of_like_names_have_figures_of_their_own(self, report_runs, tmp_path):
        for name in ("a b", "a-b"):
            shutil.copytree(report_runs / "one", tmp_path / name)
        sections = collect([tmp_path / "a b", tmp_path / "a-b"]).sections
        names = [chart.name for section in sections for chart in section.charts]
        assert len(set(names)) == len(names)
        assert max(map(len, names)) < 130

    def test_a_folder_without_a_run_is_one_line(self, tmp_path):
        with pytest.raises(UsageError, match="holds no run"):
            collect([tmp_path])


class TestVoltage:
    def test_it_is_that_of_the_command(self, report_runs, monkeypatch):
        folder = report_runs / "one"
        given = functools.partial(hull_voltage, metal_energy=-1.3)
        monkeypatch.setattr(energies, "hull_voltage", given)
        with opened([folder]) as material:
            section = energies.voltage_section(material)
        steps = printed("voltage", folder, "--metal-energy", -1.3)["steps"]
        drawn = section.charts[0].series[0]
        assert list(drawn.y[::2]) == [step["voltage_V"] for step in steps]
        assert list(drawn.x[::2]) == [step["x_from"] for step in steps]


class TestTemperature:
    def test_each_cell_has_its_free_energies_and_open_marks_are_bounds(self, report, sections):
        section, runs = sections["temperature"], report.numbers["temperatures"][0]["runs"]
        assert [run["is_exhausted"] for run in runs] == [True, False]
        chart = section.charts[0]
        lines = [one for one in chart.series if one.kind == "line"]
        assert [line.name for line in lines] == ["1x1x1", "1x2x1 (bound)"]
        for line, run in zip(lines, runs, strict=True):
            heights = [1000 * p["formation_free_energy_eV_per_fu"] for p in run["points"]]
            assert list(line.y) == heights
        drawn = dict.fromkeys((True, False), 0)
        for one in chart.series:
            drawn[one.filled] += len(one.x) if one.kind == "points" else 0
        exhausted = [point["is_exhausted"] for run in runs for point in run["points"]]
        assert drawn == {True: exhausted.count(True), False: exhausted.count(False)}
        assert min(drawn.values()) > 0
        assert "F is an upper bound on that of a cell" in texts(section)
        assert any("<= -" in cell for row in plain(tables(section)[0]) for cell in row)

    def test_the_voltage_is_that_of_the_command(self, report, sections):
        (chart,) = [c for c in sections["temperature"].charts if c.name.startswith("voltage-at")]
        warm, cold = chart.series
        (run,) = report.numbers["temperatures"][1]["runs"]
        assert list(warm.y[::2]) == [step["voltage_V"] for step in run["steps"]]
        steps = report.numbers["voltages"][1]["steps"]
        assert list(cold.y[::2]) == [step["voltage_V"] for step in steps]

    def test_one_cell_alone_is_said_to_be_small_and_a_temperature_may_be_chosen(self, report_runs):
        with opened([report_runs / "one"], None, 900.0) as material:
            section = temperature.temperature_section(material)
        assert section.title == "Free energies at 900 K"
        assert "at least two cell sizes" in texts(section)
        with (
            opened([report_runs / "one"], None, -1.0) as material,
            pytest.raises(TemperatureError, match="expected kelvins above 0"),
        ):
            temperature.temperature_section(material)

    def test_where_energies_mean_nothing_there_are_none(self, report_runs):
        with opened([report_runs / "ranks"]) as material:
            section = temperature.temperature_section(material)
        assert section.numbers == {"temperatures": [None]}
        assert not section.charts
        assert section.blocks[0].is_warning


class TestOrders:
    def test_charge_orders_of_a_sodium_order_sum_up_to_all_decorations(self, report_runs):
        with opened([report_runs / "one"]) as material:
            (run,) = material.runs
            rows = run.store.evaluations(x=0.5)
            found = orders.ion_orders(run, rows)
        assert sum(len(one.candidates) for one in found) == len(rows) == 10
        assert sum(one.n_distinct for one in found) == 10
        assert found[0].candidates[0] == rows[0].candidate
        assert all(len(one.candidates) == one.n_distinct for one in found)

    def test_charge_orders_of_an_ion_order_are_counted_under_the_symmetry_that_it_keeps(self):
        """Four Fe3+ on twelve sites: 495, less what the symmetry of the Na order makes alike."""
        host = Host.build(builtin_host("nafepo4-olivine"), (1, 3, 1))
        composition = host.composition_at("2/3")
        rng = np.random.default_rng(2)
        by_ions = {}
        for _ in range(40):
            decoration = Decoration.random(host, composition, rng)
            ions = decoration.occupation.copy()
            ions[12:] = 0
            n_moved = sum(
                np.array_equal(ions[:12][np.argsort(p[:12])], ions[:12]) for p in host.permutations
            )
            counted = orders.n_charge_orders(host, decoration.occupation)
            by_ions.setdefault(n_moved, set()).add(counted)
        assert by_ions[1] == {495}
        assert all(495 / n <= count <= 495 for n, counts in by_ions.items() for count in counts)

    def test_too_many_are_not_counted(self):
        host = Host.build(builtin_host("nafepo4-olivine"), (1, 3, 2))
        decoration = Decoration.random(host, host.composition_at(0.5), np.random.default_rng(1))
        assert orders.n_charge_orders(host, decoration.occupation) is None


class TestDft:
    def test_ranks_are_those_of_scipy(self, report_runs):
        from scipy.stats import kendalltau

        with opened([report_runs / "one"]) as material:
            (search,), (dft,) = material.search_hulls, material.dft_hulls
            found = {one.x: one for one in parity.compare(search, dft)}
        own = {p.id: p.energy_eV for p in search.points}
        other = {p.id: p.energy_eV for p in dft.points if p.x == 0.5}
        first, second = zip(*((own[n], other[n]) for n in other), strict=True)
        assert found[0.5].kendall == pytest.approx(kendalltau(first, second)[0])
        assert len(found[0.5].numbers) == 8
        assert found[0.0].kendall is None
        assert sum(found[0.5].first_eV_per_fu) == pytest.approx(0)

    def test_what_became_of_the_charge_orders(self, sections):
        assert "14 kept, 1 moved, 1 delocalised" in texts(sections["dft"])
        (table,) = tables(sections["dft"])
        assert len(table.rows) == 16

    def test_moments_lie_around_the_ambiguous_band(self, sections):
        (chart,) = [c for c in sections["moments"].charts if c.name.startswith("moments-dft")]
        (band,) = chart.bands
        assert (band.low, band.high) == (3.9, 4.1)
        names = [one.name.partition(" ")[0] for one in chart.series]
        assert names == ["Fe2+", "Fe3+", "ambiguous"]
        inside = {
            one.name.partition(" ")[0]
            for one in chart.series
            for x, y in zip(one.x, one.y, strict=True)
            if y and band.low < x < band.high
        }
        assert inside == {"ambiguous"}


class TestSearch:
    def test_the_lines_of_progress_end_where_the_hull_is(self, sections, report):
        lowest = {}
        for point in report.numbers["hulls"][0]["points"]:
            if point["cell"] == "1x1x1":
                lowest.setdefault(f"x = {point['x']:.4g}", point["formation_energy_eV_per_fu"])
        chart = sections["progress"].charts[0]
        assert {one.name: one.y[-1] for one in chart.series} == pytest.approx(
            {name: 1000 * energy for name, energy in lowest.items()}, abs=1e-6
        )
        for one in chart.series:
            assert list(one.y) == sorted(one.y, reverse=True)

    def test_every_candidate_has_its_operator(self, sections):
        rows = plain(next(t for t in tables(sections["progress"]) if t.columns[0] == "made by"))
        assert sum(int(row[1]) for row in rows) == 16
        assert sum(int(row[4]) for row in rows) == 5

    def test_what_is_searched_and_proven_is_that_of_status(self, sections, report):
        rows = plain(tables(sections["searched"])[0])
        known = report.numbers["runs"][0]["status"]["by_composition"]
        assert [int(row[2]) for row in rows] == [one["searched"] for one in known]
        assert [int(row[3]) for row in rows] == [one["total"] for one in known]
        assert all(
            row[-1].startswith("among") == one["proven"]
            for row, one in zip(rows, known, strict=True)
        )

    def test_the_surrogate_is_mentioned(self, report_runs):
        with opened([report_runs / "two"]) as material:
            section = progress.progress_section(material)
        assert "surrogate: " in texts(section)

    def test_lineages_are_those_of_the_command(self, sections, report_runs):
        first = tables(sections["lineage"])[0]
        number = int(first.caption.split("candidate ")[1].split()[0])
        name = "one" if "1x1x1" in first.caption else "two"
        from gasearch.run.folder import RunFolder

        with RunFolder(report_runs / name).open_store() as store:
            known = lineage(Findings(store), number)
        assert [row[0] for row in plain(first)] == [str(one.id) for one in known]


class TestCells:
    def test_supercells_fold_to_one_unit_cell(self, report_runs):
        with opened([report_runs / "one", report_runs / "two"]) as material:
            found = cells.unit_cells(material, material.search_hulls[0])
        unit = builtin_host("nafepo4-olivine").unit_cell
        for one in found:
            assert one.lengths == pytest.approx(unit.cell.lengths(), abs=1e-6)
            assert one.angles == pytest.approx((90, 90, 90))
            assert one.volume_per_fu == pytest.approx(unit.cell.volume / 4)
        assert len(found) == 5 + 9


@pytest.fixture(scope="module")
def host():
    pytest.importorskip("pymatgen")
    return Host.build(builtin_host("nafepo4-olivine"), (1, 2, 1))


class TestDiffraction:
    def test_the_parent_has_no_superstructure_line(self, host):
        found = xrd.parent_pattern(host)
        assert len(found.two_theta) > 30
        assert not found.is_superstructure.any()
        assert np.allclose(found.indices, np.round(found.indices))

    def test_reflection_conditions_of_pnma(self, host):
        """0kl: k + l even; hk0: h even; a general hkl: none."""
        allowed = [(0, 1, 1), (2, 1, 0), (1, 1, 1), (2, 0, 0), (0, 2, 0), (1, 0, 1)]
        forbidden = [(0, 1, 0), (0, 0, 1), (1, 0, 0), (0, 2, 1), (1, 2, 0), (0, 0.5, 0)]
        assert all(xrd._is_allowed(np.array(hkl, dtype=float), host) for hkl in allowed)
        assert not any(xrd._is_allowed(np.array(hkl, dtype=float), host) for hkl in forbidden)

    def test_an_order_that_doubles_b_shows_half_integer_lines(self, host):
        composition = host.composition_at(0.875)
        decoration = Decoration.random(host, composition, np.random.default_rng(0))
        found = xrd.pattern(decoration.to_atoms(), host, host.matrix)
        new = found.indices[found.is_superstructure]
        assert (np.abs(new[:, 1] * 2 % 2 - 1) < 1e-6).any()
        assert found.intensities.max() == pytest.approx(100)
        old = found.indices[~found.is_superstructure]
        assert len(old) > 10

    def test_intensities_agree_with_a_sum_over_atoms(self, host):
        """d spacings by hand: 020 of b = 6.2187 Å at 28.7 degrees with Cu Kα."""
        found = xrd.parent_pattern(host)
        place = 2 * np.degrees(np.arcsin(1.54184 / 2 / (6.2187 / 2)))
        n = int(np.argmin(np.abs(found.two_theta - place)))
        assert found.two_theta[n] == pytest.approx(place, abs=0.02)


class TestMoments:
    def test_every_redox_site_has_a_bond_length(self, report_runs):
        with opened([report_runs / "one"]) as material:
            found, n_rows = moments.site_moments(material.runs[0])
        assert n_rows == 16
        assert [one.label for one in found] == ["Fe2+", "Fe3+"]
        assert sum(len(one.bonds) for one in found) == 64
        assert not any(one.moments for one in found)
        assert found[0].bonds == pytest.approx(found[0].before)

    def test_bonds_before_are_those_of_the_host_whatever_setting_a_parent_left(self, report_runs):
        with opened([report_runs / "two"]) as material:
            found, _ = moments.site_moments(material.runs[0])
        for one in found:
            assert one.before == pytest.approx([one.before[0]] * len(one.before))

    def test_the_ranges_are_those_of_the_model(self, report_runs):
        from types import SimpleNamespace

        def run(reader, potential):
            level = SimpleNamespace(potential=potential)
            record = SimpleNamespace(settings={"relax.reader": reader})
            findings = SimpleNamespace(run=record, level=level)
            return SimpleNamespace(findings=findings, folder=SimpleNamespace(path=report_runs))

        own = moments.search_ranges(run("own", "chgnet-nafepo4"))
        assert own["Fe2+"][1] < own["Fe3+"][0]
        (band,) = moments._bands(own)
        assert (band.low, band.high, band.name) == (own["Fe2+"][1], own["Fe3+"][0], "ambiguous")
        (split,) = moments._bands(moments.search_ranges(run("chgnet", "pmmcs")))
        assert (split.low, split.high, split.name) == (4.15, 4.15, "threshold")
        assert moments.search_ranges(run("own", "pmmcs")) == {}


def test_charts_hold_as_many_y_as_x(report):
    for section in report.sections:
        for chart in section.charts:
            assert isinstance(chart, Chart)
            for one in chart.series:
                assert len(one.x) == len(one.y)
                assert len(one.texts) in (0, len(one.x))
                assert len(one.targets) in (0, len(one.x))
