"""Parquet files of the Hugging Face hub: finding them in a local copy, downloading them, streaming their text."""

import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gdnbench.errors import GdnbenchError

# The hub says `validation` where this suite says `valid`.
HUB_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
SHARD = re.compile(r"-(\d+)-of-(\d+)")


def require(module: str, purpose: str) -> Any:
    """Import an optional dependency of the extra ``hub``, or raise `GdnbenchError` with what installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise GdnbenchError(f'{purpose} needs {name}: pip install "gdnbench[hub]"') from None


def parquet_texts(paths: Iterable[Path], column: str = "text") -> Iterator[str]:
    """Yield the values of the text ``column`` of parquet files, a batch of rows in memory at a time."""
    arrow = require("pyarrow", "reading parquet files")
    parquet = require("pyarrow.parquet", "reading parquet files")
    for path in paths:
        try:
            with parquet.ParquetFile(path) as file:
                names = file.schema_arrow.names
                if column not in names:
                    raise GdnbenchError(f"{path}: no column {column!r}; found {', '.join(names)}")
                for batch in file.iter_batches(batch_size=1024, columns=[column]):
                    yield from _strings(batch.column(0), path)
        except (OSError, UnicodeDecodeError, arrow.ArrowException) as error:
            raise GdnbenchError(f"{path}: not readable as parquet: {' '.join(str(error).split())}") from error


def _strings(values: Any, path: Path) -> list[str]:
    if values.null_count:
        raise GdnbenchError(f"{path}: {values.null_count} rows of its text column are null; expected text")
    return list(values.to_pylist())


def local_shards(folder: Path, split: str) -> list[Path]:
    """Return the parquet files of ``split`` in ``folder``, by name, or none; a missing shard raises `GdnbenchError`."""
    paths = sorted(folder.glob(f"{HUB_SPLITS[split]}-*.parquet")) or sorted(folder.glob(f"{HUB_SPLITS[split]}.parquet"))
    totals = {int(match[2]) for path in paths if (match := SHARD.search(path.name))}
    if totals and totals != {len(paths)}:
        raise GdnbenchError(f"{folder}: {len(paths)} parquet files of split {split}, but their names say {totals}")
    return paths


def hub_revision(repo: str, name: str) -> str:
    """Return the commit that the dataset ``repo`` has on the hub now."""
    hub = require("huggingface_hub", f"corpus {name} from the hub")
    try:
        return str(hub.HfApi().dataset_info(repo).sha)
    except Exception as error:  # the class depends on the hub library's version and its HTTP client
        raise _unreachable(name, repo, error) from error


def hub_files(repo: str, revision: str, folder: str, prefix: str, name: str) -> Iterator[Path]:
    """Yield local copies of the parquet files ``folder/prefix*`` of a dataset, each downloaded when it is reached."""
    hub = require("huggingface_hub", f"corpus {name} from the hub")
    try:
        listed = hub.HfApi().list_repo_files(repo, repo_type="dataset", revision=revision)
        wanted = sorted(path for path in listed if path.startswith(f"{folder}/{prefix}") and path.endswith(".parquet"))
    except Exception as error:  # as above
        raise _unreachable(name, repo, error) from error
    if not wanted:
        raise GdnbenchError(f"corpus {name}: {repo} at {revision} has no parquet files {folder}/{prefix}*")
    for path in wanted:
        try:
            local = hub.hf_hub_download(repo, path, repo_type="dataset", revision=revision)
        except Exception as error:  # as above
            raise _unreachable(name, repo, error) from error
        yield Path(local)


def _unreachable(name: str, repo: str, error: Exception) -> GdnbenchError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return GdnbenchError(
        f"corpus {name}: dataset {repo} could not be had from the Hugging Face hub ({reason}); "
        f"give a local copy as {name}:<folder>"
    )
