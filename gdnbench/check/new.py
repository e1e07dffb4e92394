"""Writing a mixer to start from, with its test."""

import importlib.util
import keyword
import re
from importlib.resources import files
from pathlib import Path

from gdnbench.errors import GdnbenchError
from gdnbench.files import write_text
from gdnbench.models import registry

START = "gdnbench.check.start"


def new_mixer(name: str, folder: Path) -> list[Path]:
    """Write ``<name>.py`` and ``test_<name>.py`` and return their paths.

    Raises:
        GdnbenchError: the name is no name of a Python file or is taken, or a file is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise GdnbenchError(
            f"new-mixer {name!r}: expected small letters, digits and underscores (no word of Python), such as my_mixer"
        )
    if name in (*registry.names(), "hybrid", "new_mixer"):
        raise GdnbenchError(f"new-mixer {name}: a mixer of this name exists already; choose another")
    module = importlib.util.find_spec(name)
    if module is not None and module.origin is not None and not (folder / f"{name}.py").exists():
        raise GdnbenchError(f"new-mixer {name}: its file would hide the module {module.origin}; choose another name")
    paths = [folder / f"{name}.py", folder / f"test_{name}.py"]
    for path in paths:
        if path.exists():
            raise GdnbenchError(f"{path}: is there already, and stays as it is; choose another name or folder")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    for path, start in zip(paths, ("mixer.py", "test_mixer.py"), strict=True):
        text = files(START).joinpath(start).read_text(encoding="utf-8")
        write_text(path, text.replace("NewMixer", class_name).replace("new_mixer", name))
    return paths
