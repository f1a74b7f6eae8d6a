"""Where the weights of a MACE come from: a `.model` file, of mace's trainer or a foundation model.

Such a file is a pickle. It is opened once, for its weights; what computes afterwards is a
`MaceNetwork`, built here and checked to give the same energies.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from gasearch.crystal.species import Species
from gasearch.potentials.mace.network import MaceNetwork, building, import_mace, species_rows
from gasearch.potentials.networks.declaration import UnsupportedModelError
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import quiet
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.species_map import SpeciesMap

Start = Literal["clone", "ga"]
"""Whether a surrogate's slot gets the weights of the species' element, and is exactly that element
until it is trained, or keeps those of the surrogate: Ga's for Fe3+."""
_DERIVED = ("_compiled", "output_mask", "U_matrix_", "_zeroed", "atomic_energies", "atomic_numbers")
_SPACING = 2.2  # Å, of the atoms that two models are compared on


def from_model_file(
    content: bytes, species_map: SpeciesMap, name: str, device: str = "cpu"
) -> NetworkPotential:
    """Return the potential of a `.model` file as it is; its slots are its elements."""
    model = open_model(content)
    elements = [int(number) for number in model.atomic_numbers]
    network = from_model(model, {number: number for number in elements})
    known = atomic_energies(model)
    card = ModelCard(name, _within(species_map, elements), known)
    return NetworkPotential(network, card, device)


def from_foundation(
    content: bytes,
    slots: Mapping[Species, int],
    start: Start = "clone",
    head: str | None = None,
) -> tuple[MaceNetwork, ModelCard]:
    """Return a network to be trained, with its card; it knows the given species only.

    Parameters
    ----------
    content
        Of a `.model` file; trusted by the user (see `gasearch.potentials.trust`).
    slots
        Of all species in the training data; two oxidation states with one slot make a control.
    start
        What a species knows at first whose slot is not its element's.
    head
        Of a model with several.
    """
    model = open_model(content)
    energies = atomic_energies(model, head)
    known = energies if start == "ga" else ()
    rows = {slot: slot if slot in known else one.number for one, slot in slots.items()}
    network = from_model(model, rows, head)
    reference = {slot: energies[one.number] for one, slot in slots.items()}
    notes = {"start": start, "base": "mace"}
    return network, ModelCard("mace", SpeciesMap(slots), reference, notes=notes)


def open_model(content: bytes) -> Any:
    """Return the model that was pickled; this runs whatever its maker put in.

    Parameters
    ----------
    content
        Of the file; trusted by the user (see `gasearch.potentials.trust`).
    """
    mace = import_mace()
    with quiet():
        model = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    if not isinstance(model, mace.ScaleShiftMACE):
        raise _unsupported(f"is a {type(model).__name__}, expected a ScaleShiftMACE")
    return model


def atomic_energies(model: Any, head: str | None = None) -> dict[int, float]:
    """Return the energies of isolated atoms in a mace model, in eV, by atomic number."""
    by_head = torch.atleast_2d(model.atomic_energies_fn.atomic_energies).to(torch.float64)
    energies = by_head[_head(model, head)].tolist()
    return dict(zip(map(int, model.atomic_numbers), energies, strict=True))


def from_model(model: Any, rows: Mapping[int, int], head: str | None = None) -> MaceNetwork:
    """Return a network with the weights of a mace model, and none of its atomic energies.

    Parameters
    ----------
    rows
        Slots that the network shall have, and by slot the element whose weights it gets.
    head
        Of a model with several.
    """
    elements = [int(number) for number in model.atomic_numbers]
    if missing := sorted(set(rows.values()) - set(elements)):
        raise _unsupported(f"has no elements {', '.join(map(str, missing))}")
    single = _single_head(model, _head(model, head))
    with building(single.node_embedding.linear.weight.dtype):
        network = MaceNetwork(**_arguments(single, rows))
    _copy_weights(single, network.model, [elements.index(number) for number in rows.values()])
    _require_equal(model, _head(model, head), network, rows)
    return network


def _arguments(model: Any, rows: Mapping[int, int]) -> dict[str, Any]:
    """Return the arguments by which `MaceNetwork` makes a model like this one."""
    config = import_mace("mace.tools.scripts_utils").extract_config_mace_model(model)
    if config["embedding_specs"] or getattr(config["cueq_config"], "enabled", False):
        raise _unsupported("reads more than structures, or needs an accelerator's kernels")
    gates = {gate: name for name, gate in import_mace().gate_dict.items()}
    as_is = ("radial_type", "distance_transform", "pair_repulsion", "apply_cutoff")
    switches = [key for key in config if key.startswith("use_") and key != "use_embedding_readout"]
    further = {key: config[key] for key in (*as_is, *switches)}
    further["distance_transform"] = further["distance_transform"] or "None"
    further["gate"] = gates.get(config["gate"], "None")
    for key in ("interaction_cls", "interaction_cls_first", "readout_cls"):
        further[key] = config[key].__name__
    edge_irreps = config["edge_irreps"]
    further["edge_irreps"] = None if edge_irreps is None else str(edge_irreps)
    return {
        "slots": list(rows),
        "cutoff": float(config["r_max"]),
        "hidden_irreps": str(config["hidden_irreps"]),
        "max_ell": int(config["max_ell"]),
        "n_interactions": int(config["num_interactions"]),
        "correlation": int(config["correlation"]),
        "n_radial": int(config["num_bessel"]),
        "n_polynomial": int(config["num_polynomial_cutoff"]),
        "radial_layers": [int(width) for width in config["radial_MLP"]],
        "readout_irreps": str(config["MLP_irreps"]),
        "n_neighbours": float(config["avg_num_neighbors"]),
        "scale": float(config["atomic_inter_scale"].ravel()[0]),
        "numbers": list(rows.values()),
        "further": further,
    }


