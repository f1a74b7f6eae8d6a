"""What MkDocs calls while it builds the documentation: see `mkdocs.yml`.

Reference pages are made from the code, and files of the repository outside `docs/` that a page
names come along under `repository/`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "operators")]

import links  # noqa: E402 -- beside this file; MkDocs puts its folder on the path
import reference  # noqa: E402

# In place of files of these names, which say in the repository where the pages come from.
GENERATED = {
    "reference/commands.md": reference.commands_page,
    "reference/run-toml.md": reference.run_file_page,
    "reference/learn-toml.md": reference.learn_file_page,
    "reference/python.md": reference.python_page,
}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages made from the code, and what pages name outside `docs/`."""
    for uri, page in GENERATED.items():
        in_place_of = files.get_file_from_path(uri)
        if in_place_of is not None:
            files.remove(in_place_of)
        files.append(File.generated(config, uri, content=page()))
    named = [uri for uri in _targets(config.nav or []) if uri.startswith(links.OUTSIDE)]
    todo = [(file.src_uri, file.content_string) for file in files.documentation_pages()]
    for uri in named:
        todo += _add(files, config, uri)
    while todo:
        source, text = todo.pop()
        for target in links.outside(source, text):
            if files.get_file_from_path(target) is None:
                todo += _add(files, config, target)
    return files


def _targets(entries: list[Any]) -> Any:
    for entry in entries:
        for target in entry.values():
            if isinstance(target, list):
                yield from _targets(target)
            else:
                yield target


def _add(files: Files, config: MkDocsConfig, uri: str) -> list[tuple[str, str]]:
    """Bring one file of the repository along; return it if it is a page with links of its own."""
    place = ROOT / links.in_repository(uri)
    if not place.is_file():
        raise PluginError(f"a page names {place.relative_to(ROOT)}, which is no file")
    file = File.generated(config, uri, abs_src_path=str(place), inclusion=InclusionLevel.NOT_IN_NAV)
    files.append(file)
    return [(uri, file.content_string)] if file.is_documentation_page() else []


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Lead links to other files of the repository to where they lie on the site."""
    return links.rewritten(page.file.src_uri, markdown)
