"""The site of the documentation: built strictly and offline, with links that lead somewhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer
from pages import DOCS, README, pages
from places import ROOT

import gasearch
from gasearch.cli.app import app
from gasearch.learning.settings import LearnSettings
from gasearch.run.config import RunSettings, settings_table

pytest.importorskip("mkdocs", reason="no MkDocs here: pip install '.[docs]'")
pytest.importorskip("material", reason="no Material theme here: pip install '.[docs]'")
pytest.importorskip("mkdocstrings", reason="no mkdocstrings here: pip install '.[docs]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site without a network; return its folder."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Page(HTMLParser):
    """What a page of the site names, and what can be named on it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.anchors, self.text = [], [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if found.get("src") or (tag == "link" and found.get("href")):
            self.loaded.append(found.get("src") or found["href"])

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def html(site):
    found = {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    assert len(found) >= len(pages()) - 1
    return found


def is_elsewhere(link):
    return urlsplit(link).scheme in ("http", "https", "mailto")


def test_every_link_leads_to_a_file_and_an_anchor(html):
    dead = []
    for path, page in html.items():
        for link in filter(lambda one: not is_elsewhere(one), [*page.links, *page.loaded]):
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = html[target].anchors if target in html else set()
            is_missing = not target.is_file() or (
                parts.fragment and target in html and unquote(parts.fragment) not in anchors
            )
            if is_missing:
                dead.append(f"{path.name}: {link}")
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(html, site):
    assert not [one for page in html.values() for one in page.loaded if is_elsewhere(one)]
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"(?:url\(|@import)\s*[\"']?https?:", styles)


def text_of(html, site, name):
    return " ".join(" ".join(html[site / name].text).split())


def commands(name, group):
    for part, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(f"{name} {part}", command)
        else:
            yield f"{name} {part}", command


def test_every_command_and_every_option_has_its_place(html, site):
    page = html[site / "reference" / "commands.html"]
    text = text_of(html, site, "reference/commands.html")
    found = list(commands("gasearch", typer.main.get_command(app)))
    assert len(found) > 20
    for name, command in found:
        assert name.replace(" ", "-") in page.anchors
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert all(option in text for option in parameter.opts), name


@pytest.mark.parametrize(
    ("name", "root"), [("run-toml.html", RunSettings), ("learn-toml.html", LearnSettings)]
)
def test_every_key_has_its_place(html, site, name, root):
    page = html[site / "reference" / name]
    text = text_of(html, site, f"reference/{name}")
    for row in settings_table(root):
        assert row.section.replace(".", "-") in page.anchors
        assert f" {row.name} " in text
        assert " ".join(row.sentence.replace("`", "").split()) in text, row.name


def test_every_public_name_has_its_place(html, site):
    anchors = html[site / "reference" / "python.html"].anchors
    assert {*gasearch.__all__} - {"__version__"} <= anchors


RELATIVE = re.compile(r"\]\((?!\w+:)([^)\s#]*)(?:#([^)\s]+))?\)|src=\"(?!\w+:)([^\"]+)\"")


def test_links_work_where_the_repository_is_looked_at():
    """Those of README and of the pages, as files of the repository."""
    files = [README, ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    for path in files:
        text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
        for match in RELATIVE.finditer(text):
            target = path.parent / (match[1] or match[3] or path.name)
            assert target.exists(), f"{path}: {match[0]}"
            if match[2] and target.suffix == ".md" and "reference" not in target.parts:
                assert match[2] in headings(target), f"{path}: {match[0]}"


def headings(path: Path):
    """Return the anchors that a forge makes of headings."""
    lines = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = [re.sub(r"[`*]|\{.*\}", "", line).strip().lower() for line in lines]
    return {re.sub(r"[^\w\- ]", "", line).replace(" ", "-") for line in plain}
