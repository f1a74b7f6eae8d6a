"""From what a user names to a potential.

Names are entry points of the group `gasearch.potentials`, `module:factory` or `./file.py:factory`.
"""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import Any

from ase.calculators.calculator import BaseCalculator

from gasearch.plugins import PluginError, load_plugin, registered
from gasearch.potentials.ase_calculator import AseCalculatorPotential
from gasearch.potentials.contract import Potential

_KIND = "potential"
_NEEDED = ("name", "cutoff", "ranks_only", "species", "weights_hash", "device", "evaluate")


def load_potential(text: str, folder: Path | None = None, device: str = "cpu") -> Potential:
    """Return the potential that `text` names, ready on a device.

    A name leads to a `Potential`, to an ASE calculator, or to a function or class that makes one of
    them: without arguments, or from `device=` where it takes that.

    Parameters
    ----------
    text
        A registered name such as "pmmcs", `module:factory` or `./file.py:factory`.
    folder
        Where relative files are looked up; the working folder if None.
    device
        As torch writes it: "cpu", "cuda", "cuda:1".
    """
    folder = Path.cwd() if folder is None else folder
    plugin = load_plugin(_KIND, text, folder)
    made = _made(text, plugin, device) if _is_factory(plugin) else plugin
    if isinstance(made, BaseCalculator):
        return _from_calculator(made, text, folder)
    if isinstance(made, Potential) and not isinstance(made, type):
        return made
    raise PluginError(
        _KIND, text, f"expected a Potential or an ASE calculator, {_shortfall(made)}."
    )


def _is_factory(plugin: object) -> bool:
    return isinstance(plugin, type) or (
        callable(plugin) and not isinstance(plugin, Potential | BaseCalculator)
    )


def _made(text: str, factory: Any, device: str) -> object:
    try:
        takes_device = "device" in inspect.signature(factory).parameters
        return factory(device=device) if takes_device else factory()
    except Exception as error:
        problem = f"making it raised {type(error).__name__}: {error}"
        raise PluginError(_KIND, text, problem) from error


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
