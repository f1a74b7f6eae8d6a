"""Screened proposals: what is chosen, what is finished, and that it all follows from the record."""

from collections import Counter

import numpy as np
import pytest
from searching import decoration_of, search

from gasearch.crystal.decoration import Decoration
from gasearch.operators.contract import default_operators
from gasearch.run.sections import ScreeningSection, SearchSection
from gasearch.search.history import SearchHistory
from gasearch.search.proposer import ProposalSettings, Proposer
from gasearch.search.replay import differences, restore
from gasearch.search.screening.enumerated import covered, is_their_turn
from gasearch.search.screening.exchanges import descend, exchanges
from gasearch.search.screening.operator_rates import OperatorRates
from gasearch.search.surrogate.coulomb import CoulombEnergy
from gasearch.search.surrogate.features import Features
from gasearch.search.surrogate.fitting import is_refit
from gasearch.search.visibility import Immediate, Lagged
from gasearch.seeding import named_rng


class Law:
    """Energies of decorations: a random linear law of all features but the Coulomb energy, a bow
    over x, and a little that no feature knows."""

    def __init__(self, host, seed=0, noise=0.002, depth=0.2):
        self.host = host
        self.features = Features(host, host.compositions)
        rng = named_rng(seed, "law")
        scale = np.array([group != "coulomb" for group in self.features.groups])
        self.weights = 0.02 * scale * rng.normal(size=len(self.features))
        self.noise, self.depth = noise, depth

    def __call__(self, decoration):
        row = self.features(decoration.occupation[None], decoration.composition)
        x = decoration.x
        random = float(named_rng(0, decoration.fingerprint).normal())
        per_fu = -30 - 3 * x - 4 * self.depth * x * (1 - x) + float(row[0] @ self.weights)
        return (per_fu + self.noise * random) * self.host.n_formula_units

    def lowest(self, composition):
        occupations = np.concatenate([c for c, _ in self.host.enumerate_distinct(composition)])
        found = [Decoration(self.host, occupation) for occupation in occupations]
        return min(found, key=self).fingerprint


def proposer_of(
    host, compositions=None, seed=1, ends=True, initial=12, seeds=(), hull_aware=True, **screening
):
    settings = ProposalSettings(
        SearchSection(seed=seed, initial=initial),
        ScreeningSection(**screening),
        coulomb=True,
        end_members=ends,
        hull_aware=hull_aware,
    )
    wanted = compositions or host.compositions
    return Proposer(host, default_operators(), wanted, settings, seeds)


def test_exchanges_are_all_swaps_within_a_sublattice(medium):
    decoration = Decoration.random(medium, medium.composition_at(0.75), np.random.default_rng(1))
    around = exchanges(medium, decoration.occupation)
    assert len(around) == 6 * 2 + 6 * 2
    assert len(np.unique(around, axis=0)) == len(around)
    for occupation in around:
        changed = np.flatnonzero(occupation != decoration.occupation)
        assert len(changed) == 2
        assert any(
            set(changed) <= set(range(s.start, s.start + len(s))) for s in medium.sublattices
        )
        assert Decoration(medium, occupation).composition == decoration.composition


def test_where_all_sites_are_alike_there_is_nothing_to_exchange(medium):
    full = Decoration.random(medium, medium.compositions[-1], np.random.default_rng(1))
    assert exchanges(medium, full.occupation).shape == (0, medium.n_sites)


def test_a_descent_ends_where_no_exchange_is_lower(medium):
    energy, rng = CoulombEnergy(medium), np.random.default_rng(2)
    start = medium.random_occupation(medium.composition_at(0.5), rng)
    path = descend(medium, energy, start, rng, steps=50, neighbours=10**6)
    values = [float(energy(step).min()) for step in path]
    assert values[-1] >= values[-2] == min(values) < values[0]


def test_coverage_gives_small_compositions_what_they_need_and_the_rest_to_larger_ones(medium):
    history = SearchHistory(medium, medium.compositions, 20)
    sizes = {c.x: medium.n_distinct(c) for c in medium.compositions}
    assert {c.x for c in covered(history, medium.compositions, sum(sizes.values()))} == set(sizes)
    assert sizes[0.125] == 4
    found = covered(history, medium.compositions, 40)
    assert {c.x: n for c, n in found.items()} == {0.0: 1, 1.0: 1, 0.125: 4, 0.875: 4}
    assert covered(history, medium.compositions, 8) == {}  # less than one for each
    assert {c.x for c in covered(history, medium.compositions, 9)} == {0.0, 1.0}


