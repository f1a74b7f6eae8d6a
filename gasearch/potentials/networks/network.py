"""What all learned potentials share: the graph they read, and forces and stress from one gradient.

An architecture is a subclass of `Network`: it turns a `Graph` into energies. It knows slots, not
oxidation states, and no energy reference; `network_potential` adds both.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ase import Atoms

from gasearch.crystal.species import Species
from gasearch.potentials.contract import Batch
from gasearch.potentials.pairs import Crystals, Pairs, PairTable, find_pairs


@dataclass(frozen=True, eq=False)
class Edges:
    """All pairs of atoms within a cutoff, in both directions; a constant of the geometry.

    The second half is the first half reversed: edge `k + E / 2` goes from `j[k]` to `i[k]`.

    Parameters
    ----------
    i, j
        (E,) int64, running numbers of the atoms at the two ends; periodic images included.
    offsets
        (E, 3) whole cells by which atom j is moved, in the dtype of the cells.
    system
        (E,) int64, structure of the edge.
    """

    i: torch.Tensor
    j: torch.Tensor
    offsets: torch.Tensor
    system: torch.Tensor


@dataclass(frozen=True, eq=False)
class Graph:
    """Crystals as a network reads them; differentiable by positions and strain.

    Made for one evaluation by `make_graph`; the parts that do not change between evaluations of one
    geometry are its `edges`.

    Parameters
    ----------
    slots
        (N,) int64, row of each atom in the network's embedding: an atomic number, as a rule.
    system
        (N,) int64, ascending: structure of each atom.
    n_systems
        Structures in the batch, B.
    edges
        All pairs within the cutoff.
    positions, cells
        (N, 3) and (B, 3, 3) in float64, in Å, strained.
    shifts
        (E, 3) float64: the offsets in Å, strained.
    vectors
        (E, 3) in the dtype of the network: r_j + shift - r_i, in Å.
    distances
        (E,) length of the vectors, in Å.
    """

    slots: torch.Tensor
    system: torch.Tensor
    n_systems: int
    edges: Edges
    positions: torch.Tensor
    cells: torch.Tensor
    shifts: torch.Tensor
    vectors: torch.Tensor
    distances: torch.Tensor

    @property
    def i(self) -> torch.Tensor:
        """(E,) running numbers of the atoms that edges start from."""
        return self.edges.i

    @property
    def j(self) -> torch.Tensor:
        """(E,) running numbers of the atoms that edges lead to."""
        return self.edges.j

    def sum_by_system(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sums (B,) of per-atom values (N,) over each structure, in float64."""
        totals = values.new_zeros(self.n_systems, dtype=torch.float64)
        return totals.index_add(0, self.system, values.to(torch.float64))


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """What a network says about a graph.

    Parameters
    ----------
    energies
        (B,) in eV, without the energy reference; best from `Graph.sum_by_system`.
    moments
        (N,) in Bohr magnetons, or None for a network without a moment head.
    features
        (N, F) scalar features of the atoms deep in the network, for embeddings.
    charges
        (N,) partial charges in e, or None for a network without a charge head.
    """

    energies: torch.Tensor
    moments: torch.Tensor | None
    features: torch.Tensor
    charges: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a fresh network may take from the data that it will be trained on.

    Parameters
    ----------
    slots
        Of all species in them.
    structures
        All crystals.
    has_partial_charges
        Whether any of them has charges of the electron density as labels.
    """

    slots: Mapping[Species, int]
    structures: Sequence[Atoms]
    has_partial_charges: bool


class Network(torch.nn.Module, ABC):
    """An architecture with its weights.

    A subclass sets the attributes, in `__init__` or as class attributes, and must be made again by
    `Subclass(**arguments)`: a checkpoint stores `arguments` and the state dict, nothing else.
    Results for a structure may not depend on what shares the batch.

    Attributes
    ----------
    architecture
        The name that its folder declares it by.
    arguments
        What `__init__` needs to build it again; as JSON writes it.
    cutoff
        Of the edges, in Å.
    has_moments
        Whether `forward` gives moments.
    """

    architecture: str
    arguments: Mapping[str, Any]
    cutoff: float
    has_moments: bool = False

    @abstractmethod
    def forward(self, graph: Graph) -> NetworkOutput:
        """Return energies and per-atom results; differentiable by `graph.vectors`."""

    @property
    def readout(self) -> torch.nn.Module | None:
        """The last linear layer, in whose weights the energy is linear; None where it has none.

        What goes into it, (N, F), does not depend on how the crystal is turned.
        """
        return None

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of the vectors that the network wants."""
        return next(self.parameters()).dtype

    @classmethod
    def arguments_for(cls, data: TrainingData, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a fresh network: those given, and what else its data decide."""
        return {"slots": sorted(set(data.slots.values())), **given}


def arguments_of(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a network's `__init__`, as JSON writes them.

    Parameters
    ----------
    names
        Its `locals()` before anything else has a name.
    """
    own = {name: value for name, value in names.items() if name not in ("self", "__class__")}
    return {
        k: list(v) if isinstance(v, Sequence) and not isinstance(v, str) else v
        for k, v in own.items()
    }


@dataclass(frozen=True, eq=False)
class Derived:
    """Energies and their derivatives, still without the energy reference.

    Parameters
    ----------
    output
        Of the network.
    forces
        (N, 3) float64, in eV/Å.
    stresses
        (B, 3, 3) float64, symmetric, in eV/Å^3; tension positive.
    penalties
        (B,) float64, in eV, of which forces and stresses contain the derivatives; None without.
    """

    output: NetworkOutput
    forces: torch.Tensor
    stresses: torch.Tensor
    penalties: torch.Tensor | None = None


Penalty = Callable[[Batch, NetworkOutput], torch.Tensor]
"""From a batch and what a network says about it to an energy (B,) that is added, in eV."""


def find_edges(batch: Batch, cutoff: float) -> Edges:
    """Return all pairs closer than the cutoff (Å), in both directions; vectorised, no gradient."""
    with torch.no_grad():
        table = PairTable.from_system(batch.system, len(batch))
        crystals = Crystals.from_batch(batch, table)
        pairs = find_pairs(crystals, cutoff)
        near = pairs.vectors.square().sum(0) < cutoff**2
        first, second, system = pairs.first[near], pairs.second[near], pairs.system[near]
        offsets = _offsets(batch, crystals.inverses, pairs)[near]
        return Edges(
            i=torch.cat([first, second]),
            j=torch.cat([second, first]),
            offsets=torch.cat([offsets, -offsets]),
            system=torch.cat([system, system]),
        )


def make_graph(
    batch: Batch,
    slots: torch.Tensor,
    edges: Edges,
    dtype: torch.dtype,
    strains: torch.Tensor | None = None,
) -> Graph:
    """Return the graph of a batch; differentiable by `batch.positions` and the strains.

    Parameters
    ----------
    slots
        (N,) int64, from a `SpeciesMap`.
    edges
        From `find_edges`; may be kept as long as the geometry stays.
    dtype
        Of the network. Differences of positions are taken in float64 whatever it is.
    strains
        (B, 3, 3), symmetric; none if None.
    """
    positions, cells = batch.positions, batch.cells
    if strains is not None:
        rows = torch.bmm(positions[:, None], strains[batch.system])
        positions, cells = positions + rows[:, 0], cells + torch.bmm(cells, strains)
    shifts = torch.bmm(edges.offsets[:, None], cells[edges.system])[:, 0]
    vectors = (positions[edges.j] + shifts - positions[edges.i]).to(dtype)
    return Graph(
        slots=slots,
        system=batch.system,
        n_systems=len(batch),
        edges=edges,
        positions=positions,
        cells=cells,
        shifts=shifts,
        vectors=vectors,
        distances=vectors.norm(dim=1),
    )


def energies_forces_stress(
    network: Network,
    batch: Batch,
    slots: torch.Tensor,
    edges: Edges | None = None,
    *,
    create_graph: bool = False,
    penalty: Penalty | None = None,
) -> Derived:
    """Return energies, forces and stresses of a batch, from one backward pass.

    Parameters
    ----------
    slots
        (N,) int64, from a `SpeciesMap`.
    edges
        Of this geometry where they are known, found otherwise.
    create_graph
        Whether a loss of forces and stresses shall be differentiable by the weights: for training.
        Otherwise nothing in the result carries a gradient.
    penalty
        What is added to the energies before they are differentiated; the output has it apart.
    """
    if edges is None:
        edges = find_edges(batch, network.cutoff)
    positions = batch.positions.detach().requires_grad_()
    strains = torch.zeros_like(batch.cells, requires_grad=True)
    symmetric = (strains + strains.transpose(1, 2)) / 2
    leaf = Batch(positions, batch.cells, batch.numbers, batch.charges, batch.system, batch.spins)
    with torch.enable_grad():
        output = network(make_graph(leaf, slots, edges, network.dtype, symmetric))
        penalties = None if penalty is None else penalty(leaf, output)
        total = output.energies.sum()
        if penalties is not None:
            total = total + penalties.sum()
        down, virials = torch.autograd.grad(total, (positions, strains), create_graph=create_graph)
    stresses = virials / torch.linalg.det(batch.cells).abs()[:, None, None]
    if create_graph:
        return Derived(output, -down, stresses, penalties)
    penalties = None if penalties is None else penalties.detach()
    return Derived(_detached(output), -down, stresses, penalties)


def _offsets(batch: Batch, inverses: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """Return by how many cells (M, 3) the second atom of each pair is moved."""
    direct = batch.positions[pairs.second] - batch.positions[pairs.first]
    extra = torch.bmm((pairs.vectors.T - direct)[:, None], inverses[pairs.system])
    return extra[:, 0].round()


def _detached(output: NetworkOutput) -> NetworkOutput:
    moments = None if output.moments is None else output.moments.detach()
    charges = None if output.charges is None else output.charges.detach()
    return NetworkOutput(output.energies.detach(), moments, output.features.detach(), charges)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep standard output clean, and silence what torch says to the code of e3nn and mace."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.filterwarnings(
            "ignore", r"`torch\.jit\.\w+` is (deprecated|not supported)", DeprecationWarning
        )
        warnings.filterwarnings("ignore", "The TorchScript type system", UserWarning)
        warnings.filterwarnings("ignore", "To copy construct from a tensor", UserWarning)
        yield
