"""Crystals as users bring them: from a file to a hull, with the guess that a chemist would make.

The files are in tests/data/hosts; docs/how-to/your-own-crystal.md has the same table.
"""

import re
import shutil

import numpy as np
import pytest
from places import HOSTS, TOYS

from gasearch.analysis.joint_hull import joint_hull
from gasearch.crystal.declaration import HostError
from gasearch.run.folder import RunFolder
from gasearch.run.host_file import HostReading, read_host
from gasearch.run.initialize import UnfinishedHostError, initialize
from gasearch.search.session import Session

CASES = {
    # file: options, supercell, sublattices, framework, formula unit, x range, distinct decorations
    "CeO2": (
        {"moving": "O"}, 4, ["O: O2- vacancy", "Ce: Ce3+ Ce4+"], "", "CeO2", (0.75, 1), 5,
    ),
    "DRX_Li12Mn08": (
        {}, 10, ["Li: Li+ Mn3+ Mn4+ Ti4+ vacancy; Mn 0.2 Ti 0.2; moves Li"], "O2-",
        "Li1.2Mn0.4Ti0.4O2", (2 / 3, 1), 1808,
    ),
    "Fe3O4_spinel": ({}, 2, ["2 3 4 5: Fe2+ Fe3+"], "Fe3+ O2-", "Fe3O4", (1, 1), 8),
    "LFP_P21n": ({}, 1, ["Li: Li+ vacancy", "Fe: Fe2+ Fe3+"], "O2- P5+", "LiFePO4", (0, 1), 16),
    "LNMO": (
        {}, 1, ["Li: Li+ vacancy", "Ni: Ni2+ Ni3+ Ni4+"], "Mn4+ O2-", "Li2NiMn3O8", (0, 1), 183,
    ),
    "LiFe05Mn05PO4": (
        {}, 1, ["Li: Li+ vacancy", "Fe: Fe2+ Fe3+ Mn2+ Mn3+; Fe 0.5 Mn 0.5"], "P5+ O2-",
        "LiFe0.5Mn0.5PO4", (0, 1), 74,
    ),
    "LiNiO2": ({}, 4, ["Li: Li+ vacancy", "Ni: Ni3+ Ni4+"], "O2-", "LiNiO2", (0, 1), 9),
    "NVP_nasicon": (
        {}, 1, ["Na: Na+ vacancy", "V: V2+ V3+ V4+"], "P5+ O2-", "Na4V2P3O12", (0.25, 1), 252,
    ),
    "O3_NaNFM": (
        {}, 3,
        ["Na: Na+ vacancy", "Fe: Fe3+ Fe4+ Mn4+ Ni2+ Ni3+ Ni4+; Fe 0.333 Mn 0.333 Ni 0.333"],
        "O2-", "NaFe1/3Mn1/3Ni1/3O2", (0, 1), 14,
    ),
    "P2_Na067CoO2": ({}, 2, ["Na: Na+ vacancy", "Co: Co3+ Co4+"], "O2-", "NaCoO2", (0, 1), 44),
    "PrussianWhite": (
        {}, 1, ["Na: Na+ vacancy", "C: Fe2+ ls Fe3+ ls", "N: Fe2+ Fe3+"], "C2+ N3-",
        "Na2Fe2C6N6", (0, 1), 4,
    ),
    "alluaudite": (
        {}, 1, ["Na: Na+ vacancy", "Fe: Fe2+ Fe3+"], "S6+ O2-", "Na2Fe2S3O12", (0, 1), 63,
    ),
}  # fmt: skip
DELOCALISED = {
    "LiNiO2": (12, "Ni O2-", 224),
    "P2_Na067CoO2": (4, "Co O2-", 86),
}
REFUSED = {
    "CeO2": r"every charge is fixed \(Ce4\+\), .* name them, as in --moving O\. Wrote .*run\.toml",
    "LiVPO4F": r"LiVPO4F\.cif: Li1 and O1 are 0\.57 Å apart, nearer than in any crystal",
}


def start(folder, name, supercell, **options):
    return initialize(
        RunFolder(folder), str(HOSTS / f"{name}.cif"), supercell, "./toy.py:LabelEnergy", 4, 1,
        HostReading(**options),
    )  # fmt: skip


def text_of(section, structure) -> str:
    """A sublattice of run.toml as CASES has it; Fe of Prussian white by what surrounds it."""
    sites = " ".join(map(str, section.sites))
    if "Fe" in structure.symbols and "C" in structure.symbols and "Na" not in sites:
        distances = structure.get_all_distances(mic=True)[list(section.sites)]
        elements = np.array(structure.symbols)
        sites = min("CN", key=lambda e: distances[:, elements == e].min())
    parts = [f"{sites}: {' '.join(section.species)}"]
    if section.fractions:
        parts.append(" ".join(f"{e} {share:g}" for e, share in section.fractions.items()))
    return "; ".join(parts + ([f"moves {section.moves}"] if section.moves else []))


@pytest.mark.parametrize("name", CASES)
def test_a_crystal_is_guessed_as_a_chemist_would_and_searched_to_a_hull(tmp_path, name):
    options, supercell, sublattices, framework, formula_unit, x_range, distinct = CASES[name]
    host = hull_of_a_run(tmp_path / "run", name, supercell, **options)
    section = RunFolder(tmp_path / "run").settings().host
    unit = host.declaration.unit_cell
    assert [text_of(own, unit) for own in section.sublattice] == sublattices
    assert " ".join(section.framework.values()) == framework
    assert section.formula_unit == formula_unit
    assert host.x_range == pytest.approx(x_range)
    assert sum(host.n_distinct(c) for c in host.compositions) == distinct


@pytest.mark.parametrize("name", DELOCALISED)
def test_the_order_of_ions_alone_is_searched_where_charges_are_delocalised(tmp_path, name):
    supercell, framework, distinct = DELOCALISED[name]
    host = hull_of_a_run(tmp_path / "run", name, supercell, charges="delocalised")
    assert host.x_range == (0, 1)
    assert sum(host.n_distinct(c) for c in host.compositions) == distinct
    section = RunFolder(tmp_path / "run").settings().host
    assert section.charges == "delocalised"
    assert " ".join(section.framework.values()) == framework
    assert [own.kind for own in section.sublattice] == ["working_ion"]


def hull_of_a_run(folder, name, supercell, **options):
    """Search a few candidates, and return the host; the ends of its range are on the hull."""
    host, _ = start(folder, name, supercell, **options)
    shutil.copy(TOYS, folder / "toy.py")
    text = (folder / "run.toml").read_text()
    (folder / "run.toml").write_text(re.sub(r"(?m)^workers = \d+", "workers = 0", text))
    assert Session(RunFolder(folder)).run() in ("budget", "exhausted")
    on_hull = {point.x for point in joint_hull([folder]).vertices()}
    assert on_hull >= set(host.x_range)
    return host


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_searched_is_one_line_that_names_the_cause(tmp_path, name):
    with pytest.raises((HostError, UnfinishedHostError), match=REFUSED[name]) as caught:
        start(tmp_path / "run", name, 1)
    assert "\n" not in str(caught.value)


def test_a_setting_without_listed_operations_is_honoured():
    """The same file by pymatgen: Pnma, 28 atoms."""
    named = read_host(str(HOSTS / "LFP_P21n.cif"))
    assert len(named.declaration.unit_cell) == 28
    assert named.file.lines == ()
