"""The ready folders of runs/: one for each built-in host, searched to a hull of their own cells."""

import tomllib

import pytest
from places import ROOT

from gasearch.analysis.findings import Findings
from gasearch.crystal.io.builtin import BUILTIN_HOSTS
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.run.choice import species_of_declaration
from gasearch.run.folder import RunFolder
from gasearch.run.host import build_host
from gasearch.search.session import Session

FOLDERS = sorted(path.parent for path in ROOT.glob("runs/*/run.toml"))
BUDGET = 3  # both ends of the range, and one between them


def test_every_built_in_host_has_a_run_folder():
    shown = [RunFolder(folder).settings().host.structure for folder in FOLDERS]
    assert sorted(shown) == sorted(BUILTIN_HOSTS)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_its_potential_is_one_that_the_host_can_be_searched_with(folder):
    settings = RunFolder(folder).settings()
    host = build_host(settings.host, folder)
    potential = settings.potential
    if potential.name == "pmmcs":
        assert species_of_declaration(host.declaration) <= Pmmcs().species
    else:  # knows elements only: a hold tells charges apart, or nothing has to
        is_held = potential.hold != "off" or potential.name != "chgnet"
        assert is_held or host.declaration.charges == "delocalised"


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_is_searched_to_its_ends(folder, tmp_path, make_run):
    """With an instant potential in place of the folder's own; their whole runs take minutes."""
    document = tomllib.loads((folder / "run.toml").read_text(encoding="utf-8"))
    search = document["search"] | {"budget": BUDGET, "in_flight": 1}
    run = make_run(tmp_path / folder.name, host=document["host"], search=search, budget=BUDGET)
    Session(RunFolder(run)).run()
    with RunFolder(run).open_store() as store:
        findings = Findings(store)
        host, status = findings.host, findings.status()
        assert findings.missing_ends() == []
        assert host.declaration.name == document["host"]["structure"]
        assert status.counts.candidates == min(BUDGET, sum(map(host.n_distinct, host.compositions)))
        assert {row.x for row in findings.ranked()} >= set(host.x_range)
