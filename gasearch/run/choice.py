"""Which potential a new run gets, and with which hold: one that can run its host."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gasearch.crystal.declaration import HostDeclaration
from gasearch.crystal.host import Host
from gasearch.crystal.species import Species
from gasearch.errors import UsageError
from gasearch.potentials.networks.architectures import foreign_name
from gasearch.potentials.networks.surroundings import USUAL, Surroundings
from gasearch.potentials.shipped import DEFAULT, MODELS, UNIVERSAL, shipped_names

RIGID_ION = "pmmcs"
_SAME = 1e-6  # e


@dataclass(frozen=True)
class Choice:
    """A potential for a new run.

    Parameters
    ----------
    name
        As run.toml names it.
    settings
        What run.toml says beside its name, by key.
    note
        What a user should know, in one line, or "".
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def species_of_declaration(declaration: HostDeclaration) -> frozenset[Species]:
    """Return all species that a host may hold."""
    mobile = (species for declared in declaration.sublattices for species in declared.species)
    filled = (species for species in mobile if not species.is_vacancy)
    return frozenset(filled) | frozenset(declaration.framework.values())


def default_choice(host: Host) -> Choice:
    """Return the potential of a run that names none.

    The shipped CHGNet that was trained on such crystals; else CHGNet with a hold; where nothing can
    be held, the rigid-ion potential if it knows the species, for it tells charge orders apart; else
    CHGNet, blind to them.
    """
    declaration = host.declaration
    species = species_of_declaration(declaration)
    note = ""
    for name in (name for name in shipped_names() if name.startswith(f"{UNIVERSAL}-")):
        if not _knows(name, species):
            continue
        distance = _distance(name, declaration)
        if distance <= USUAL:
            return Choice(name)
        note = (
            f"{name} knows these species, but was trained on another crystal (what surrounds "
            f"the atoms differs by {distance:.2f}, where {USUAL:g} is usual): not taken"
        )
    problem = why_not_held(host)
    if not problem:
        return Choice(UNIVERSAL, {"potential.hold": "auto"}, note)
    if not host.has_charge_order:
        return Choice(UNIVERSAL, {}, note)
    if _knows(RIGID_ION, species):
        reason = f"a charge order cannot be held with CHGNet here ({problem})"
        return Choice(RIGID_ION, {}, "; ".join(filter(None, [note, reason])))
    reason = (
        f"a charge order cannot be held with CHGNet here ({problem}), so that it goes by elements "
        "alone: energies of charge orders are all alike"
    )
    settings = {"potential.allow_charge_blind": True}
    return Choice(UNIVERSAL, settings, "; ".join(filter(None, [note, reason])))


def named_choice(potential: str, host: Host) -> Choice:
    """Return a potential that the user names, as it can run a host.

    Raises
    ------
    UsageError
        Where it does not know a species of the host.
    """
    species = species_of_declaration(host.declaration)
    known = known_species(potential)
    unknown = sorted(str(one) for one in species if known is not None and str(one) not in known)
    if unknown and known is not None:
        raise UsageError(
            f"potential {potential!r} does not know {', '.join(unknown)} of this host; it knows "
            f"{', '.join(sorted(known))}. Take another one, or leave --potential out."
        )
    distance = _distance(potential, host.declaration)
    note = ""
    if distance > USUAL:
        note = (
            f"{potential} was trained on another crystal: what surrounds the atoms differs by "
            f"{distance:.2f}, where {USUAL:g} is usual, and its energies are not to be trusted"
        )
    if potential != UNIVERSAL and not foreign_name(potential):
        return Choice(potential, {}, note)
    problem = why_not_held(host)
    if not problem:
        return Choice(potential, {"potential.hold": "auto"}, note)
    if not host.has_charge_order:
        return Choice(potential, {}, note)
    told = f"no charge order can be held here ({problem}): it goes by elements alone"
    return Choice(potential, {"potential.allow_charge_blind": True}, told)


def known_species(potential: str) -> frozenset[str] | None:
    """Return the species that a potential was made for; None where nothing is said of them."""
    if potential == RIGID_ION:
        from gasearch.potentials.pmmcs import PARAMETERS

        return frozenset(PARAMETERS)
    domain = _domain(potential)
    return frozenset(domain["species"]) if domain else None


def why_not_held(host: Host) -> str:
    """Return why no hold can keep the charge order of a host, as calibrating one would find; or "".

    What only a measurement tells (states that look alike) is told when the search starts.
    """
    if not host.is_neutral:
        return "charges are delocalised"
    states = host.species_by_element
    if not states:
        return "no element has two oxidation states"
    for element, species in states.items():
        if len({one.charge for one in species}) < len(species):
            return f"{element} has several spin states in one oxidation state"
    return ""


def _knows(potential: str, species: Iterable[Species]) -> bool:
    known = known_species(potential)
    return known is None or {str(one) for one in species} <= known


def _distance(potential: str, declaration: HostDeclaration) -> float:
    """Return how far the crystal of a host lies from those that a model was trained on."""
    domain = _domain(potential)
    if not domain or "surroundings" not in domain:
        return 0.0
    return Surroundings.from_json(domain["surroundings"]).distance(declaration.unit_cell)


def _domain(potential: str) -> dict[str, Any]:
    """Return the training domain of a shipped model, or of a model folder; {} without one."""
    name = DEFAULT if potential == "default" else potential
    file = (MODELS / name if name in shipped_names() else Path(name)) / "model.json"
    try:
        document = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return (document.get("domain") or {}) if isinstance(document, dict) else {}
