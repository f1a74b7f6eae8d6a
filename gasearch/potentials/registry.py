"""From what a user names to a potential.

Names are entry points of the group `gasearch.potentials`, `module:factory`, `./file.py:factory`, a
folder with a checkpoint, or a model file of another package.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ase.calculators.calculator import BaseCalculator

from gasearch.errors import GasearchError
from gasearch.plugins import PluginError, at_home, load_plugin, registered
from gasearch.potentials.ase_calculator import AseCalculatorPotential
from gasearch.potentials.asking import what_was_raised
from gasearch.potentials.contract import Potential

_KIND = "potential"
_NEEDED = ("name", "cutoff", "ranks_only", "species", "weights_hash", "device", "evaluate")


def load_potential(
    text: str,
    folder: Path | None = None,
    device: str = "cpu",
    species: Mapping[str, str | int] | None = None,
) -> Potential:
    """Return the potential that `text` names, ready on a device.

    A name leads to a `Potential`, to an ASE calculator, or to a function or class that makes one of
    them: without arguments, or from `device=` where it takes that.

    Parameters
    ----------
    text
        A registered name such as "pmmcs", `module:factory`, `./file.py:factory`, a folder with a
        `model.json` such as "./my_model", or a trusted file of another package such as
        "./mace.model".
    folder
        Where relative files are looked up; the working folder if None.
    device
        As torch writes it: "cpu", "cuda", "cuda:1".
    species
        What stands for an oxidation state in a model of another package: {"Fe3+": "Ga"}. All other
        models know it themselves, and it is refused for them.
    """
    folder = Path.cwd() if folder is None else folder
    if _is_path(text, folder):
        return _from_path(text, folder / text, device, species)
    plugin = load_plugin(_KIND, text, folder)
    made = _made(text, plugin, folder, device, species) if _is_factory(plugin) else plugin
    if isinstance(made, BaseCalculator):
        return _from_calculator(made, text, folder)
    if isinstance(made, Potential) and not isinstance(made, type):
        return made
    raise PluginError(
        _KIND, text, f"expected a Potential or an ASE calculator, {_shortfall(made)}."
    )


def takes_device(text: str, folder: Path | None = None) -> bool:
    """Return whether `load_potential` puts what `text` names on the device that it is given."""
    folder = Path.cwd() if folder is None else folder
    if _is_path(text, folder):
        return True
    plugin = load_plugin(_KIND, text, folder)
    return _is_factory(plugin) and "device" in inspect.signature(plugin).parameters


def _is_factory(plugin: object) -> bool:
    return isinstance(plugin, type) or (
        callable(plugin) and not isinstance(plugin, Potential | BaseCalculator)
    )


def _is_path(text: str, folder: Path) -> bool:
    """Return whether a text names a file or folder rather than something to import."""
    if ":" in text or text in registered(_KIND):
        return False
    return "/" in text or (folder / text).exists()


def _from_path(
    text: str, path: Path, device: str, species: Mapping[str, str | int] | None
) -> Potential:
    from gasearch.potentials.networks.architectures import foreign_loader, load_foreign
    from gasearch.potentials.networks.checkpoint import load_checkpoint

    if path.is_dir():
        _refuse_species(text, species)
        return load_checkpoint(path, device)
    if not path.is_file():
        raise PluginError(_KIND, text, f"there is no {path}.")
    if not foreign_loader(path, path.read_bytes()):
        problem = (
            "expected a folder with a model.json, or a model file of mace, chgnet, schnetpack or "
            "the public cPaiNN."
        )
        raise PluginError(_KIND, text, problem)
    return load_foreign(path, species or {}, text, device)


def _refuse_species(text: str, species: Mapping[str, str | int] | None) -> None:
    if species:
        problem = "it knows its species itself; remove `species` (run.toml) or --species."
        raise PluginError(_KIND, text, problem)


def _made(
    text: str,
    factory: Any,
    folder: Path,
    device: str,
    species: Mapping[str, str | int] | None,
) -> object:
    try:
        takes = inspect.signature(factory).parameters
        arguments: dict[str, Any] = {"device": device} if "device" in takes else {}
        if "species" in takes:
            arguments["species"] = species or {}
        else:
            _refuse_species(text, species)
        with at_home(text, folder):
            return factory(**arguments)
    except GasearchError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(_KIND, text, f"making it raised {what_was_raised(error)}.") from error


def _from_calculator(calculator: BaseCalculator, text: str, folder: Path) -> Potential:
    missing = {"energy", "forces", "stress"} - set(calculator.implemented_properties)
    if missing:
        problem = (
            f"the calculator gives no {' and no '.join(sorted(missing))}, which relaxing needs."
        )
        raise PluginError(_KIND, text, problem)
    return AseCalculatorPotential(calculator, text, _source(text, folder))


def _source(text: str, folder: Path) -> bytes:
    """Return the code behind a name: a change of it is a change of the level of theory."""
    place = text.rpartition(":")[0]
    if not place:
        place = registered(_KIND)[text].module
    if place.endswith(".py"):
        return (folder / place).read_bytes()
    spec = importlib.util.find_spec(place)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return place.encode()
    return Path(spec.origin).read_bytes()


def _shortfall(made: object) -> str:
    missing = [name for name in _NEEDED if not hasattr(made, name)]
    return f"got {type(made).__name__} without {', '.join(missing)}"