def test_what_is_covered_is_certain_once_it_needs_all_that_remains():
    rng = np.random.default_rng(0)
    assert all(is_their_turn(7, 7, rng) for _ in range(1000))
    assert not any(is_their_turn(0, 7, rng) for _ in range(1000))
    assert 0.4 < np.mean([is_their_turn(5, 10, rng) for _ in range(4000)]) < 0.6


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_covered_compositions_are_finished_when_the_budget_is(medium, seed):
    law = Law(medium, seed)
    proposals, _ = search(proposer_of(medium, seed=seed), law, 60, 60)
    seen = Counter(p.x for p in proposals)
    assert len(proposals) == 60
    for x in (0.125, 0.875):
        assert seen[x] == medium.n_distinct(medium.composition_at(x))
    assert all(0 < seen[x] < 64 for x in (0.25, 0.75))


def test_a_budget_that_covers_everything_searches_everything(small):
    proposals, _ = search(proposer_of(small, initial=4), Law(small), 50, 16)
    expected = {f for c in small.compositions for f in small.fingerprints(c)}
    assert {p.fingerprint for p in proposals} == expected
    assert len(proposals) == 16


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_ground_states_are_found_with_few_evaluations(medium, seed):
    """344 distinct decorations: at random, half of them or more would be needed."""
    composition = medium.composition_at(0.5)
    law = Law(medium, seed)
    proposer = proposer_of(medium, [composition], seed, ends=False)
    proposals, _ = search(proposer, law, 70)
    assert law.lowest(composition) in {p.fingerprint for p in proposals}


def test_a_composition_that_cannot_be_listed_is_searched_down_the_slopes_of_the_model(large):
    composition = large.composition_at("2/3")
    law = Law(large)
    proposer = proposer_of(large, [composition], ends=False, pool=60)
    proposals, _ = search(proposer, law, 45)
    energies = [law(decoration_of(large, p)) for p in proposals]
    assert min(energies[12:]) < min(energies[:12]) - 0.02 * large.n_formula_units
    assert {p.operator for p in proposals[12:]} & {"surrogate_descent"}
    assert len({p.fingerprint for p in proposals}) == 45


def test_energies_without_any_law_leave_the_search_to_the_operators(medium):
    nothing = lambda d: float(named_rng(7, d.fingerprint).normal())  # noqa: E731
    proposals, _ = search(proposer_of(medium, adaptive=False), nothing, 120)
    screened = [p.operator for p in proposals].count("screened")
    assert screened < 40


