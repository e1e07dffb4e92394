"""What this machine has: device, libraries, and which kernel backends work or why not."""

import importlib.metadata
import shutil

import torch
from gdnbench_kernels import backends

from gdnbench import environment
from gdnbench.version import __version__

# What an extra brings, and the command that installs it.
EXTRAS = {
    "triton": ("kernels of our own on a GPU", 'pip install "gdnbench[triton]"'),
    "pyarrow": ("corpora from the Hugging Face hub", 'pip install "gdnbench[hub]"'),
    "zstandard": (".txt.zst corpora", 'pip install "gdnbench[zstd]"'),
    "nvidia-ml-py": ("GPU clocks and throttle reasons", 'pip install "gdnbench[gpu]"'),
    "transformers": ("models to compare with (parity)", 'pip install "gdnbench[parity]"'),
    "lm-eval": ("evaluation tasks", 'pip install "gdnbench[eval]"'),
    "flash-linear-attention": ("comparand kernels", 'pip install "gdnbench[fla]"'),
    "flash-qla": ("comparand kernels", 'pip install "gdnbench[qla]"'),
    "flashinfer-python": ("comparand kernels", 'pip install "gdnbench[flashinfer]"'),
    "flash-attn": ("comparand kernels", 'pip install --no-build-isolation "gdnbench[flash]"'),
    "liger-kernel": ("comparand kernels", 'pip install "gdnbench[liger]"'),
    "mamba-ssm": (
        "comparand kernels",
        "MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE pip install --no-deps --no-build-isolation mamba-ssm einops",
    ),
}


def examine() -> list[str]:
    """Return the findings as lines."""
    return [*_machine(), "", *_backends(), "", *_libraries()]


def _machine() -> list[str]:
    about = environment.describe("cpu")
    dirty = " (dirty)" if about["dirty"] else ""
    lines = [
        f"gdnbench {__version__}, commit {about['commit'] or 'unknown (not a checkout)'}{dirty}",
        f"python {about['python']} on {about['platform']}",
        f"cpu: {about['cpu']}, {about['cores']} usable cores, {about['memory_gib']} GiB of memory",
        f"torch {torch.__version__}, built for CUDA {torch.version.cuda or 'none: CPU only'}",
    ]
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        name, driver = torch.cuda.get_device_name(), environment.driver_version()
        lines.append(f"gpu: {name}, sm_{major}{minor}, {memory:.0f} GiB, driver {driver}")
    elif shutil.which("nvidia-smi"):
        lines.append("gpu: nvidia-smi is there, but torch cannot use a GPU (a CPU build of torch, or no driver)")
    else:
        lines.append("gpu: none found")
    return lines


def _backends() -> list[str]:
    lines = ["backends by operation:"]
    for operation in backends.OPERATIONS:
        for name in backends.names(operation):
            reason = backends.why_unavailable(operation, name)
            lines.append(f"  {operation:20} {name:10} {'works' if reason is None else f'unavailable: {reason}'}")
    return lines


def _libraries() -> list[str]:
    lines = ["optional libraries:"]
    for name, (use, command) in EXTRAS.items():
        try:
            state = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            state = f"missing; {command}"
        lines.append(f"  {name:24} {use:34} {state}")
    return lines
