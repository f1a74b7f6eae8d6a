"""Which candidates are promoted, and that nobody is promoted twice."""

import hashlib
import shutil
import tomllib

import ase.io
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gasearch.analysis.findings import Findings
from gasearch.dft.promotion import NO_HULL, planned, promote
from gasearch.errors import UsageError
from gasearch.run.config import run_settings
from gasearch.run.folder import RunFolder
from gasearch.run.sections import PromoteSection, RunFileError
from gasearch.search.check import check_run
from gasearch.search.session import Session
from gasearch.store.promotions import NewPromotion, PromotionRow, add_promotions, promotions


@pytest.fixture(scope="module")
def searched(tmp_path_factory, make_run):
    """A cell that holds x = 2/3, with a few candidates; to be copied."""
    search = {"x": ["1/2", "2/3"]}
    folder = make_run(
        tmp_path_factory.mktemp("run") / "long", supercell=(1, 3, 1), budget=40, search=search
    )
    Session(RunFolder(folder)).run()
    return folder


@pytest.fixture(scope="module")
def findings(searched):
    with RunFolder(searched).open_store() as store:
        yield Findings(store)


@pytest.fixture
def folder(searched, tmp_path):
    return RunFolder(shutil.copytree(searched, tmp_path / "run"))


def rule(folder, text):
    """Write a [promote] section into a run.toml."""
    with folder.run_file.open("a") as file:
        file.write(f"\n[promote]\n{text}\n")


def ranks(findings, x):
    rows = [row for row in findings.ranked() if row.x == pytest.approx(x)]
    return [row.id for row in sorted(rows, key=lambda row: row.energy_eV)]


def as_rows(plan, known=()):
    new = (PromotionRow(p.row.id, plan.level, p.rule, p.reason, 0.0) for p in plan.new)
    return [*known, *new]


