"""PaiNN and cPaiNN: the networks, and models that schnetpack's own trainer made."""

import sys

from gasearch.potentials.networks.declaration import Architecture

_INSTALL = "pip install 'gasearch[schnetpack]'"
if sys.version_info < (3, 12):  # see pyproject.toml
    _INSTALL += " && pip install --no-deps schnetpack==2.1.1"
_LOADER = "gasearch.potentials.painn.weights:from_schnetpack_file"
ARCHITECTURES = {
    "painn": Architecture(
        place="gasearch.potentials.painn.network:PainnNetwork",
        package="schnetpack",
        install=_INSTALL,
        loaders={"best_model": _LOADER, "best_inference_model": _LOADER},
        contents={"schnetpack": _LOADER},
    ),
    "cpainn": Architecture(
        place="gasearch.potentials.painn.network:CpainnNetwork",
        package="schnetpack",
        install=_INSTALL,
        contents={"cpainn": "gasearch.potentials.painn.public_cpainn:from_public_file"},
    ),
}
