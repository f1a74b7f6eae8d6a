"""Finding what a user names: an entry point, `module:Name`, or `./file.py:Name`."""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from gasearch.errors import UsageError

_HOMES: set[Path] = set()  # folders of files that plug-ins were loaded from


class PluginError(UsageError):
    """A plug-in that cannot be found or loaded."""

    def __init__(self, kind: str, text: str, problem: str) -> None:
        super().__init__(kind, text, problem)
        self.kind = kind
        self.text = text
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.kind} {self.text!r}: {self.problem}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ' (did you mean ...?)' for the known word closest to `word`, or ''."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def registered(kind: str) -> dict[str, EntryPoint]:
    """Return the entry points of group `gasearch.<kind>s`, by name, in alphabetical order."""
    return {point.name: point for point in _installed(f"gasearch.{kind}s")}


@functools.cache
def _installed(group: str) -> tuple[EntryPoint, ...]:
    """Search all installed packages, which takes a while, once for each group."""
    return tuple(sorted(entry_points(group=group), key=lambda point: point.name))


def load_plugin(kind: str, text: str, folder: Path, built_in: Collection[str] = ()) -> Any:
    """Return the object that `text` names; relative files are looked up from `folder`.

    Parameters
    ----------
    kind
        "operator", "potential" or "acquisition": the entry-point group and the word in errors.
    text
        A registered name, `module:Name` or `./file.py:Name`.
    built_in
        Names that the caller knows itself, for the error that lists what there is.
    """
    if ":" not in text:
        known = registered(kind)
        if text not in known:
            names = sorted({*known, *built_in})
            problem = (
                f"unknown{nearest(text, names)}. Known: {', '.join(names) or 'none'}; "
                "or name your own as './file.py:Name' or 'module:Name'."
            )
            raise PluginError(kind, text, problem)
        try:
            return known[text].load()
        except Exception as error:
            problem = f"{known[text].value} cannot be loaded: {type(error).__name__}: {error}"
            raise PluginError(kind, text, problem) from error
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise PluginError(kind, text, "write './file.py:Name' or 'module:Name'.")
    module = _module(kind, text, place, folder)
    if not hasattr(module, name):
        public = [word for word in vars(module) if not word.startswith("_")]
        problem = f"{place} has no {name!r}{nearest(name, public)}."
        raise PluginError(kind, text, problem)
    return getattr(module, name)


def _module(kind: str, text: str, place: str, folder: Path) -> ModuleType:
    try:
        if place.endswith(".py"):
            return _module_from_file(kind, text, folder / place)
        return importlib.import_module(place)
    except PluginError:
        raise
    except ModuleNotFoundError as error:
        problem = f"no module named {error.name!r}; install it or correct the name."
        raise PluginError(kind, text, problem) from error
    except (Exception, SystemExit) as error:
        problem = f"{place} cannot be imported: {type(error).__name__}: {error}"
        raise PluginError(kind, text, problem) from error


@contextlib.contextmanager
def at_home(text: str, folder: Path) -> Iterator[None]:
    """Run code of `./file.py:Name` as if it were started where the file lies; else change nothing.

    So it may import its neighbours, and opens files beside it by their names. It may do so later,
    too, for imports: the folder stays on the path, behind all else. Modules of the same name that
    another folder's file has imported are not taken for its own.
    """
    place = text.rpartition(":")[0]
    if not place.endswith(".py"):
        yield
        return
    home = (folder / place).resolve().parent
    _forget_strangers(home)
    if str(home) not in sys.path:
        sys.path.append(str(home))
    _HOMES.add(home)
    sys.path.insert(0, str(home))
    try:
        with contextlib.chdir(home):
            yield
    finally:
        sys.path.remove(str(home))  # the first one


def _forget_strangers(home: Path) -> None:
    """Unload modules of other plug-ins' folders that have the name of one in this folder."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." in name or name.startswith("gasearch_plugin_") or not file:
            continue
        place = Path(file).parent if Path(file).name != "__init__.py" else Path(file).parents[1]
        if place not in _HOMES or place == home:
            continue
        if (home / f"{name}.py").exists() or (home / name).is_dir():
            for loaded in [one for one in sys.modules if one.partition(".")[0] == name]:
                del sys.modules[loaded]


def class_name(kind: type) -> str:
    """Return module and name of a class, the same wherever the file lies that it comes from."""
    module = re.sub(r"^(gasearch_plugin_.*)_[0-9a-f]{12}$", r"\1", kind.__module__)
    return f"{module}.{kind.__qualname__}"


def _module_from_file(kind: str, text: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise PluginError(kind, text, f"there is no file {path}.")
    # Registered under a name of its own, so that instances can be pickled to worker processes.
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"gasearch_plugin_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise PluginError(kind, text, f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    writes_no_cache = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # nothing is left in the folder of a run
    try:
        with at_home(f"{path.name}:", path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.dont_write_bytecode = writes_no_cache
    return module
