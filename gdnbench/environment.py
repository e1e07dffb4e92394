"""What a number was measured on: device, driver, library versions, commit, and the digest of the source files."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from gdnbench.errors import GdnbenchError
from gdnbench.version import GIVEN_COMMIT, __version__, stated_commit

PACKAGE = Path(__file__).resolve().parent
DEVICES = ("cpu", "cuda")
SOURCES = (".py", ".yaml", ".json")
LIBRARIES = (
    "torch", "triton", "numpy", "tokenizers", "transformers", "flash-linear-attention", "fla-core", "flash-qla",
    "tilelang", "flashinfer-python", "mamba-ssm", "causal-conv1d", "flash-attn",
)  # fmt: skip


def describe(device: str) -> dict[str, Any]:
    """Return the record's environment block for runs on ``device`` (``cpu`` or ``cuda``)."""
    commit, dirty = git_state()
    return {
        "device": device_name(device),
        "driver": driver_version() if device == "cuda" else None,
        "cuda": torch.version.cuda if device == "cuda" else None,
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "memory_gib": round(memory_gib(), 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {"gdnbench": __version__, **library_versions()},
        "commit": commit,
        "commit_source": None if commit is None else GIVEN_COMMIT if stated_commit() else "git",
        "dirty": dirty,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def check_device_name(device: str) -> None:
    """Raise unless ``device`` is a name that exists, whether this machine has it or not."""
    if device not in DEVICES:
        raise GdnbenchError(f"unknown device {device!r}; known: {', '.join(DEVICES)}")


def check_device(device: str, dtype: str = "") -> None:
    """Raise unless ``device`` is there and computes in ``dtype``; nothing falls back to another one."""
    check_device_name(device)
    if device != "cuda":
        return
    if not torch.cuda.is_available():
        raise GdnbenchError("device cuda was asked for, but no usable NVIDIA GPU was found; `gdnbench doctor` says why")
    if dtype == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        major, minor = torch.cuda.get_device_capability()
        raise GdnbenchError(
            f"{torch.cuda.get_device_name()} (compute capability {major}.{minor}) does not compute in bfloat16: it "
            "takes 8.0 (A100) or later, or a preset with dtype: float32"
        )


def device_name(device: str) -> str:
    """Return the name of the CPU or the GPU."""
    return torch.cuda.get_device_name() if device == "cuda" else cpu_name()


def cpu_name() -> str:
    """Return the processor's name as the kernel gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> float:
    """Return the machine's memory in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def library_versions() -> dict[str, str]:
    """Return the versions of the installed libraries that can change a number."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {**found, "torch": torch.__version__}


def driver_version() -> str | None:
    """Return the NVIDIA driver's version, or None where none answers."""
    return _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0")


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Return commit and dirty flag of the checkout this code is in; (None, None) for an installed package.

    Stored results and rendered reports do not make a checkout dirty: they are what running it writes. Where files were
    copied to another machine, without their checkout or over another one, the variable ``GDNBENCH_COMMIT`` states the
    commit, with ``-dirty`` at its end for a changed tree; without that, whether it was changed is not known. The
    record says that the commit was stated, and holds the digest of the sources besides.
    """
    root = PACKAGE.parent
    stated = stated_commit()
    if stated:
        return stated.removesuffix("-dirty"), True if stated.endswith("-dirty") else None
    if not (root / ".git").exists():
        return None, None
    commit = _output("git", "-C", str(root), "rev-parse", "HEAD")
    changes = _output("git", "-C", str(root), "status", "--porcelain", "--", ".", ":!results", ":!reports")
    return commit, None if commit is None else bool(changes)


def digest_of(paths: Iterable[Path]) -> str:
    """Return the SHA-256 over the contents of files and, recursively, of the source files in folders."""
    hasher = hashlib.sha256()
    for path in paths:
        files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.suffix in SOURCES)
        for file in files:
            name = file.relative_to(path.parent).as_posix()
            hasher.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return hasher.hexdigest()


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