RULES = {
    "immediate": (Immediate, 0),
    "many at once": (Immediate, 5),
    "lagged": (lambda: Lagged(slots=3, long_calls=100), 0),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_search_goes_on_after_restoring_as_if_it_had_never_stopped(medium, rule):
    make, lag = RULES[rule]
    law, n, budget = Law(medium), 70, 70
    fails = lambda k: "unconverged" if k % 11 == 0 else "ok"  # noqa: E731
    unbroken, outcomes = search(proposer_of(medium), law, n, budget, make(), verdict=fails, lag=lag)
    assert {"coulomb", "screened", "neighbour"} <= {p.operator for p in unbroken}
    for stop in range(3, n - 1, 9):
        proposer, visibility = proposer_of(medium), make()
        known = [o for o in outcomes if o.result <= unbroken[stop].known or rule == "lagged"]
        restore(proposer, visibility, unbroken[:stop], known)
        k = stop + 1
        for outcome in visibility.release(k, unbroken[stop].known):
            proposer.add_outcome(outcome)
        again = proposer.propose(k, budget)
        assert again == unbroken[stop]
        assert again.details == unbroken[stop].details


def test_the_record_replays_and_another_budget_in_it_does_not(medium):
    law = Law(medium)
    proposals, outcomes = search(proposer_of(medium), law, 60, 60)
    assert list(differences(proposer_of(medium), Immediate(), proposals, outcomes)) == []
    other = [type(p)(**{**vars(p), "budget": 2000}) for p in proposals]
    assert list(differences(proposer_of(medium), Immediate(), other, outcomes))


def test_a_larger_budget_changes_what_follows_and_nothing_before(medium):
    law = Law(medium)
    first, outcomes = search(proposer_of(medium), law, 40, 40)
    proposer, visibility = proposer_of(medium), Immediate()
    restore(proposer, visibility, first, outcomes)
    for outcome in visibility.release(41):
        proposer.add_outcome(outcome)
    following = proposer.propose(41, 400)
    record = [*first, following]
    assert list(differences(proposer_of(medium), Immediate(), record, outcomes)) == []


def test_what_is_under_way_is_taken_as_predicted_and_makes_its_surroundings_surer(medium):
    composition = medium.composition_at(0.5)
    law = Law(medium)
    proposer = proposer_of(medium, [composition], ends=False, unscreened=0.0)
    _, outcomes = search(proposer, law, 40)
    proposer.add_outcome(outcomes[-1])
    chosen = [decoration_of(medium, proposer.propose(k)) for k in range(41, 49)]
    assert len({d.fingerprint for d in chosen}) == 8
    schedule = proposer.schedule
    rows = schedule.features(np.array([d.occupation for d in chosen]), composition)
    mean, before = schedule.fitted.predict(rows, 0)
    expected, after = schedule.surrogate.predict(rows, 0)
    assert expected == pytest.approx(mean)
    assert np.all(after < 0.9 * before)


def test_at_the_end_every_neighbour_of_a_hull_member_is_evaluated_or_left_out(medium):
    law = Law(medium, depth=0.5)
    proposer = proposer_of(medium, refine=0.5)
    proposals, outcomes = search(proposer, law, 150, 150)
    for outcome in outcomes[len(proposer.history.ended) :]:
        proposer.add_outcome(outcome)
    seen = {p.fingerprint for p in proposals}
    report = proposer.hull_refinement.report()
    hull = {entry["x"] for entry in report}
    assert {0.0, 1.0} < hull
    for entry in report:
        assert entry["neighbours"] == entry["evaluated"] + entry["screened_out"] + entry["open"]
        assert entry["open"] == 0
        if entry["screened_out"]:
            assert entry["nearest_margin_eV_per_fu"] > 0
            assert entry["nearest_margin_sigmas"] > 2
        member = proposer.history.candidates[entry["candidate"]]
        occupation = np.frombuffer(member.occupation, dtype=np.uint8)
        around = {Decoration(medium, o).fingerprint for o in exchanges(medium, occupation)}
        around.discard(member.fingerprint)
        assert entry["neighbours"] == len(around)
        assert entry["evaluated"] == len(around & seen)


def test_a_stagnant_search_looks_around_before_it_ends(medium):
    law = Law(medium)
    proposer = proposer_of(medium)
    proposals, outcomes = search(proposer, law, 60)
    proposer.add_outcome(outcomes[-1])
    around = proposer.propose_neighbour(61)
    assert around.operator == "neighbour"
    (parent,) = around.parents
    member = np.frombuffer(proposals[parent - 1].occupation, dtype=np.uint8)
    reached = {Decoration(medium, o).fingerprint for o in exchanges(medium, member)}
    assert around.fingerprint in reached


def test_seeds_come_after_the_ends_and_before_all_else(medium):
    rng = np.random.default_rng(4)
    wanted = [Decoration.random(medium, medium.composition_at(x), rng) for x in (0.5, 0.25)]
    seeds = [d.occupation.tobytes() for d in wanted]
    law = Law(medium)
    proposals, outcomes = search(proposer_of(medium, seeds=seeds), law, 30)
    assert [p.operator for p in proposals[:5]] == ["end_member"] * 2 + ["seed"] * 2 + ["coulomb"]
    assert [p.fingerprint for p in proposals[2:4]] == [d.fingerprint for d in wanted]
    again = differences(proposer_of(medium, seeds=seeds), Immediate(), proposals, outcomes)
    assert list(again) == []


def test_the_first_coulomb_start_is_the_lowest_of_all(medium):
    composition = medium.composition_at(0.5)
    proposal = proposer_of(medium, [composition], ends=False).propose(1)
    energy = CoulombEnergy(medium)
    whole = np.concatenate([c for c, _ in medium.enumerate_distinct(composition)])
    assert proposal.operator == "coulomb"
    found = energy(decoration_of(medium, proposal).occupation[None])[0]
    assert found == pytest.approx(energy(whole).min())


def test_operators_that_improve_niches_are_drawn_more_often_but_none_is_given_up():
    operators = default_operators()
    names = [operator.name for operator in operators]
    weights = np.array([operator.weight for operator in operators])
    rates = OperatorRates(operators, adaptive=True)
    before = rates.rates
    assert list(before.values()) == pytest.approx(weights / weights.sum(), abs=1e-3)
    for _ in range(60):
        rates.add(names[0], 0)
        for name in names[1:]:
            rates.add(name, None)
    after = rates.rates
    assert after[names[0]] > 2 * before[names[0]]
    assert all(after[name] > 0.15 * before[name] for name in names[1:])
    assert sum(after.values()) == pytest.approx(1, abs=1e-3)


def test_rates_are_recorded_with_each_child(medium):
    proposals, _ = search(proposer_of(medium), Law(medium), 60)
    children = [p for p in proposals if p.parents]
    assert children
    for child in children:
        assert child.details["rates"].keys() == proposer_of(medium).operator_rates.keys()


def test_refits_come_at_fixed_numbers_and_ever_more_rarely():
    numbers = [k for k in range(1, 6001) if is_refit(k)]
    assert numbers[:200] == list(range(1, 201))
    gaps = np.diff(numbers)
    assert gaps.max() <= 120
    assert 400 < len(numbers) < 900
