"""Mixers by name: found in `gdnbench_baselines`, in installed packages' entry points, or in a file given by path."""

import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType

from gdnbench.errors import GdnbenchError, unknown
from gdnbench.models.mixer import Mixer

ENTRY_POINTS = "gdnbench.mixers"
_added: dict[str, type[Mixer]] = {}
# Entry points that could not be loaded, with the reason: an error for who asks for them, and for nobody else.
_broken: dict[str, str] = {}


@cache
def _installed() -> dict[str, type[Mixer]]:
    """Return the mixers of every module of `gdnbench_baselines` and of every entry point, by name."""
    baselines = importlib.import_module("gdnbench_baselines")
    # Walked rather than read from entry points, which do not exist in a clone that was never installed.
    found = {
        module.name: mixer_of(importlib.import_module(f"gdnbench_baselines.{module.name}"))
        for module in pkgutil.iter_modules(baselines.__path__)
        if not module.ispkg
    }
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            if point.name in found:
                raise GdnbenchError(f"a mixer called {point.name!r} exists already")
            found[point.name] = _offered(point.load())
        except Exception as error:
            _broken[point.name] = f"entry point {point.name} = {point.value}: {type(error).__name__}: {error}"
            if point.name in found:
                warnings.warn(f"{_broken[point.name]}; it is left out", RuntimeWarning, stacklevel=2)
    return found


def _offered(loaded: object) -> type[Mixer]:
    """Return the mixer of what an entry point names: a module with one Mixer class, or such a class."""
    if isinstance(loaded, ModuleType):
        return mixer_of(loaded)
    if inspect.isclass(loaded) and issubclass(loaded, Mixer):
        return loaded
    raise GdnbenchError(f"expected a Mixer class or a module with one, found {loaded!r}")


def names() -> list[str]:
    """Return all known mixer names."""
    return sorted({**_installed(), **_added})


def find(name: str) -> type[Mixer]:
    """Return the mixer class called ``name``; raise with the nearest names where there is none."""
    known = {**_installed(), **_added}
    if name not in known:
        if name in _broken:
            raise GdnbenchError(_broken[name])
        raise unknown("architecture", name, [*known, "hybrid"])
    return known[name]


def resolve(name_or_file: str) -> str:
    """Return the name of a mixer that is given by its name, or by its file ``*.py``, which is imported."""
    if name_or_file.endswith(".py"):
        return add_file(Path(name_or_file))
    find(name_or_file)
    return name_or_file


def add_file(path: Path) -> str:
    """Import a mixer from a file outside the repository and return the name (the file's stem) it goes by."""
    if not path.is_file():
        raise GdnbenchError(f"{path}: no such file; a mixer is a Python file with one Mixer class")
    name = path.stem
    if name in names() and source_file(name) != path.resolve():
        raise GdnbenchError(f"{path}: a mixer called {name!r} exists already; rename the file")
    spec = importlib.util.spec_from_file_location(f"gdnbench_variant_{name}", path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise GdnbenchError(f"{path}: does not import: {type(error).__name__}: {error}") from error
    _added[name] = mixer_of(module)
    return name


def mixer_of(module: ModuleType) -> type[Mixer]:
    """Return the one Mixer class that ``module`` defines."""
    own = [
        item
        for item in vars(module).values()
        if inspect.isclass(item) and issubclass(item, Mixer) and item.__module__ == module.__name__
    ]
    if len(own) != 1:
        found = f"{len(own)}{': ' if own else ''}{', '.join(one.__name__ for one in own)}"
        raise GdnbenchError(f"{module.__file__}: expected one Mixer class in the file, found {found}")
    return own[0]


def source_file(name: str) -> Path:
    """Return the file that defines the mixer ``name``."""
    return Path(inspect.getfile(find(name))).resolve()


def source_files(name: str) -> list[Path]:
    """Return the files of a mixer and of the mixers that it derives from: they determine a run's numbers, too."""
    classes = [one for one in find(name).__mro__ if issubclass(one, Mixer) and one is not Mixer]
    return list(dict.fromkeys(Path(inspect.getfile(one)).resolve() for one in classes))
