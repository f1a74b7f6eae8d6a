"""The server of the live page: who is answered and who is not, and that nothing is ever written."""

import gzip
import hashlib
import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import Page
from command_line import run_here

from gasearch.errors import UsageError
from gasearch.run.folder import NoRunError, RunFolder
from gasearch.search.session import Session
from gasearch.serve.server import PortInUseError, open_server, refusal_of

pytest.importorskip("plotly")


@contextmanager
def served(*folders):
    """Serve run folders; yield the server and its watcher after a first look."""
    server, watcher = open_server(folders, 0, 0.05)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    assert watcher.wait_until(lambda: all(run.moment.looked_s for run in watcher.runs), 60)
    try:
        yield server, watcher
    finally:
        server.shutdown()
        server.server_close()
        watcher.close()


@pytest.fixture(scope="module")
def server(report_runs):
    with served(report_runs / "one", report_runs / "two") as (server, _):
        yield server


def asked(server, path="", method="GET", secret=None, **headers):
    """Return status, headers and body of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    place = f"/{server.secret if secret is None else secret}/{path}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, place, headers=named)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def document(server, path):
    status, _, body = asked(server, path)
    assert status == 200, body
    return json.loads(body)


class TestWhoIsAnswered:
    def test_it_listens_to_this_machine_alone(self, server):
        assert server.server_address[0] == "127.0.0.1"
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", server.address)

    @pytest.mark.parametrize("secret", ["", "x", "api", ".."])
    def test_without_the_secret_there_is_nothing(self, server, secret):
        for path in ("", "api/runs", "plotly.js"):
            status, _, body = asked(server, path, secret=secret)
            assert status == 404
            assert b"gasearch serve printed" in body

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "localhost:9000", "LOCALHOST", "[::1]:8427", "127.0.0.1:22"]
    )
    def test_a_tunnel_may_have_any_port(self, server, host):
        assert asked(server, "api/runs", Host=host)[0] == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "evil.example"},
            {"Host": "127.0.0.1.evil.example:8427"},
            {"Host": "localhost@evil.example"},
            {"Host": ""},
            {"Host": "[broken"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Host": "localhost:1", "Origin": "http://localhost:2"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
        ],
        ids=str,
    )
    def test_what_another_page_sends_is_refused(self, server, headers):
        for path in ("", "api/runs", "api/candidate?n=0&id=1"):
            status, answered, body = asked(server, path, **headers)
            assert status == 403
            assert body.startswith(b"Refused: ")
            assert "Access-Control-Allow-Origin" not in answered

    def test_its_own_page_is_answered(self):
        own = {"Host": "localhost:9000", "Origin": "http://localhost:9000"}
        assert refusal_of(own | {"Sec-Fetch-Site": "same-origin"}) == ""

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
    def test_nothing_but_reading_is_known(self, server, method, report_runs):
        before = hashes(report_runs)
        assert asked(server, "api/run?n=0", method)[0] == 501
        assert hashes(report_runs) == before


def hashes(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class TestAnswers:
    def test_the_page_loads_nothing_from_elsewhere(self, server):
        status, headers, body = asked(server)
        assert status == 200
        places = re.findall(r'(?:src|href)="([^"]*)"', body.decode())
        assert set(places) == {"data:,", "style.css", "viewer.js", "live.js", "plotly.js"}
        assert headers["Content-Security-Policy"].startswith(
            "default-src 'none'; script-src 'self'"
        )
        assert "http" not in headers["Content-Security-Policy"]
        scripts = [asked(server, p)[2] for p in places if p != "data:,"]
        assert len(body) + sum(map(len, scripts)) < 5_000_000

    def test_what_did_not_change_is_not_sent_again(self, server):
        _, headers, whole = asked(server, "api/run?n=0")
        status, _, body = asked(server, "api/run?n=0", If_None_Match=headers["ETag"])
        assert (status, body) == (304, b"")
        _, packed, body = asked(server, "api/run?n=0", Accept_Encoding="gzip")
        assert packed["Content-Encoding"] == "gzip"
        assert gzip.decompress(body) == whole
        assert len(body) < len(whole) / 3
        status, headers, body = asked(server, "api/run?n=0", "HEAD")
        assert (status, int(headers["Content-Length"]), body) == (200, len(whole), b"")

    def test_runs_stand_beside_each_other(self, server, report_runs):
        first, second = document(server, "api/runs")["runs"]
        assert [first["cell"], second["cell"]] == ["1x1x1", "1x2x1"]
        assert first["name"] == str(report_runs / "one")
        assert first["x"] == [0.0, 0.25, 0.5, 0.75, 1.0]
        titles = [one["title"] for one in document(server, "api/run?n=1&x=0.5")["sections"]]
        assert titles[0] == "Hull and energies"
        assert {"Verdicts and reasons", "Promoted and DFT", "Compositions"} < set(titles)

    def test_a_candidate_has_structure_lineage_and_commands(self, server, report_runs):
        best = [row["id"] for row in run_here("best", report_runs / "one", "--json").json]
        found = document(server, f"api/candidate?n=0&id={best[-1]}")
        assert len(found["structure"]["positions"]) >= 24
        assert "Fe3+" in found["structure"]["kinds"]
        keys = {section["key"]: section["blocks"] for section in found["sections"]}
        own = run_here("lineage", report_runs / "one", best[-1], "--json").json
        ids = [row[0][0] for row in keys["lineage"][0]["rows"]]
        assert sorted(ids) == sorted(str(row["id"]) for row in own)
        commands = [block["text"] for block in keys["commands"]]
        assert f"gasearch lineage {report_runs / 'one'} {best[-1]}" in commands

    def test_dft_has_structures_of_its_own(self, server):
        (dft,) = [s for s in document(server, "api/run?n=0")["sections"] if s["key"] == "dft"]
        (table,) = [block for block in dft["blocks"] if block["kind"] == "table"]
        assert "16 DFT jobs: 16 collected" in dft["blocks"][0]["text"]
        number, _, level = table["rows"][0][5][1].partition(" ")
        path = f"api/candidate?n=0&id={number}&level={level.replace(' ', '%20')}"
        assert level in document(server, path)["structure"]["name"]

    @pytest.mark.parametrize(
        ("path", "status", "said"),
        [
            ("api/candidate?n=0&id=99", 404, "no candidate 99"),
            ("api/candidate?n=0&id=1&level=PBE", 404, "no level"),
            ("api/candidate?n=0&id=1e9", 400, "load it again"),
            ("api/candidate?n=0", 400, "load it again"),
            ("api/candidate?n=2&id=1", 400, "load it again"),
            ("api/run?n=-1", 400, "load it again"),
            ("api/run?n=0&x=half", 400, "load it again"),
            ("api/run?n=0&" + "&".join(f"a{n}=1" for n in range(20)), 400, "question"),
            ("../../etc/passwd", 404, "nothing here"),
            ("site.py", 404, "nothing here"),
        ],
    )
    def test_a_wrong_question_gets_one_line(self, server, path, status, said):
        found, _, body = asked(server, path)
        assert found == status
        assert said in body.decode()
        assert len(body.splitlines()) == 1


class TestFolders:
    def test_a_run_that_starts_later_is_waited_for(self, make_run, tmp_path):
        folder = make_run(tmp_path / "later", budget=6)
        with served(folder) as (server, watcher):
            (run,) = document(server, "api/runs")["runs"]
            assert "was not started yet" in run["warnings"][0]
            assert document(server, "api/run?n=0")["sections"] == []
            Session(RunFolder(folder)).run()
            document(server, "api/runs")  # has it looked at again
            assert watcher.wait_until(lambda: watcher.runs[0].moment.is_whole, 60)
            (run,) = document(server, "api/runs")["runs"]
            assert (run["done"], run["warnings"]) == (6, [])

    def test_a_database_that_is_gone_is_said_and_not_the_end(self, make_run, tmp_path):
        folder = make_run(tmp_path / "run", budget=4)
        Session(RunFolder(folder)).run()
        with served(folder) as (server, watcher):
            run = watcher.runs[0]
            away = (folder / "search.db").rename(tmp_path / "away.db")
            watcher.ask()
            assert watcher.wait_until(lambda: bool(run.moment.trouble), 60)
            assert "is not there any more" in document(server, "api/runs")["runs"][0]["warnings"][0]
            away.rename(folder / "search.db")
            watcher.ask()
            assert watcher.wait_until(lambda: not run.moment.trouble, 60)

    def test_no_run_no_page(self, tmp_path, report_runs):
        with pytest.raises(NoRunError, match="gasearch init"):
            open_server([tmp_path / "nothing"], 0, 1.0)
        with pytest.raises(NoRunError, match="holds no run"):
            open_server([tmp_path], 0, 1.0)
        one = report_runs / "one"
        with pytest.raises(UsageError, match="named twice"):
            open_server([one, Path(f"{one}/../one")], 0, 1.0)

    def test_a_port_in_use_is_one_line(self, server, report_runs):
        with pytest.raises(PortInUseError, match=f"127.0.0.1:{server.server_port}.*--port 0"):
            open_server([report_runs / "two"], server.server_port, 1.0)
        line = run_here("serve", report_runs / "two", "--port", server.server_port).line
        assert "choose another port" in line


HULL = "document.querySelector('.run[data-run=\"0\"] .plot[data-figure=hull]')"
POINT = f"""(() => {{
  const points = {HULL}.querySelectorAll('.scatterlayer .trace:last-child path.point');
  const place = points[points.length - 1].getBoundingClientRect();
  return [place.x + place.width / 2, place.y + place.height / 2];
}})()"""


def has_hover(page):
    page.wait_for("document.querySelector('.hoverlayer .hovertext') !== null")


class TestBrowser:
    """The page as a user sees it: Chromium, without a window."""

    def test_open_filter_click_turn_and_see_a_new_result(self, make_run, tmp_path):
        # a name that any page would obey that takes it for markup
        folder = make_run(tmp_path / "<img src=x onerror=alert(1)>&lt;b>", budget=12)
        run_file = folder / "run.toml"
        Session(RunFolder(folder)).run()
        with served(folder) as (server, _), Page(tmp_path / "profile") as page:
            page.open(server.address)
            page.wait_for(f"{HULL} !== null && {HULL}.querySelector('.main-svg') !== null")
            assert page.run("document.querySelector('.run h2').textContent") == str(folder)
            assert page.run("document.querySelectorAll('img, b').length") == 0

            page.run("document.getElementById('x').value = '0.5'")
            page.run("document.getElementById('x').dispatchEvent(new Event('change'))")
            arrivals = "document.querySelector('.plot[data-figure=arrivals]')"
            page.wait_for(f"{arrivals}.layout.title.text.endsWith('x = 0.5')")
            with RunFolder(folder).open_store() as store:
                n_half = len(store.evaluations(x=0.5))
            assert page.run(f"{arrivals}.data[0].x.length") == n_half

            page.move(*page.run(POINT))
            has_hover(page)
            page.click(*page.run(POINT))
            page.wait_for("!document.getElementById('candidate').hidden")
            page.wait_for("document.getElementById('legend').textContent.includes('Fe2+ (4)')")
            assert page.run("document.getElementById('candidate-title').textContent") == (
                f"candidate 2 of {folder}"
            )
            picture = "document.getElementById('canvas').toDataURL()"
            before = page.run(picture)
            page.click_on("[data-axis='2']")
            assert page.run(picture) != before
            page.run("document.getElementById('close').click()")
            assert page.run("document.getElementById('candidate').hidden") is True

            run_file.write_text(run_file.read_text().replace('"budget" = 12', '"budget" = 15'))
            Session(RunFolder(folder)).run()
            page.wait_for("document.querySelector('.run').textContent.includes('15 candidates')")
            page.wait_for(f"{HULL}.data.flatMap((one) => one.customdata || []).length === 15")
            assert page.run("document.getElementById('x').value") == "0.5"
            assert page.console == []
            assert all(place.startswith(server.address) for place in page.requests)

    def test_the_command_serves_until_it_is_told_to_end(self, report_runs, tmp_path):
        words = ["serve", str(report_runs / "ranks"), "--port", "0", "--every", "0.5"]
        command = [sys.executable, "-m", "gasearch", *words]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
            Page(tmp_path / "profile") as page,
        ):
            try:
                page.open(process.stdout.readline().removeprefix("open ").strip())
                page.wait_for("document.querySelectorAll('.run .plot .main-svg').length > 0")
                process.send_signal(signal.SIGINT)
                out = process.stdout.read()
                assert process.wait(60) == 0
                state = "document.getElementById('state')"
                page.wait_for(f"{state}.className === 'bad'")
                assert "Is gasearch serve running" in page.run(f"{state}.textContent")
            finally:
                process.kill()
        assert "ssh -L" in out
