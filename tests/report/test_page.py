"""The page of a report: whole by itself, and looked at in a real browser; its figures as files."""

import json
import re
import subprocess
from html.parser import HTMLParser

import pytest
from browser import find_browser
from command_line import run_here

from gasearch.report.collect import collect
from gasearch.report.page import page, write_page
from gasearch.report.sections import Section, Table, Text

pytest.importorskip("plotly")
TURN = """
<script>
addEventListener("load", () => setTimeout(() => {
  const canvas = document.getElementById("canvas");
  const chooser = document.getElementById("structure");
  const first = canvas.toDataURL();
  const send = (kind, x, y) => canvas.dispatchEvent(
    new PointerEvent(kind, { clientX: x, clientY: y, pointerId: 1, bubbles: true }));
  canvas.setPointerCapture = () => {};
  send("pointerdown", 100, 100);
  send("pointermove", 160, 130);
  send("pointerup", 160, 130);
  const turned = canvas.toDataURL();
  const before = chooser.value;
  const button = [...document.querySelectorAll("button.show")].find(
    (b) => b.dataset.structure !== before);
  button.click();
  const seen = { turned: turned !== first, drawn: first.length > 5000,
    chosen: chooser.value === button.dataset.structure, changed: canvas.toDataURL() !== turned };
  document.body.dataset.seen = JSON.stringify(seen);
}, 500));
</script>
"""


class Elements(HTMLParser):
    """All elements of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture(scope="module")
def report(report_runs):
    return collect([report_runs / "one", report_runs / "two"])


@pytest.fixture(scope="module")
def text(report):
    return page(report)


def inside(text, key):
    """Return a JSON document that a page holds."""
    found = re.search(
        rf'<script type="application/json" id="{key}">(.*?)</script>', text, re.DOTALL
    )
    return json.loads(found[1])


class TestPage:
    def test_it_needs_no_network(self, text):
        elements = Elements(text).found
        loads = ("src", "href", "data", "action", "poster", "srcset")
        places = [a[name] for tag, a in elements for name in loads if tag != "div" and a.get(name)]
        assert places
        assert all(place.startswith(("#", "data:")) for place in places)
        styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
        assert not re.search(r"@import|url\(", "".join(styles))
        (policy,) = [a["content"] for tag, a in elements if a.get("http-equiv")]
        assert policy.startswith("default-src 'none';")
        assert "http" not in policy

    def test_its_numbers_are_those_of_the_commands(self, text, report, report_runs):
        numbers = inside(text, "gasearch-numbers")
        assert numbers == json.loads(json.dumps(report.numbers))
        folders = [str(report_runs / "one"), str(report_runs / "two")]
        assert numbers["hulls"][0] == run_here("hull", *folders, "--json").json

    def test_every_chart_has_its_place(self, text, report):
        figures = inside(text, "gasearch-figures")
        names = {chart.name for section in report.sections for chart in section.charts}
        places = {a["data-figure"] for _, a in Elements(text).found if "data-figure" in a}
        assert set(figures) == places == names

    def test_plotly_stands_in_it_once(self, text):
        assert text.count("Copyright 2012-2026, Plotly") + text.count("* plotly.js v") >= 1
        assert text.count("* plotly.js v") == 1

    def test_texts_are_escaped(self, report):
        from dataclasses import replace

        evil = "<script>alert(1)</script> & %%BODY%%"
        section = Section("evil", evil, [Text(evil), Table((evil,), [(evil,)], evil)])
        numbers = {"x": "</script><script>alert(2)</script>"}
        text = page(replace(report, title=evil, sections=(section,), numbers=numbers))
        assert "<script>alert" not in text
        assert inside(text, "gasearch-numbers") == numbers


class TestCommand:
    def test_it_writes_a_page_and_figures(self, report_runs, tmp_path):
        output, figures = tmp_path / "my.html", tmp_path / "figures"
        words = [report_runs / "ranks", "--output", output, "--figures", figures, "--x", "0.5"]
        result = run_here("report", *words)
        assert result.status == 0, result.err
        names = {path.stem for path in figures.iterdir()}
        assert {path.name for path in figures.iterdir()} == {
            f"{name}{ending}" for name in names for ending in (".png", ".pdf")
        }
        assert names == set(inside(output.read_text(encoding="utf-8"), "gasearch-figures"))
        assert all(path.stat().st_size > 4000 for path in figures.iterdir())
        assert f"wrote {output}" in result.out

    def test_its_numbers_as_json(self, report_runs, tmp_path):
        page = tmp_path / "a.html"
        document = run_here("report", report_runs / "ranks", "--output", page, "--json").json
        assert document["hulls"][0]["ranks_only"] is True
        assert document["voltages"] == [None]


@pytest.fixture(scope="module")
def browser():
    return find_browser()


def looked_at(browser, path, tmp_path):
    """Return the page as a browser has it after its scripts ran, and what its console said."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1300,1000"]
    command += ["--virtual-time-budget=30000", "--enable-logging=stderr", "--dump-dom"]
    ended = subprocess.run(
        [*command, path.as_uri()], capture_output=True, text=True, timeout=400, check=True
    )
    console = [line for line in ended.stderr.splitlines() if "CONSOLE" in line]
    return ended.stdout, console


class TestBrowser:
    def test_all_figures_are_drawn_without_a_word_on_the_console(
        self, browser, report, text, tmp_path
    ):
        path = tmp_path / "report.html"
        path.write_text(text.replace("</body>", f"{TURN}</body>"), encoding="utf-8")
        shown, console = looked_at(browser, path, tmp_path)
        assert console == []
        plots = re.findall(r'<div class="plot[^>]*data-figure="([^"]+)".*?class="main-svg"', shown)
        charts = [chart for section in report.sections for chart in section.charts]
        assert sorted(plots) == sorted(chart.name for chart in charts)
        warm = {name.split("-gpaw")[0] for name in plots if "gpaw" in name}
        assert {"free-energy", "voltage-at-temperature"} < warm
        assert "F is an upper bound on that of a cell" in shown
        with_bars = [c for c in charts if any(one.kind == "bars" for one in c.series)]
        assert shown.count('class="barlayer') == len(with_bars) > 5
        n_points = len(re.findall(r'<path class="point"', shown))
        assert n_points > 40 + 16
        assert re.search(r'<canvas id="canvas"[^>]* width="\d{3,}"', shown)
        seen = re.search(r'data-seen="([^"]*)"', shown)[1].replace("&quot;", '"')
        assert json.loads(seen) == {"turned": True, "drawn": True, "chosen": True, "changed": True}
        legend = re.search(r'<div id="legend">(.*?)</div>', shown)[1]
        assert "Na+ (" in legend or "vacancy (" in legend

    def test_a_broken_page_would_be_noticed(self, browser, tmp_path):
        path = tmp_path / "broken.html"
        path.write_text("<html><body><script>Plotly.newPlot();</script></body></html>")
        _, console = looked_at(browser, path, tmp_path)
        assert "Plotly is not defined" in console[0]


def test_an_older_page_is_replaced(report, tmp_path):
    output = tmp_path / "report.html"
    output.write_text("old")
    write_page(report, output)
    assert output.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
