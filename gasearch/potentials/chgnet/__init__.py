"""CHGNet: the network, and its weights from its package and from files of its trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gasearch.potentials.networks.declaration import Architecture, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gasearch.potentials.networks.network_potential import NetworkPotential

_WEIGHTS = "gasearch.potentials.chgnet.weights"
ARCHITECTURES = {
    "chgnet": Architecture(
        place="gasearch.potentials.chgnet.network:ChgnetNetwork",
        package="chgnet",
        install="pip install 'gasearch[chgnet]'",
        loaders={".pth.tar": f"{_WEIGHTS}:from_trainer_file"},
        contents={"chgnet": f"{_WEIGHTS}:from_trainer_file"},
        own_weights=f"{_WEIGHTS}:from_package",
        file_weights=f"{_WEIGHTS}:from_trainer_weights",
    )
}


def chgnet(device: str = "cpu", species: Mapping[str, str | int] | None = None) -> NetworkPotential:
    """Return CHGNet 0.3.0 as it is: blind to oxidation states, but its moments tell them apart.

    Parameters
    ----------
    species
        What stands for an oxidation state, as in run.toml: {"Fe3+": "Ga"}.
    """
    potential: NetworkPotential = resolve(f"{_WEIGHTS}:stock")(species=species or {}, device=device)
    return potential
