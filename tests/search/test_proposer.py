"""Proposals as a pure function of seed, number and known results; restoring and replay of them."""

import dataclasses
from collections import Counter

import pytest
import searching

from gasearch.errors import UsageError
from gasearch.operators.contract import default_operators
from gasearch.run.sections import SearchSection
from gasearch.search.proposer import ProposalSettings, Proposer
from gasearch.search.replay import differences, restore
from gasearch.search.visibility import Immediate, Lagged
from gasearch.seeding import named_rng
from gasearch.store.records import Outcome


def proposer_of(host, seed=1, compositions=None, ends=True, **settings):
    return Proposer(
        host,
        default_operators(),
        compositions or host.compositions,
        ProposalSettings(SearchSection(seed=seed, **settings), end_members=ends),
    )


def energy_of(decoration):
    return float(named_rng(7, decoration.fingerprint).normal())


def search(proposer, number, visibility=None, **keywords):
    return searching.search(proposer, energy_of, number, visibility=visibility, **keywords)


def test_the_ends_of_the_range_come_first(medium):
    proposals, _ = search(proposer_of(medium), 5)
    assert [(p.x, p.operator) for p in proposals[:2]] == [(0.0, "end_member"), (1.0, "end_member")]
    assert {p.operator for p in proposals[2:]} == {"random"}


def test_a_small_space_is_searched_to_the_last_decoration_and_nothing_is_proposed_twice(small):
    proposals, _ = search(proposer_of(small, initial=4), 100)
    assert len(proposals) == 16
    assert len({p.fingerprint for p in proposals}) == 16
    expected = {f for c in small.compositions for f in small.fingerprints(c)}
    assert {p.fingerprint for p in proposals} == expected


def test_the_same_seed_proposes_the_same_and_another_seed_does_not(medium):
    first, _ = search(proposer_of(medium), 60)
    again, _ = search(proposer_of(medium), 60)
    other, _ = search(proposer_of(medium, seed=2), 60)
    assert first == again
    assert [p.fingerprint for p in first] != [p.fingerprint for p in other]


def test_operators_take_over_after_the_random_start_and_name_their_parents(medium):
    proposals, _ = search(proposer_of(medium, initial=10), 80)
    later = proposals[12:]
    assert {p.operator for p in proposals[:12]} == {"end_member", "random"}
    assert sum(p.operator != "random" for p in later) > 50
    for proposal in later:
        if proposal.operator != "random":
            assert proposal.parents
            assert all(parent < proposal.number for parent in proposal.parents)
            parents = [proposals[parent - 1] for parent in proposal.parents]
            assert proposal.generation == 1 + max(p.generation for p in parents)


def test_the_random_start_visits_all_compositions_in_turn(medium):
    proposals, _ = search(proposer_of(medium, initial=18), 20)
    visits = Counter(p.x for p in proposals)
    assert sorted(visits) == [c.x for c in medium.compositions]
    assert {n for x, n in visits.items() if 0 < x < 1} <= {2, 3}


def test_only_results_with_verdict_ok_become_parents(medium):
    proposals, _ = search(
        proposer_of(medium, initial=8), 80, verdict=lambda k: "ok" if k % 3 else "unconverged"
    )
    parents = {parent for p in proposals for parent in p.parents}
    assert parents
    assert all(parent % 3 for parent in parents)


def test_a_search_at_one_composition_stays_there_but_for_the_ends(medium):
    wanted = medium.composition_at(0.25)
    proposals, _ = search(proposer_of(medium, compositions=[wanted], initial=5), 40)
    assert {p.composition for p in proposals[2:]} == {wanted.formula}


def test_rejected_draws_are_counted(small):
    proposals, _ = search(proposer_of(small, initial=4), 16)
    assert sum(p.n_rejected for p in proposals) > 0


