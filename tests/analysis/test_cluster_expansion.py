"""Decorations with energies, as programs that fit cluster expansions read them."""

import json

import ase.db
import ase.io
import numpy as np
import pytest
from command_line import run_here

from gasearch.analysis.cluster_expansion import stand_ins
from gasearch.analysis.export import export_decorations
from gasearch.analysis.findings import Findings
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.errors import UsageError
from gasearch.run.folder import RunFolder


@pytest.fixture
def folder(finished):
    return finished


def export(folder, *words):
    return run_here("export", folder, *words)


def ranked(folder):
    with RunFolder(folder).open_store() as store:
        return Findings(store).best(None, 100)


def test_smol_gets_entries_with_oxidation_states_on_the_sites_of_the_host(folder, tmp_path):
    pytest.importorskip("pymatgen")
    from monty.json import MontyDecoder

    output = tmp_path / "entries.json"
    assert export(folder, "--format", "smol", "--output", output).status == 0
    entries = MontyDecoder().process_decoded(json.loads(output.read_text()))
    rows = ranked(folder)
    assert len(entries) == len(rows) == 16
    ideal = builtin_host("nafepo4-olivine").unit_cell.cell.volume
    for entry, row in zip(entries, rows, strict=True):
        assert type(entry).__name__ == "ComputedStructureEntry"
        assert entry.energy == pytest.approx(row.energy_eV, abs=1e-9)
        assert entry.data["orbit_size"] == row.orbit_size
        assert entry.structure.charge == pytest.approx(0)
        assert entry.structure.volume == pytest.approx(ideal)
        species = [str(site.specie) for site in entry.structure]
        assert species.count("Na+") == round(4 * row.x)
        assert species.count("Fe3+") == 4 - species.count("Fe2+") == 4 - round(4 * row.x)
        assert len(species) == 24 + round(4 * row.x)


@pytest.mark.parametrize("name", ["icet.extxyz", "icet.db"])
def test_icet_gets_all_sites_with_one_symbol_for_each_species(folder, tmp_path, name):
    output = tmp_path / name
    assert export(folder, "--format", "icet", "--output", output).status == 0
    if name.endswith("db"):
        rows = list(ase.db.connect(output).select())
        read = [(row.toatoms(), row.key_value_pairs, row.energy) for row in rows]
    else:
        read = [(a, a.info, a.get_potential_energy()) for a in ase.io.read(output, ":")]
    found = ranked(folder)
    assert len(read) == len(found)
    with RunFolder(folder).open_store() as store:
        host = Findings(store).host
    for (atoms, info, energy), row in zip(read, found, strict=True):
        symbols = list(atoms.symbols)
        assert len(atoms) == 28
        assert symbols.count("X") == symbols.count("Ga") == 4 - round(4 * row.x)
        assert symbols.count("Na") == symbols.count("Fe") == round(4 * row.x)
        assert energy == pytest.approx(row.energy_eV)
        assert info["energy_per_fu"] == pytest.approx(row.energy_eV / 4)
        assert info["stands_for"] == "Fe=Fe2+ Ga=Fe3+ Na=Na+ O=O2- P=P5+ X=vacancy"
        assert np.allclose(atoms.positions, host.atoms.positions, atol=1e-6)


def test_a_decoration_can_be_found_again_in_what_icet_gets(folder, tmp_path):
    output = tmp_path / "icet.extxyz"
    export(folder, "-x", "0.5", "--format", "icet", "--output", output)
    with RunFolder(folder).open_store() as store:
        host = Findings(store).host
    known = set()
    for atoms in ase.io.read(output, ":"):
        atoms.set_initial_charges(
            [{"Ga": 3, "Fe": 2, "Na": 1, "P": 5, "O": -2, "X": 0}[e] for e in atoms.symbols]
        )
        atoms.numbers[atoms.numbers == 31] = 26
        known.add(Decoration.from_atoms(host, atoms[atoms.numbers > 0]).fingerprint)
    assert len(known) == 10


def test_each_species_of_a_mixed_host_has_a_symbol_of_its_own():
    host = Host.build(builtin_host("na2fesio4"), (1, 1, 1))
    symbols = {str(species): text for species, text in stand_ins(host).items()}
    assert len(set(symbols.values())) == len(symbols)
    assert (symbols["Fe2+"], symbols["Fe3+"], symbols["vacancy"]) == ("Fe", "Ga", "X")


@pytest.mark.parametrize(("code", "name"), [("smol", "a.cif"), ("icet", "a.json"), ("icet", "a")])
def test_another_ending_is_refused(folder, tmp_path, code, name):
    with RunFolder(folder).open_store() as store:
        findings = Findings(store)
        with pytest.raises(UsageError, match=f"for {code}, a name that ends in"):
            export_decorations(findings, findings.best(None, 2), tmp_path / name, code)
    assert not list(tmp_path.iterdir())
