"""Which working ions left their sites: displacements made by hand, and real relaxations."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from places import SHIPPED_FRAMES

from gasearch.crystal.declaration import HostDeclaration, SublatticeDeclaration
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.species import Species
from gasearch.potentials.pmmcs import Pmmcs
from gasearch.relax.ase_relaxer import ReferenceRelaxer
from gasearch.relax.audit import audit
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.settings import RelaxSection, RelaxSettings
from gasearch.relax.working_sites import WorkingSites
from gasearch.run.folder import RunFolder
from gasearch.search.check import check_run
from gasearch.search.dispatcher import start_structure
from gasearch.search.session import Session

OLIVINE = builtin_host("nafepo4-olivine")
HOST = Host.build(OLIVINE, (1, 2, 1))
SITES = WorkingSites.of(HOST)
ALONG_B = np.array([0, HOST.atoms.cell.lengths()[1] / 4, 0])
"""From one Na site to the next of its chain, in Å."""


def half_filled() -> Atoms:
    """Return four Na in one chain each with a vacancy before and behind it."""
    return start_structure(Decoration.random(HOST, HOST.composition_at(0.5), RNG), 0.02, 1)


RNG = np.random.default_rng(5)


def test_an_untouched_structure_has_moved_nothing() -> None:
    for x in (0, 0.25, 0.5, 1):
        atoms = Decoration.random(HOST, HOST.composition_at(x), RNG).to_atoms()
        assert SITES.moved(atoms, atoms.copy()) == ""


def test_an_ion_keeps_its_site_up_to_a_third_of_the_way_to_the_next() -> None:
    start = half_filled()
    for share, kept in ((0.30, True), (-0.30, True), (0.36, False), (-0.36, False), (0.5, False)):
        final = start.copy()
        final.positions[0] += share * ALONG_B
        assert (SITES.moved(start, final) == "") is kept
    assert SITES.reach == pytest.approx(ALONG_B[1] / 3, abs=1e-4)


def test_an_ion_on_another_site_is_named_with_how_far_it_went() -> None:
    full = Decoration.random(HOST, HOST.composition_at(1), RNG).to_atoms()
    ions = np.flatnonzero(full.numbers == 11)
    neighbour = int(ions[1:][full.get_distances(0, ions[1:], mic=True).argmin()])
    start = full[1:]  # the site of atom 0 is empty
    final = start.copy()
    final.positions[neighbour - 1] = full.positions[0]
    place = SITES.places[ions.tolist().index(neighbour)]
    expected = f"Na {neighbour - 1} moved 3.11 Å from site {place} and is on the empty site 0"
    assert SITES.moved(start, final) == expected


def exchange_ions(atoms: Atoms) -> None:
    ions = np.flatnonzero(atoms.numbers == 11)
    atoms.positions[ions] = atoms.positions[np.roll(ions, 1)]


def strain_and_turn(atoms: Atoms) -> None:
    strain = np.array([[0.94, 0.03, 0], [0.03, 0.93, 0.02], [0, 0.02, 1.05]])
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.rotate(50, (1, 2, 3), rotate_cell=True)


def take_images(atoms: Atoms) -> None:
    atoms.positions += RNG.integers(-2, 3, (len(atoms), 3)) @ atoms.cell.array


@pytest.mark.parametrize("change", [exchange_ions, strain_and_turn, take_images])
def test_what_leaves_each_site_its_species_moves_nothing(change: Callable[[Atoms], None]) -> None:
    start = half_filled()
    final = start.copy()
    change(final)
    assert SITES.moved(start, final) == ""


def put_between(atoms: Atoms) -> None:
    atoms.positions[0] += ALONG_B / 2


def put_two_on_one(atoms: Atoms) -> None:
    atoms.positions[1] = atoms.positions[0] + [0.3, 0, 0]


def move_framework(atoms: Atoms) -> None:
    atoms.positions[atoms.numbers != 11] += ALONG_B / 2


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (put_between, r"^Na 0 moved 1\.5\d Å from site \d+ and is on no site$"),
        (put_two_on_one, r"^Na 1 moved (?!.*the empty)"),
        (move_framework, "on no site"),
    ],
)
def test_ions_elsewhere_have_moved(change: Callable[[Atoms], None], found: str) -> None:
    start = half_filled()
    final = start.copy()
    change(final)
    assert re.search(found, SITES.moved(start, final))


def with_potassium(unit: Atoms, working_ions: tuple[int, ...] | tuple[str], fu: str) -> Host:
    """Return a host whose working-ion sites hold potassium too, as the framework may."""
    ions = tuple(map(Species.parse, ("Na+", "K+", "vacancy")))
    working = SublatticeDeclaration("working_ion", working_ions, ions, "free", {"K": 0.5})
    redox = SublatticeDeclaration("redox", ("Fe",), tuple(map(Species.parse, ("Fe2+", "Fe3+"))))
    charges = {"P": "P5+", "O": "O2-", "F": "F-", "K": "K+"}
    framework = {element: Species.parse(text) for element, text in charges.items()}
    declared = HostDeclaration("mixed", unit, (working, redox), framework, fu)
    return Host.build(declared, (1, 1, 1) if len(unit) > 7 else (2, 1, 1))


def test_exchanged_ions_of_two_species_have_moved() -> None:
    host = with_potassium(OLIVINE.unit_cell, ("Na",), OLIVINE.formula_unit)
    start = Decoration.random(host, host.compositions[-1], RNG).to_atoms()
    sites = WorkingSites.of(host)
    sodium, potassium = np.flatnonzero(start.numbers == 11), np.flatnonzero(start.numbers == 19)
    unlike, alike = [sodium[0], potassium[0]], potassium[:2].tolist()
    for pair, kept in ((unlike, False), (alike, True)):
        final = start.copy()
        final.positions[pair] = final.positions[pair[::-1]]
        assert (sites.moved(start, final) == "") is kept
    assert not sites.is_shared


@pytest.mark.parametrize("drift", [(0.4, 0, 0), (-3.0, 2.2, 7.7), (0, 6.3, 0)])
def test_a_drift_of_the_whole_crystal_moves_nothing(drift: tuple[float, float, float]) -> None:
    start = half_filled()
    final = start.copy()
    final.positions += drift
    assert SITES.moved(start, final) == ""
    final.wrap()
    assert SITES.moved(start, final) == ""
    final.positions[0] += ALONG_B
    assert "Na 0 moved 3." in SITES.moved(start, final)


def test_sites_of_a_skewed_supercell_are_as_far_apart() -> None:
    host = Host.build(OLIVINE, [[1, 0, 0], [0, 1, 0], [2, 0, 1]])
    sites = WorkingSites.of(host)
    assert sites.reach == pytest.approx(SITES.reach[:4])
    start = Decoration.random(host, host.composition_at(0.5), RNG).to_atoms()
    final = start.copy()
    assert sites.moved(start, final) == ""
    final.positions[0] += ALONG_B
    assert "Na 0 moved 3.11" in sites.moved(start, final)


def test_several_sublattices_have_a_reach_each() -> None:
    host = Host.build(builtin_host("na2fesio4"), (1, 1, 1))
    sites = WorkingSites.of(host)
    working = np.flatnonzero(sites.is_working)
    every = host.atoms.repeat((3, 3, 3))
    middle = 13 * len(host.atoms)
    for site, reach in zip(working, sites.reach, strict=True):
        others = [i for i, s in enumerate(every.symbols) if s == "Na" and i != site + middle]
        nearest = every.get_distances(int(site) + middle, others).min()
        assert reach == pytest.approx(nearest / 3)
    atoms = Decoration.random(host, host.compositions[-1], RNG).to_atoms()
    assert sites.moved(atoms, atoms) == ""


def test_an_ion_that_the_framework_holds_too_is_no_working_ion() -> None:
    corners = [(0, 0, 0), (0.5, 0.5, 0), (0.5, 0.5, 0.5), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    corners += [(0, 0.5, 0), (0.5, 0, 0)]
    unit = Atoms("NaKFeF4", scaled_positions=corners, cell=[4.4, 4.4, 4.4], pbc=True)
    host = with_potassium(unit, ("Na",), "NaKFeF4")
    sites = WorkingSites.of(host)
    start = Decoration.random(host, host.compositions[-1], RNG).to_atoms()
    ions = sites.ions(start)
    assert sites.is_shared
    assert sorted(start.symbols[ions]) == ["K", "Na"]
    assert (start.numbers == 19).sum() == 3
    assert sites.moved(start, start) == ""
    final = start.copy()
    final.positions[ions[0]] += [2.0, 0, 0]
    assert f"{start.symbols[int(ions[0])]} {ions[0]} moved " in sites.moved(start, final)


def test_ions_of_relaxed_and_rattled_dft_frames_are_on_their_sites() -> None:
    host = Host.build(OLIVINE, (1, 1, 1))
    sites = WorkingSites.of(host)
    frames = read(SHIPPED_FRAMES, ":")
    assert len(frames) == 247
    for frame in frames:
        start = frame.copy()
        ions = sites.ions(frame)
        distances = sites.distances(frame, ions)
        assert len(set(distances.argmin(axis=1))) == len(ions)
        assert distances.min(axis=1, initial=0.0).max(initial=0.0) < 0.25
        assert sites.moved(start, frame) == ""


def test_they_travel_to_workers_with_the_settings() -> None:
    settings = RelaxSettings.of(RelaxSection(tight_fmax=0.003), SITES)
    assert (settings.tight.fmax, settings.tight.sites) == (0.003, SITES)
    again = pickle.loads(pickle.dumps(settings))
    assert again.model_dump() == settings.model_dump()
    start = half_filled()
    final = start.copy()
    final.positions[0] += ALONG_B
    assert again.sites is not None
    assert again.sites.moved(start, final) == SITES.moved(start, final) != ""


def test_the_audit_names_moved_ions_and_moments() -> None:
    start = half_filled()
    final = start.copy()
    final.positions[0] += ALONG_B / 2
    ranges = {Species("Fe", 2): (3.0, 4.15), Species("Fe", 3): (4.15, 5.0)}
    moments = 0.93 * start.get_initial_magnetic_moments()
    assert audit(start, final, moments, ranges).verdict == "ok"
    assert audit(start, final, moments, ranges, SITES).verdict == "order_lost"
    moments[start.numbers == 26] = 4.0
    both = audit(start, final, moments, ranges, SITES).reason
    assert "is on no site; Fe " in both


def test_a_relaxation_in_which_an_ion_hops_loses_its_order_and_another_keeps_it() -> None:
    """pmmcs: in 353c two Na change their sites; at x = 1 there is no other site."""
    hops = start_structure(Decoration.from_fingerprint(HOST, "353c"), 0.02, 1)
    stays = start_structure(Decoration.from_fingerprint(HOST, "ffff"), 0.02, 1)
    settings = RelaxSettings(sites=SITES)
    found = dict(BatchRelaxer(Pmmcs(), settings).relax(enumerate([hops, stays])))
    assert (found[0].verdict, found[0].audit) == ("order_lost", "orders-2")
    assert "Na 0 moved 3.7" in found[0].reason
    assert found[1].verdict == "ok"
    without = ReferenceRelaxer(Pmmcs(), RelaxSettings()).relax_one(hops)
    assert (without.verdict, without.audit) == ("ok", "moments-1")


def test_verdicts_of_earlier_runs_are_judged_again(tmp_path, make_run, monkeypatch) -> None:
    """At x = 1/4 of the unit cell Na leaves its site with pmmcs in one of two orders."""
    search = {"x": ["1/4"]}
    folder = RunFolder(make_run(tmp_path / "run", potential="pmmcs", budget=4, search=search))
    with monkeypatch.context() as patch:
        patch.setattr("gasearch.search.dispatcher.WorkingSites.of", lambda host: None)
        Session(folder).run()
    assert check_run(folder) == []
    (problem,) = check_run(folder, rejudge=True)
    expected = (
        r"candidate \d was judged ok by moments-1, is order_lost by orders-2: Na 0 moved \d\.\d+ Å"
    )
    assert re.match(expected, problem.detail)


def test_a_search_records_them_and_they_count_no_more(tmp_path, make_run) -> None:
    search = {"x": ["1/4"]}
    folder = RunFolder(make_run(tmp_path / "run", potential="pmmcs", budget=4, search=search))
    Session(folder).run()
    with folder.open_store() as store:
        found = sorted((row.x, row.verdict) for row in store.evaluations(verdict=None))
        valid = [row.x for row in store.evaluations()]
    assert found == [(0, "ok"), (0.25, "ok"), (0.25, "order_lost"), (1, "ok")]
    assert valid == [0, 0.25, 1]
    assert check_run(folder, rejudge=True) == []