class TestRule:
    def test_by_default_it_is_that_of_the_paper(self, findings, searched):
        plan = planned(findings, PromoteSection(), [], searched)
        found = {}
        for one in plan.new:
            found.setdefault((one.row.x, one.rule), []).append(one.row.id)
        half, thirds = ranks(findings, 1 / 2), ranks(findings, 2 / 3)
        assert min(len(half), len(thirds)) > 10
        assert found.pop((0.5, "lowest")) == half[:3]
        assert found.pop((0.5, "highest")) == half[:-4:-1]
        assert found.pop((2 / 3, "lowest")) == thirds[:3]
        assert found.pop((2 / 3, "of_interest")) == thirds[3:10]
        assert found.pop((2 / 3, "highest")) == thirds[:-4:-1]
        assert {x for x, _ in found} == {0, 1}
        assert not plan.notes

    def test_reasons_name_the_place_and_the_distance(self, findings, searched):
        plan = planned(findings, PromoteSection(lowest=2), [], searched)
        (second,) = [
            p for p in plan.new if p.rule == "lowest" and p.row.id == ranks(findings, 0.5)[1]
        ]
        energies = [row.energy_eV for row in findings.ranked() if row.x == 0.5]
        above = 1000 * (energies[1] - energies[0]) / 12
        n = len(energies)
        assert second.reason == (
            f"no. 2 of {n} from below at x = 0.5, {above:.1f} meV/f.u. above the lowest there"
        )
        assert all("\n" not in p.reason for p in plan.new)

    def test_what_the_cell_cannot_hold_is_of_no_interest(self, findings, searched):
        none = {"lowest": 0, "highest": 0}
        section = PromoteSection(of_interest=[0.123, "3/4"], **none)
        assert planned(findings, section, [], searched).new == ()
        section = PromoteSection(of_interest=["1/2"], more_of_interest=2, **none)
        ids = [p.row.id for p in planned(findings, section, [], searched).new]
        assert ids == ranks(findings, 0.5)[:2]

    def test_near_the_hull(self, findings, searched):
        none = {"lowest": 0, "highest": 0, "more_of_interest": 0}
        heights = sorted(row.above_hull_eV_per_fu for row in findings.ranked())
        section = PromoteSection(above_hull_per_fu=heights[6] + 1e-9, **none)
        plan = planned(findings, section, [], searched)
        assert sorted(p.row.above_hull_eV_per_fu for p in plan.new) == heights[:7]
        section = PromoteSection(nearest=5, **none)
        plan = planned(findings, section, [], searched)
        assert [p.row.above_hull_eV_per_fu for p in plan.new] == heights[:5]
        assert plan.new[4].reason.startswith("no. 5 from the hull, ")

    def test_most_is_a_limit_for_the_run(self, findings, searched):
        plan = planned(findings, PromoteSection(most=5), [], searched)
        assert len(plan.new) == 5
        assert {p.row.x for p in plan.new} == {0, 0.5, 2 / 3, 1}  # the lowest of each come first
        assert planned(findings, PromoteSection(most=5), as_rows(plan), searched).new == ()
        more = planned(findings, PromoteSection(most=7), as_rows(plan), searched)
        assert len(more.new) == 2

    def test_similar_ones_are_skipped_but_no_ground_state(self, findings, searched):
        plain = planned(findings, PromoteSection(), [], searched)
        plan = planned(findings, PromoteSection(diversity=1.2), [], searched)
        ids = [p.row.id for p in plan.new]
        assert {ranks(findings, x)[0] for x in (0, 1 / 2, 2 / 3, 1)} <= set(ids)
        assert ids != [p.row.id for p in plain.new]
        wide = planned(findings, PromoteSection(diversity=1e3), [], searched)
        assert len(wide.new) == 4

    @settings(max_examples=40, deadline=None)
    @given(
        st.builds(
            PromoteSection,
            lowest=st.integers(0, 4),
            highest=st.integers(0, 4),
            more_of_interest=st.integers(0, 8),
            nearest=st.integers(0, 9),
            above_hull_per_fu=st.sampled_from([0.0, 0.05, 0.2]),
            diversity=st.sampled_from([0.0, 0.0, 0.9, 1.3]),
            most=st.sampled_from([0, 0, 3, 12]),
        ),
        st.sets(st.integers(1, 40), max_size=6),
    )
    def test_whatever_the_rules_a_second_time_finds_nothing_new(
        self, findings, searched, section, before
    ):
        known = [PromotionRow(n, "made-up", "lowest", "", 0.0) for n in sorted(before)]
        first = planned(findings, section, known, searched)
        assert not {p.row.id for p in first.new} & before
        second = planned(findings, section, as_rows(first, known), searched)
        assert second.new == ()

    def test_only_valid_candidates(self, tmp_path, make_run):
        folder = RunFolder(make_run(tmp_path / "run", "./toy.py:Raising", budget=16))
        Session(folder).run()
        assert {p.row.x for p in promote(folder, dry_run=True).new} == {0, 0.25, 0.5, 1}

    def test_a_potential_that_only_ranks_promotes_by_composition(self, tmp_path, make_run):
        relax = {"fmax": 5.0, "smax": 5.0}
        folder = RunFolder(make_run(tmp_path / "run", "pmmcs", budget=8, relax=relax))
        Session(folder).run()
        plan = promote(folder, dry_run=True)
        assert plan.notes == (NO_HULL,)
        assert len(plan.new) == 8
        rule(folder, "lowest = 1\nhighest = 0\nnearest = 4")
        plan = promote(folder, dry_run=True)
        assert {p.rule for p in plan.new} == {"lowest"}
        assert "above_hull_per_fu and nearest do nothing" in plan.notes[1]


class TestReference:
    NONE = "lowest = 0\nhighest = 0\nmore_of_interest = 0\n"

    def write(self, folder, number, name, *, charges=True):
        with folder.open_store() as store:
            atoms = store.relaxed(number).atoms
        if not charges:
            atoms.set_initial_charges(None)
            atoms.set_initial_magnetic_moments(None)
        ase.io.write(folder.path / name, atoms)

    def test_a_structure_with_its_charges_is_that_candidate(self, folder, findings):
        number = ranks(findings, 2 / 3)[11]
        self.write(folder, number, "phase.extxyz")
        rule(folder, f'{self.NONE}reference = ["phase.extxyz"]')
        (one,) = promote(folder).new
        assert (one.row.id, one.rule) == (number, "reference")
        assert one.reason == "the reference structure phase.extxyz"

    def test_one_without_is_the_best_charge_order_of_its_ions(self, folder, findings):
        number = ranks(findings, 2 / 3)[11]
        self.write(folder, number, "phase.extxyz", charges=False)
        rule(folder, f'{self.NONE}reference = ["phase.extxyz"]')
        (one,) = promote(folder).new
        assert one.row.x == pytest.approx(2 / 3)
        assert one.row.energy_eV <= findings.chosen([number])[0].energy_eV

    def test_one_that_was_not_searched_is_told(self, folder, make_run, tmp_path):
        other = RunFolder(make_run(tmp_path / "o", supercell=(1, 3, 1), search={"x": ["5/6"]}))
        Session(other).run()
        with other.open_store() as store:
            (number, *_) = [r.candidate for r in store.evaluations() if 0 < r.x < 1]
            ase.io.write(folder.path / "five-sixths.extxyz", store.relaxed(number).atoms)
        rule(folder, f'{self.NONE}reference = ["five-sixths.extxyz"]')
        plan = promote(folder)
        assert plan.new == ()
        assert "the reference five-sixths.extxyz is no valid candidate" in plan.notes[0]

    def test_a_file_that_is_not_there_is_refused(self, folder):
        rule(folder, 'reference = ["nothing.cif"]')
        with pytest.raises(UsageError, match=r"promote\.reference: there is no structure file"):
            promote(folder)


