"""What `gasearch hosts` shows: the built-in hosts, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from gasearch.crystal.declaration import Sublattice
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import BUILTIN_HOSTS
from gasearch.display.tables import make_table

_TEXTS = ("name", "formula", "space group", "sites", "source")


def hosts_document() -> list[dict[str, Any]]:
    """Return all built-in hosts as `gasearch hosts --json` prints them."""
    return [
        _host_document(Host.build(host(), (1, 1, 1)), host.source)
        for host in BUILTIN_HOSTS.values()
    ]


def _host_document(host: Host, source: str) -> dict[str, Any]:
    declared = host.declaration
    return {
        "name": declared.name,
        "formula": declared.formula_unit,
        "space_group": host.space_group.symbol,
        "n_atoms": len(host.atoms),
        "n_formula_units": host.n_formula_units,
        "sublattices": [_sublattice_document(sublattice) for sublattice in host.sublattices],
        "x_range": list(host.x_range) if host.has_axis else None,
        "source": source,
        "note": declared.note,
    }


def _sublattice_document(sublattice: Sublattice) -> dict[str, Any]:
    return {
        "kind": sublattice.kind,
        "n_sites": len(sublattice),
        "species": [str(species) for species in sublattice.species],
    }


def hosts_table(hosts: Iterable[Mapping[str, Any]]) -> Table:
    """Return the built-in hosts of `hosts_document`; sites are those of the unit cell."""
    rows = []
    for host in hosts:
        sites = "; ".join(
            f"{own['n_sites']} {'/'.join(own['species'])}" for own in host["sublattices"]
        )
        x_range = "-" if host["x_range"] is None else "{:.4g} to {:.4g}".format(*host["x_range"])
        group = host["space_group"]
        rows.append((host["name"], host["formula"], group, sites, x_range, host["source"]))
    names = ("name", "formula", "space group", "sites", "x", "source")
    return make_table(names, rows, _TEXTS)
