"""The exchange of spin states: charges and elements stay, and other hosts know nothing of it."""

import numpy as np
import pytest

from gasearch.crystal.decoration import Decoration
from gasearch.errors import DecorationError, UsageError
from gasearch.operators.contract import WeightedOperator, default_operators
from gasearch.testing import check_operator, toy_host
from gasearch_operators.spins import SpinFlip


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def spins_of(decoration):
    return [species.spin for species in decoration.species()]


def ions_of(decoration):
    return [species.ion for species in decoration.species()]


def test_it_keeps_the_contract_of_operators():
    check_operator(SpinFlip())
    check_operator(SpinFlip(exchange=1.0), toy_host(spins=True))


def test_charges_and_elements_stay_on_their_sites(rng):
    host = toy_host(spins=True)
    seen = set()
    for _ in range(200):
        parent = Decoration.random(host, host.composition_at("3/4"), rng)
        child = SpinFlip()([parent], rng)
        assert child is not None
        assert ions_of(child) == ions_of(parent)
        before, after = spins_of(parent), spins_of(child)
        n_changed = sum(one != other for one, other in zip(before, after, strict=True))
        n_more = after.count("ls") - before.count("ls")
        assert (n_changed, abs(n_more)) in {(1, 1), (2, 0)}
        seen.add(n_more)
    assert seen == {-1, 0, 1}


def test_an_exchange_keeps_the_number_of_each_state(rng):
    host = toy_host(spins=True)
    digits = [0] * 4 + [0, 0, 1, 1]  # Na everywhere; two Fe2+ of either spin
    parent = Decoration(host, digits)
    for _ in range(50):
        child = SpinFlip(exchange=1.0)([parent], rng)
        assert sorted(spins_of(child)) == sorted(spins_of(parent))
        assert np.count_nonzero(child.occupation != parent.occupation) == 2


def test_it_has_nothing_to_do_where_no_ion_has_two_states(rng):
    for host in (toy_host(), toy_host(mixed=True)):
        parent = Decoration.random(host, host.composition_at("1/2"), rng)
        state = rng.bit_generator.state
        assert SpinFlip()([parent], rng) is None
        assert rng.bit_generator.state == state
        assert not SpinFlip().applies_to(host)
    oxidised = toy_host(spins=True)
    assert SpinFlip()([Decoration.random(oxidised, oxidised.compositions[0], rng)], rng) is None


def test_searches_on_hosts_without_spin_states_do_not_record_it(monkeypatch):
    operators = (*default_operators(), WeightedOperator("other_flip", SpinFlip(), 1.0))
    monkeypatch.setattr("gasearch.operators.contract.load_operators", lambda *_: operators)
    names = {name: [o.name for o in default_operators(host)] for name, host in (
        ("plain", toy_host()), ("spins", toy_host(spins=True)),
    )}  # fmt: skip
    assert "other_flip" not in names["plain"]
    assert "redox_element_swap" in names["plain"]
    assert "other_flip" in names["spins"]


def test_a_share_out_of_range_is_refused():
    with pytest.raises(UsageError, match=r"exchange = 1\.5: expected a share"):
        SpinFlip(exchange=1.5)


def test_atoms_keep_both_spin_states(rng):
    host = toy_host(spins=True)
    for composition in host.compositions:
        decoration = Decoration.random(host, composition, rng)
        assert Decoration.from_atoms(host, decoration.to_atoms()) == decoration


def test_without_moments_two_spin_states_of_an_ion_cannot_be_told(rng):
    host = toy_host(spins=True)
    atoms = Decoration.random(host, host.compositions[-1], rng).to_atoms()
    atoms.set_initial_magnetic_moments(None)
    with pytest.raises(DecorationError, match=r"may be Fe2\+ or Fe2\+ ls.*set initial_magmoms"):
        Decoration.from_atoms(host, atoms)


def test_computed_moments_tell_spin_states_of_a_host_that_has_both(rng):
    host = toy_host(spins=True)
    decoration = Decoration.random(host, host.composition_at("1/2"), rng)
    atoms = decoration.to_atoms()
    atoms.set_initial_magnetic_moments(-0.9 * atoms.get_initial_magnetic_moments() + 0.1)
    assert Decoration.from_atoms(host, atoms) == decoration
