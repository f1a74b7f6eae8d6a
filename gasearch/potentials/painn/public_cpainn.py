"""Models of the public cPaiNN: dictionaries that its trainer writes, such as `best_model.pth`.

Its network differs from ours and from schnetpack's: distances are written in sin(n pi r / rc) / r,
the linear layers of the vector features have biases, so that energies depend, slightly, on how a
crystal is turned, and the heads read the features before the last two layers. Energies are those
that the weights were trained to give; forces and stress are their derivatives, where the public
calculator gives half of the stress.

Petersen et al. 2026 (arXiv 2603.26471); Schütt et al., ICML 2021 (arXiv 2102.03150).
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Mapping
from typing import Any

import torch

from gasearch.potentials.networks.declaration import UnsupportedModelError
from gasearch.potentials.networks.model_card import ModelCard
from gasearch.potentials.networks.network import Graph, Network, NetworkOutput, arguments_of
from gasearch.potentials.networks.network_potential import NetworkPotential
from gasearch.potentials.networks.species_map import SpeciesMap

_CUTOFF = 4.0  # Å, where the file does not say
_FIXED = ("normalization", "atomwise_normalization", "normalize_stddev", "normalize_mean")
_RENAMED = {
    "scalar_message_mlp": "gate",
    "filter_layer": "filter",
    "update_U": "left",
    "update_V": "right",
    "update_mlp": "mix",
}


class PublicCpainnNetwork(Network):
    """The network of the public cPaiNN, with its quirks.

    Parameters
    ----------
    n_slots
        Rows of the embedding; a slot is an atomic number.
    n_features
        Width of scalar and vector features.
    n_interactions
        Message-passing layers.
    n_radial
        Functions that a distance is written in.
    cutoff
        In Å.
    moments, charges
        Whether there are heads for them.
    scale, shift, shift_per_cell
        Of the energies, in eV: E = scale x (sum over atoms) + shift x atoms + shift_per_cell.
    """

    architecture = "public-cpainn"

    def __init__(
        self,
        n_slots: int,
        n_features: int,
        n_interactions: int,
        n_radial: int,
        cutoff: float = _CUTOFF,
        moments: bool = False,
        charges: bool = False,
        scale: float = 1.0,
        shift: float = 0.0,
        shift_per_cell: float = 0.0,
    ) -> None:
        super().__init__()
        self.arguments = arguments_of(locals())
        self.cutoff, self.has_moments, self.n_radial = cutoff, moments, n_radial
        self.scale, self.shift, self.shift_per_cell = scale, shift, shift_per_cell
        self.embedding = torch.nn.Embedding(n_slots, n_features)
        self.layers = torch.nn.ModuleList(
            _Layer(n_features, n_radial) for _ in range(n_interactions)
        )
        self.energy_head = _two_layers(n_features, n_features, 1)
        self.moment_head = torch.nn.Linear(n_features, 1) if moments else None
        self.charge_head = torch.nn.Linear(n_features, 1) if charges else None

    def forward(self, graph: Graph) -> NetworkOutput:
        """Return energies and what there are heads for."""
        distances = graph.distances[:, None]
        orders = torch.arange(1, self.n_radial + 1, device=distances.device)
        radial = torch.sin(distances * orders * (math.pi / self.cutoff)) / distances
        fade = (1 + torch.cos(math.pi / self.cutoff * distances)) / 2
        directions = (graph.vectors / distances)[:, :, None]
        scalars = self.embedding(graph.slots)
        vectors = scalars.new_zeros(len(scalars), 3, scalars.shape[1])
        before = [scalars]
        for layer in self.layers:
            scalars, vectors = layer(scalars, vectors, radial, fade, directions, graph)
            before.append(scalars)
        early = before[max(0, len(self.layers) - 2)]
        sums = graph.sum_by_system(self.energy_head(scalars).squeeze(1))
        counts = graph.sum_by_system(torch.ones_like(scalars[:, 0]))
        return NetworkOutput(
            energies=self.scale * sums + self.shift * counts + self.shift_per_cell,
            moments=None if self.moment_head is None else self.moment_head(early).squeeze(1),
            features=scalars,
            charges=None if self.charge_head is None else self.charge_head(early).squeeze(1),
        )


class _Layer(torch.nn.Module):
    """One round of messages, and the mixing of scalars with vectors at each atom."""

    def __init__(self, width: int, n_radial: int) -> None:
        super().__init__()
        self.gate = _two_layers(width, width, 3 * width)
        self.filter = torch.nn.Linear(n_radial, 3 * width)
        self.left = torch.nn.Linear(width, width)
        self.right = torch.nn.Linear(width, width)
        self.mix = _two_layers(2 * width, width, 3 * width)

    def forward(
        self,
        scalars: torch.Tensor,
        vectors: torch.Tensor,
        radial: torch.Tensor,
        fade: torch.Tensor,
        directions: torch.Tensor,
        graph: Graph,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        messages = self.filter(radial) * fade * self.gate(scalars)[graph.j]
        carry, point, add = messages[:, None].chunk(3, dim=2)
        scalars = scalars.index_add(0, graph.i, add.squeeze(1))
        vectors = vectors.index_add(0, graph.i, carry * vectors[graph.j] + point * directions)
        left, right = self.left(vectors), self.right(vectors)
        mixed = self.mix(torch.cat([right.norm(dim=1), scalars], dim=1))
        stretch, product, shift = mixed.chunk(3, dim=1)
        return (
            scalars + product * (left * right).sum(dim=1) + shift,
            vectors + stretch[:, None] * left,
        )


def from_public_file(
    content: bytes, species_map: SpeciesMap, name: str, device: str = "cpu"
) -> NetworkPotential:
    """Return the potential of a dictionary that the trainer of the public cPaiNN wrote."""
    document = _opened(content)
    try:
        network = _network(document)
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        first = str(error).strip().split("\n")[0]
        raise _unsupported(f"is not as its trainer writes it ({first})") from error
    for species, slot in species_map.slots.items():
        if slot >= network.embedding.num_embeddings:
            raise _unsupported(f"has no row for the slot {slot} of {species}")
    return NetworkPotential(network, ModelCard(name, species_map), device)


def _opened(content: bytes) -> Mapping[str, Any]:
    """Return the dictionary: as tensors alone where that is enough, else as the pickle it is."""
    for safe in (True, False):
        try:
            document = torch.load(io.BytesIO(content), map_location="cpu", weights_only=safe)
        except pickle.UnpicklingError:
            continue
        if isinstance(document, Mapping):
            return document
    raise _unsupported("holds no dictionary")


def _network(document: Mapping[str, Any]) -> PublicCpainnNetwork:
    stored = {str(key).removeprefix("module."): value for key, value in document["model"].items()}
    constants = {key: float(stored.pop(key)) for key in _FIXED if key in stored}
    state = {_name(key, document): value for key, value in stored.items()}
    is_scaled = bool(constants.get("normalization", 0.0))
    mean = constants.get("normalize_mean", 0.0) if is_scaled else 0.0
    by_atom = bool(constants.get("atomwise_normalization", 1.0))
    n_slots, width = state["embedding.weight"].shape
    network = PublicCpainnNetwork(
        n_slots=int(n_slots),
        n_features=int(width),
        n_interactions=1 + max(int(k.split(".")[1]) for k in state if k.startswith("layers.")),
        n_radial=int(state["layers.0.filter.weight"].shape[1]),
        cutoff=float(document.get("cutoff", _CUTOFF)),
        moments="moment_head.weight" in state,
        charges="charge_head.weight" in state,
        scale=constants.get("normalize_stddev", 1.0) if is_scaled else 1.0,
        shift=mean if by_atom else 0.0,
        shift_per_cell=0.0 if by_atom else mean,
    )
    network.load_state_dict(state, assign=True)  # strict: what has no place is told
    return network


def _name(key: str, document: Mapping[str, Any]) -> str:
    """Return our name of a tensor of theirs."""
    parts = key.split(".")
    heads = {"linear_magmom": "moment_head", "linear_bader_charge": "charge_head"}
    # A single head has no name of its own: the flags of the file say what it gives.
    only_charges = document.get("compute_bader_charge") and not document.get("compute_magmom")
    heads["linear"] = "charge_head" if only_charges else "moment_head"
    first = {"atom_embedding": "embedding", "readout_mlp": "energy_head", **heads}
    if parts[0] in ("message_layers", "update_layers"):
        return ".".join(["layers", parts[1], _RENAMED.get(parts[2], parts[2]), *parts[3:]])
    return ".".join([first.get(parts[0], parts[0]), *parts[1:]])


def _two_layers(inside: int, middle: int, outside: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Linear(inside, middle), torch.nn.SiLU(), torch.nn.Linear(middle, outside)
    )


def _unsupported(problem: str) -> UnsupportedModelError:
    return UnsupportedModelError("model of the public cPaiNN", problem)
