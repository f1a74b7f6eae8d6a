"""MACE (Batatia et al., NeurIPS 2022, arXiv 2206.07697), built of the package mace-torch.

How the weights of a foundation model get into one of these is in the module `weights` beside this.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from gasearch.errors import UsageError
from gasearch.potentials.contract import Batch
from gasearch.potentials.mace import ARCHITECTURES
from gasearch.potentials.networks.network import (
    Graph,
    Network,
    NetworkOutput,
    TrainingData,
    arguments_of,
    find_edges,
    quiet,
)
from gasearch.potentials.networks.slot_table import SlotTable

_CUTOFF = 5.0  # Å
_HIGHEST_NUMBER = 118
_RESIDUAL = "RealAgnosticResidualInteractionBlock"
_NO_WEIGHTS_ONLY = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_SAMPLE = 16  # structures that the mean number of neighbours is taken from


class MaceArgumentsError(UsageError):
    """Arguments of a MACE network that make no sense together."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"mace: {self.problem}."


class MaceNetwork(Network):
    """A MACE that gives energies; it has no moment head.

    The package's own model computes; it gets the vectors of the graph, so that forces and stress
    come out of one backward pass. Energies of isolated atoms in it are zero: they belong to the
    energy reference of the model card.

    Parameters
    ----------
    slots
        Of all species that the network shall know, such as (8, 11, 15, 26, 31).
    cutoff
        In Å.
    hidden_irreps
        Channels and degrees of the messages, as e3nn writes them.
    max_ell
        Highest degree of the spherical harmonics.
    n_interactions
        Message-passing layers.
    correlation
        Body order of the messages minus one.
    n_radial
        Bessel functions that a distance is written in.
    n_polynomial
        Order of the polynomial that fades edges out at the cutoff.
    radial_layers
        Widths of the network that weights the edges.
    readout_irreps
        Of the last readout.
    n_neighbours
        Average number of neighbours in the data, by which messages are divided.
    scale
        Of the energies, in eV: what an untrained network gives is of this size.
    numbers
        Atomic number of each slot, for what depends on the element itself (radii, nuclear
        repulsion); the slots themselves if None.
    further
        Any other argument of `mace.modules.ScaleShiftMACE`, as JSON writes it, for a model that was
        made elsewhere; classes and functions by their names in mace.
    """

    architecture = "mace"
    has_moments = False

    def __init__(
        self,
        slots: Sequence[int],
        cutoff: float = _CUTOFF,
        hidden_irreps: str = "32x0e + 32x1o",
        max_ell: int = 2,
        n_interactions: int = 2,
        correlation: int = 2,
        n_radial: int = 8,
        n_polynomial: int = 5,
        radial_layers: Sequence[int] = (64, 64, 64),
        readout_irreps: str = "16x0e",
        n_neighbours: float = 40.0,
        scale: float = 1.0,
        numbers: Sequence[int] | None = None,
        further: Mapping[str, Any] | None = None,
    ) -> None:
        arguments = arguments_of(locals())
        super().__init__()
        numbers, further = _numbers(slots, numbers), dict(further or {})
        self.arguments = {**arguments, "numbers": numbers, "further": further}
        self.cutoff = cutoff
        self.table = SlotTable(slots)
        self.model = _build(self.arguments)
        self.n_features = int(self.model.products[-1].linear.irreps_out.count("0e"))
        self._has_run = False

    @classmethod
    def arguments_for(cls, data: TrainingData, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a fresh network: also the neighbours and elements of its data."""
        own = super().arguments_for(data, {})
        element = {slot: species.number for species, slot in data.slots.items()}
        own["n_neighbours"] = _mean_neighbours(data, float(given.get("cutoff", _CUTOFF)))
        own["numbers"] = [element[slot] for slot in own["slots"]]
        return {**own, **given}

    def forward(self, graph: Graph) -> NetworkOutput:
        """Return energies, and as features the scalars that the last readout sees."""
        if not (self._has_run or self.training) and graph.vectors.requires_grad:
            self._has_run = True
            self._run_once(graph)
        found = self.model(self._data(graph), compute_force=False)
        return NetworkOutput(
            energies=graph.sum_by_system(found["node_energy"]),
            moments=None,
            features=found["node_feats"][:, -self.n_features :],
        )

    @property
    def readout(self) -> torch.nn.Module | None:
        """The last linear layer of the last readout; the readouts before it have no members."""
        last = self.model.readouts[-1]
        found: torch.nn.Module | None = getattr(last, "linear_2", None)
        return found

    def _run_once(self, graph: Graph) -> None:
        """Evaluate for nothing: the forces of a process's first evaluation have other last digits.

        mace's TorchScript is profiled in its first run, and then computes in another order.
        """
        vectors = graph.vectors.detach().requires_grad_()
        with torch.enable_grad():
            found = self.model(self._data(replace(graph, vectors=vectors)), compute_force=False)
            torch.autograd.grad(found["node_energy"].sum(), vectors)

    def __reduce__(self) -> tuple[Callable[..., MaceNetwork], tuple[Any, ...]]:
        """Copy and pickle by building again: e3nn would turn its code into TorchScript."""
        learns = any(parameter.requires_grad for parameter in self.parameters())
        return _rebuilt, (type(self), self.arguments, _tensors(self), self.training, learns)

    def _data(self, graph: Graph) -> dict[str, torch.Tensor]:
        """Return the graph in mace's words.

        With all positions zero, what it takes for the images' shifts are the vectors.
        """
        rows = self.table(graph.slots)
        zeros = graph.vectors.new_zeros
        return {
            "positions": zeros(len(rows), 3),
            "shifts": graph.vectors,
            "cell": zeros(3 * graph.n_systems, 3),
            "edge_index": torch.stack([graph.i, graph.j]),
            "node_attrs": torch.nn.functional.one_hot(rows, len(self.table)).to(self.dtype),
            "batch": graph.system,
            "ptr": graph.system.new_zeros(graph.n_systems + 1),
        }


def import_mace(module: str = "mace.modules") -> Any:
    """Return a module of the package `mace`; seven seconds the first time.

    Raises
    ------
    MissingPackageError
        With the command that brings it.
    """
    ARCHITECTURES["mace"].require()
    with quiet(), _own_unpickling():
        # e3nn 0.4 reads its constants with torch.load; once they are read, mace's switch for the
        # whole process, by which any later torch.load would run code from its file, is not needed.
        importlib.import_module("e3nn.o3")
        return importlib.import_module(module)


@contextlib.contextmanager
def _own_unpickling() -> Iterator[None]:
    """Undo what an import does to torch.load."""
    before = os.environ.get(_NO_WEIGHTS_ONLY)
    try:
        with torch.serialization.safe_globals([slice]):
            yield
    finally:
        os.environ.pop(_NO_WEIGHTS_ONLY, None)
        if before is not None:
            os.environ[_NO_WEIGHTS_ONLY] = before


@dataclass(frozen=True, eq=False)
class SpeciesRows:
    """A part of a parameter of a mace model that has a row for each species.

    Parameters
    ----------
    parameter
        Name in the state dict.
    part
        0, 1 ... where one parameter holds several.
    rows
        (species, ...), a view.
    is_divided
        Whether e3nn divides by the root of the number of species when it uses them.
    """

    parameter: str
    part: int
    rows: torch.Tensor
    is_divided: bool


def species_rows(model: Any) -> Iterator[SpeciesRows]:
    """Yield all parameters of a mace model that depend on species."""
    o3 = import_mace("e3nn.o3")
    n_species = len(model.atomic_numbers)
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if name == "node_embedding.linear" or last in ("source_embedding", "target_embedding"):
            yield SpeciesRows(f"{name}.weight", 0, module.weight.view(n_species, -1), True)
        elif isinstance(module, o3.FullyConnectedTensorProduct):
            for part, view in enumerate(module.weight_views()):
                yield SpeciesRows(f"{name}.weight", part, view.movedim(1, 0), True)
        elif hasattr(module, "weights_max"):
            named = [("weights_max", module.weights_max)]
            named += [(f"weights.{k}", weight) for k, weight in enumerate(module.weights)]
            for weight_name, weight in named:
                if len(weight) == n_species:  # 1 where the product does not look at species
                    yield SpeciesRows(f"{name}.{weight_name}", 0, weight, False)


@contextlib.contextmanager
def building(dtype: torch.dtype) -> Iterator[None]:
    """Let mace build models of a precision, and e3nn leave its code in Python.

    That is as fast as its TorchScript on a processor, built in half the time, and has a future.
    """
    e3nn = import_mace("e3nn")
    before = e3nn.get_optimization_defaults()["jit_script_fx"], torch.get_default_dtype()
    try:
        e3nn.set_optimization_defaults(jit_script_fx=False)
        torch.set_default_dtype(dtype)
        with quiet():
            yield
    finally:
        e3nn.set_optimization_defaults(jit_script_fx=before[0])
        torch.set_default_dtype(before[1])


def _build(arguments: Mapping[str, Any]) -> Any:
    """Return the package's model; its constants, exact in double, are no part of a checkpoint."""
    with building(torch.float64):
        model = import_mace().ScaleShiftMACE(**_constructor_arguments(arguments))
    for module in model.modules():
        constants = {name for name in module._buffers if name.startswith("U_matrix_")}
        module._non_persistent_buffers_set.update(constants)
    return model.to(torch.get_default_dtype())


def _constructor_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `ScaleShiftMACE` takes."""
    o3 = import_mace("e3nn.o3")
    n_species = len(arguments["slots"])
    found = {
        "r_max": arguments["cutoff"],
        "num_bessel": arguments["n_radial"],
        "num_polynomial_cutoff": arguments["n_polynomial"],
        "max_ell": arguments["max_ell"],
        "interaction_cls": _RESIDUAL,
        "interaction_cls_first": _RESIDUAL,
        "num_interactions": arguments["n_interactions"],
        "num_elements": n_species,
        "hidden_irreps": o3.Irreps(arguments["hidden_irreps"]),
        "MLP_irreps": o3.Irreps(arguments["readout_irreps"]),
        "atomic_energies": torch.zeros(n_species).numpy(),
        "avg_num_neighbors": arguments["n_neighbours"],
        "atomic_numbers": arguments["numbers"],
        "correlation": arguments["correlation"],
        "gate": "silu",
        "radial_MLP": arguments["radial_layers"],
        "atomic_inter_scale": arguments["scale"],
        "atomic_inter_shift": 0.0,
        "use_reduced_cg": False,  # whose values depend on what else is installed
    }
    return _with_objects({**found, **arguments["further"]})


def _with_objects(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments in which the names of mace's classes and functions are replaced by them."""
    modules = import_mace()
    tables = {
        "interaction_cls": modules.interaction_classes,
        "interaction_cls_first": modules.interaction_classes,
        "readout_cls": modules.readout_classes,
        "gate": modules.gate_dict,
    }
    for key, table in tables.items():
        name = arguments.get(key)
        if name is None:
            continue
        if name not in table:
            raise MaceArgumentsError(f"{key} {name!r}, expected one of {', '.join(table)}")
        arguments[key] = table[name]
    if arguments.get("edge_irreps") is not None:
        arguments["edge_irreps"] = import_mace("e3nn.o3").Irreps(arguments["edge_irreps"])
    return arguments


def _numbers(slots: Sequence[int], numbers: Sequence[int] | None) -> list[int]:
    """Return the atomic number of each slot."""
    found = list(slots if numbers is None else numbers)
    if len(found) != len(slots):
        raise MaceArgumentsError(f"{len(found)} atomic numbers for {len(slots)} slots")
    if max(found) > _HIGHEST_NUMBER:
        raise MaceArgumentsError(f"slot {max(found)} is no element: give `numbers`")
    return found


def _tensors(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return all that a network holds, constants included."""
    named = [*network.named_parameters(), *network.named_buffers()]
    return {name: tensor.detach() for name, tensor in named}


def _rebuilt(
    cls: type[MaceNetwork],
    arguments: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    training: bool,
    learns: bool,
) -> MaceNetwork:
    """Return a network that holds these, in their precision and on their device."""
    network = cls(**arguments)
    sample = tensors["model.node_embedding.linear.weight"]
    network.to(device=sample.device, dtype=sample.dtype)
    for name, tensor in _tensors(network).items():
        tensor.copy_(tensors[name])
    return network.train(training).requires_grad_(learns)


def _mean_neighbours(data: TrainingData, cutoff: float) -> float:
    step = max(1, len(data.structures) // _SAMPLE)
    batch = Batch.from_atoms(data.structures[::step])
    return round(len(find_edges(batch, cutoff).i) / len(batch.positions), 2)
