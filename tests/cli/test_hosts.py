"""`gasearch hosts`, as its user meets it."""

from command_line import run_here as gasearch

from gasearch.crystal.io.builtin import BUILTIN_HOSTS


def test_all_built_in_hosts_are_listed_with_their_sources():
    document = gasearch("hosts", "--json").json
    assert [host["name"] for host in document] == list(BUILTIN_HOSTS)
    out = " ".join(gasearch("hosts").out.split())
    for host in document:
        assert host["name"] in out
        assert host["source"] == BUILTIN_HOSTS[host["name"]].source


def test_a_host_shows_what_it_may_hold():
    (maricite,) = (
        host for host in gasearch("hosts", "--json").json if host["name"] == "nafepo4-maricite"
    )
    assert (maricite["formula"], maricite["space_group"]) == ("NaFePO4", "Pnma (62)")
    assert maricite["x_range"] == [0, 1]
    assert [(own["n_sites"], own["species"]) for own in maricite["sublattices"]] == [
        (4, ["Na+", "vacancy"]),
        (4, ["Fe2+", "Fe3+"]),
    ]