def _copy_weights(source: Any, target: Any, chosen: Sequence[int]) -> None:
    """Give a model the weights of another; `chosen` are the rows of its species there."""
    by_species = {(one.parameter, one.part): one.rows for one in species_rows(source)}
    ratio = (len(chosen) / len(source.atomic_numbers)) ** 0.5
    known = source.state_dict()
    with torch.no_grad():
        for one in species_rows(target):
            rows = by_species[one.parameter, one.part][chosen]
            one.rows.copy_(rows * ratio if one.is_divided else rows)
        for name, value in target.state_dict().items():
            if any(part in name for part in (*_DERIVED, *(name for name, _ in by_species))):
                continue
            if name not in known or known[name].numel() != value.numel():
                raise _unsupported(f"has no {name} of the expected size")
            value.copy_(known[name].reshape(value.shape))


def _require_equal(model: Any, head: int, network: MaceNetwork, rows: Mapping[int, int]) -> None:
    """Raise unless the interaction energies of a few atoms are those of the original."""
    graph = _trial_graph(model, head, rows)
    ours = {**graph, "node_attrs": torch.eye(len(rows), dtype=network.dtype).repeat(2, 1)}
    ours.pop("head")
    with torch.no_grad():
        expected = model(graph, compute_force=False)["interaction_energy"]
        found = network.model(ours, compute_force=False)["interaction_energy"]
    tolerance = 1e-8 if network.dtype == torch.float64 else 1e-4
    if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance):
        raise _unsupported(f"gives {float(expected):.6f} eV where ours gives {float(found):.6f}")


def _trial_graph(model: Any, head: int, rows: Mapping[int, int]) -> dict[str, torch.Tensor]:
    """Return a cluster with two atoms of every slot, as mace reads it."""
    generator = torch.Generator().manual_seed(0)
    n = 2 * len(rows)
    grid = torch.cartesian_prod(*[torch.arange(7.0)] * 3)[:n]
    positions = _SPACING * (grid + 0.2 * torch.rand(n, 3, generator=generator))
    dtype = model.node_embedding.linear.weight.dtype
    vectors = (positions[None] - positions[:, None]).to(dtype)
    near = (vectors.norm(dim=2) < float(model.r_max)).fill_diagonal_(False).nonzero()
    elements = [int(number) for number in model.atomic_numbers]
    places = torch.tensor([elements.index(number) for number in rows.values()] * 2)
    return {
        "positions": torch.zeros(n, 3, dtype=dtype),
        "shifts": vectors[near[:, 0], near[:, 1]],
        "cell": torch.zeros(3, 3, dtype=dtype),
        "edge_index": near.T.contiguous(),
        "node_attrs": torch.nn.functional.one_hot(places, len(elements)).to(dtype),
        "batch": torch.zeros(n, dtype=torch.int64),
        "ptr": torch.tensor([0, n]),
        "head": torch.tensor([head]),
    }


def _single_head(model: Any, head: int) -> Any:
    """Return the model with one of its heads."""
    if len(_heads(model)) == 1:
        return model
    tools = import_mace("mace.tools.scripts_utils")
    with building(model.node_embedding.linear.weight.dtype):
        return tools.remove_pt_head(model, _heads(model)[head])


def _heads(model: Any) -> list[str]:
    return list(getattr(model, "heads", None) or ["Default"])


def _head(model: Any, name: str | None) -> int:
    """Return the number of a head; the only one, or the one called default, if None."""
    heads = _heads(model)
    if name is None:
        named = [k for k, head in enumerate(heads) if head.lower() == "default"]
        if len(heads) > 1 and not named:
            raise _unsupported(f"has the heads {', '.join(heads)}: name one")
        return named[0] if named else 0
    if name not in heads:
        raise _unsupported(f"has no head {name!r} but {', '.join(heads)}")
    return heads.index(name)


def _within(species_map: SpeciesMap, elements: Sequence[int]) -> SpeciesMap:
    """Return the map; raise where it names a slot that the model does not have."""
    for species, slot in species_map.slots.items():
        if slot not in elements:
            raise _unsupported(f"has no element for the slot {slot} of {species}")
    return species_map


def _unsupported(problem: str) -> UnsupportedModelError:
    return UnsupportedModelError("MACE model", problem)