def test_stagnation_counts_results_since_the_last_improvement(medium):
    proposer = proposer_of(medium)
    for k in range(1, 31):
        formula = proposer.propose(k).composition
        proposer.add_outcome(Outcome(k, k, formula, float(k), "ok", 1))
    n_niches = len(proposer.history.population.compositions())
    assert n_niches == 9
    assert not proposer.is_stagnant(0)
    assert proposer.is_stagnant(proposer.history.n_results - proposer.history.last_improvement)
    assert not proposer.is_stagnant(
        proposer.history.n_results - proposer.history.last_improvement + 1
    )


RULES = {
    "immediate": (Immediate, 50),
    "lagged": (lambda: Lagged(slots=3, long_calls=100), 50),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_search_goes_on_after_restoring_as_if_it_had_never_stopped(medium, rule):
    make, number = RULES[rule]
    calls = lambda k: 300 if k % 7 == 0 else 20  # noqa: E731
    unbroken, outcomes = search(proposer_of(medium, initial=8), number, make(), n_calls=calls)
    for stop in range(1, number, 3):
        proposer, visibility = proposer_of(medium, initial=8), make()
        restore(proposer, visibility, unbroken[:stop], outcomes[:stop])
        for outcome in visibility.release(stop + 1):
            proposer.add_outcome(outcome)
        assert proposer.propose(stop + 1) == unbroken[stop]


@pytest.mark.parametrize("rule", RULES)
def test_replay_finds_no_difference_in_a_true_record(medium, rule):
    make, number = RULES[rule]
    proposals, outcomes = search(proposer_of(medium, initial=8), number, make())
    assert list(differences(proposer_of(medium, initial=8), make(), proposals, outcomes)) == []


def test_replay_names_the_first_candidate_that_does_not_follow_from_the_record(medium):
    proposals, outcomes = search(proposer_of(medium, initial=8), 40)
    forged = list(outcomes)
    worst = max(range(2, 12), key=lambda n: outcomes[n].energy)
    forged[worst] = dataclasses.replace(forged[worst], energy=-1e6)
    found = list(differences(proposer_of(medium, initial=8), Immediate(), proposals, forged))
    assert len(found) == 1
    number = int(found[0].split()[1])
    assert number > worst
    assert "but follows as" in found[0]


def test_replay_notices_results_that_were_not_known_at_the_time(medium):
    proposals, outcomes = search(proposer_of(medium, initial=8), 40)
    early = [dataclasses.replace(p, known=max(0, p.known - 5)) for p in proposals]
    assert list(differences(proposer_of(medium, initial=8), Immediate(), early, outcomes))


def test_a_nearly_exhausted_composition_is_completed_without_endless_drawing(medium):
    wanted = medium.composition_at(0.75)
    proposer = proposer_of(medium, compositions=[wanted], initial=1000, max_draws=3)
    found = [proposer.propose(k) for k in range(1, 67)]
    assert len({p.fingerprint for p in found}) == 66
    assert proposer.propose(67) is None
    assert max(p.n_rejected for p in found) <= 3


def test_random_numbers_belong_to_the_candidate_not_to_the_draws_before_it(medium):
    straight = proposer_of(medium)
    proposals = [straight.propose(k) for k in range(1, 11)]
    skipping = proposer_of(medium)
    for p in proposals[:9]:
        skipping.register(p)
    assert skipping.propose(10) == proposals[9]


def test_operators_that_can_do_nothing_here_are_left_out(medium):
    everywhere = proposer_of(medium).operator_rates
    one_x = proposer_of(medium, compositions=[medium.composition_at(0.5)], ends=False)
    names = set(everywhere)
    assert "redox_element_swap" not in names
    assert "insert_extract" in names
    assert names - set(one_x.operator_rates) == {"insert_extract"}


def test_a_search_without_any_useful_operator_is_refused(medium):
    elements = [o for o in default_operators() if o.name == "redox_element_swap"]
    with pytest.raises(UsageError, match="redox_element_swap can do anything"):
        Proposer(medium, elements, medium.compositions)
