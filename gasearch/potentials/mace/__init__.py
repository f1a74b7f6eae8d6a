"""MACE: the network, and its weights from files of other packages."""

from gasearch.potentials.networks.declaration import Architecture

ARCHITECTURES = {
    "mace": Architecture(
        place="gasearch.potentials.mace.network:MaceNetwork",
        package="mace",
        install="pip install 'gasearch[mace]'",
        distribution="mace-torch",
        loaders={".model": "gasearch.potentials.mace.weights:from_model_file"},
        contents={"mace": "gasearch.potentials.mace.weights:from_model_file"},
        file_weights="gasearch.potentials.mace.weights:from_foundation",
    )
}