class TestStored:
    def test_twice_is_once(self, folder):
        first = promote(folder)
        assert len(first.new) > 20
        with folder.open_store() as store:
            stored, n_events = promotions(store), len(store.events())
            told = store.events(kind="promoted")
        assert [(r.candidate, r.rule, r.reason) for r in stored] == [
            (p.row.id, p.rule, p.reason) for p in first.new
        ]
        assert [(e.candidate, e.data["rule"]) for e in told] == [
            (r.candidate, r.rule) for r in stored
        ]
        assert {r.level for r in stored} == {first.level}
        second = promote(folder)
        assert second.new == ()
        assert second.known == tuple(stored)
        with folder.open_store() as store:
            assert promotions(store) == stored
            assert len(store.events()) == n_events
        assert check_run(folder, replay=True, rejudge=True) == []

    def test_a_dry_run_writes_nothing(self, folder):
        digest = hashlib.sha256(folder.database.read_bytes()).hexdigest()
        assert promote(folder, dry_run=True).new
        assert hashlib.sha256(folder.database.read_bytes()).hexdigest() == digest
        with folder.open_store() as store:
            assert promotions(store) == []

    def test_a_search_goes_on_as_if_nobody_was_promoted_and_what_it_finds_is(
        self, folder, searched, tmp_path
    ):
        plain = RunFolder(shutil.copytree(searched, tmp_path / "plain"))
        promote(folder)
        found = []
        for run in (folder, plain):
            text = run.run_file.read_text()
            run.run_file.write_text(text.replace('"budget" = 40', '"budget" = 52'))
            Session(run).run()
            with run.open_store() as store:
                found.append([p.fingerprint for p in store.proposals()])
        assert found[0] == found[1]
        with folder.open_store() as store:
            findings = Findings(store)
            expected = {n for x in (0.5, 2 / 3) for n in ranks(findings, x)[:3]}
            known = {row.candidate for row in promotions(store)}
        new = {p.row.id for p in promote(folder).new if p.rule == "lowest"}
        assert new == expected - known
        assert new
        assert promote(folder).new == ()

    def test_the_store_refuses_to_write_one_twice(self, folder):
        new = [NewPromotion(1, "lowest", "because"), NewPromotion(2, "lowest", "because")]
        with folder.open_store(read_only=False) as store:
            assert add_promotions(store, new) == 2
            assert add_promotions(store, [*new, NewPromotion(1, "highest", "too")]) == 1
            assert add_promotions(store, []) == 0
            found = [(r.candidate, r.rule, r.level) for r in promotions(store)]
            assert found == [(n, r, store.level.name) for n, r in [(1, "lowest"), (2, "lowest"),
                                                                   (1, "highest")]]  # fmt: skip
            assert np.isfinite([r.promoted_s for r in promotions(store)]).all()


class TestSettings:
    HOST = (
        '[host]\nstructure = "nafepo4-olivine"\nsupercell = [1, 1, 1]\n[potential]\nname = "pmmcs"'
    )

    def read(self, text):
        return run_settings(tomllib.loads(f"{self.HOST}\n[promote]\n{text}"), "run.toml")

    def test_all_of_it_may_change_at_any_time(self):
        settings = self.read("lowest = 5")
        assert settings.promote.lowest == 5
        keys = {f"promote.{name}" for name in PromoteSection.model_fields}
        assert keys <= settings.operational().keys()
        assert not keys & settings.defining().keys()

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("lowset = 3", "unknown key 'promote.lowset' (did you mean 'lowest'?)"),
            ("lowest = -1", "promote.lowest = -1: it should be greater than or equal to 0"),
            ("lowest = 2.5", "promote.lowest = 2.5: it should be a whole number"),
            ("of_interest = '2/3'", "promote.of_interest = '2/3': expected a list of filled"),
            ("of_interest = ['2/0']", 'expected a list of filled shares, such as [0.75, "2/3"]'),
            ("of_interest = [1.5]", "expected a list of filled shares"),
            ("diversity = nan", "promote.diversity = nan: it should be"),
        ],
    )
    def test_what_it_may_not_say_is_one_line(self, text, line):
        with pytest.raises(RunFileError) as refused:
            self.read(text)
        assert line in str(refused.value)
        assert "\n" not in str(refused.value)
