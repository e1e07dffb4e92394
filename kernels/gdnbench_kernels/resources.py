"""What a compiled kernel takes of a GPU - registers, spills, shared memory, matrix units - found without one.

A recorded launch goes through Triton's own just-in-time path (its specialization of arguments, its cache key, its
options) behind a driver that only names an architecture; what is compiled is therefore what a GPU would run.
"""

import contextlib
import io
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget

from gdnbench_kernels.gpu.hardware import SHARED_LIMIT
from gdnbench_kernels.launching import Launch

TRITON_VERSION: str = triton.__version__

REGISTERS_PER_SM = 64 * 1024
REGISTER_UNIT = 8  # registers of a thread are handed out in eights
WARP = 32

# Matrix instructions by their names in the machine code; HGMMA whose left operand is a register is counted apart,
# because the ptxas that Triton 3.6 bundles is known to get some of these wrong (triton#9433).
_WGMMA = re.compile(r"\b[HIQ]GMMA\.\S+ +R\d+, *(\S+)")
_MMA = re.compile(r"\b[HIQD]MMA\.")
_TCGEN05 = re.compile(r"\bUTC[A-Z]*MMA\b")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """One compiled kernel.

    Attributes:
        registers: of a thread.
        spill_bytes: stored to and loaded from local memory for want of registers, bytes of a thread.
        shared_bytes: shared memory of a block.
        threads: of a block, all warps that the kernel starts included.
        wgmma_ss: Hopper's warpgroup products with both operands in shared memory, instructions in the machine code.
        wgmma_rs: the same with the left operand in registers.
        mma: products of a warp (``mma.sync``).
        tcgen05: Blackwell's products in tensor memory.
        serialized: whether ptxas had to wait after each warpgroup product.
    """

    registers: int
    spill_bytes: int
    shared_bytes: int
    threads: int
    wgmma_ss: int = 0
    wgmma_rs: int = 0
    mma: int = 0
    tcgen05: int = 0
    serialized: bool = False

    @property
    def blocks_by_registers(self) -> int:
        """Blocks that fit on an SM as far as registers go."""
        allocated = -(-self.registers // REGISTER_UNIT) * REGISTER_UNIT
        return REGISTERS_PER_SM // (allocated * self.threads)


class CompilationFailed(RuntimeError):
    """A kernel that the compiler refuses, or that a GPU could not launch; the message is one line that says why."""


def specialization(launch: Launch, arch: int) -> str:
    """Return the key under which Triton would cache the kernel: launches with equal keys run the same machine code."""
    keys: list[str] = []

    def keep(*, key: str, **_: Any) -> bool:
        keys.append(key)
        return True  # Triton takes it that the kernel is cached, and compiles nothing.

    with _architecture(arch), _hook(keep):
        _warm_up(launch)
    kernel = launch.kernel
    return f"{kernel.module}.{kernel.__name__} {keys[0]}"


def measure(launch: Launch, arch: int) -> Resources:
    """Compile a launch's kernel for ``arch`` (80, 90, 100) and return what it takes.

    Raises:
        CompilationFailed: Triton, LLVM or ptxas refused, or a block wants more shared memory than there is.
    """
    said = io.StringIO()
    try:
        # Triton prints what ptxas said; it has no other way of telling.
        with _architecture(arch), _compiling_afresh(launch.kernel, arch), contextlib.redirect_stdout(said):
            compiled = _warm_up(launch)
    except Exception as error:
        raise CompilationFailed(_telling_line(error)) from error
    if compiled.metadata.shared > SHARED_LIMIT[arch]:
        wanted = f"{compiled.metadata.shared} bytes of shared memory, a block has at most {SHARED_LIMIT[arch]}"
        raise CompilationFailed(f"wants {wanted}")
    return _read(compiled, said.getvalue(), _disassemble(compiled.asm["cubin"]))


def compile_ahead(launch: Launch, arch: int) -> None:
    """Compile a launch's kernel into Triton's cache, where a GPU of ``arch`` with the same Triton will find it."""
    with _architecture(arch):
        _warm_up(launch)


def ptxas_version(arch: int) -> str:
    """Return the version of the assembler that Triton uses for ``arch``."""
    tool = knobs.nvidia.ptxas_blackwell if arch >= 100 else knobs.nvidia.ptxas
    said = subprocess.run([tool.path, "--version"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"\bV([\d.]+)", said)[0]


def _warm_up(launch: Launch) -> Any:
    return launch.kernel.warmup(grid=launch.grid, **launch.arguments, **launch.options)


class _Named:
    """A driver of a GPU that is not there, as far as compilation asks one."""

    def __init__(self, arch: int):
        self.arch = arch

    def get_current_device(self) -> int:
        return self.arch  # Triton keeps the kernels of each device apart.

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, WARP)


@contextlib.contextmanager
def _architecture(arch: int) -> Iterator[None]:
    drivers = triton.runtime.driver
    before = drivers._active
    drivers.set_active(_Named(arch))
    try:
        yield
    finally:
        drivers._active = before


@contextlib.contextmanager
def _compiling_afresh(kernel: Any, arch: int) -> Iterator[None]:
    """Let Triton take nothing from its caches, in memory or on disk, and leave nothing there."""
    kernel.device_caches.pop(arch, None)
    with tempfile.TemporaryDirectory() as folder, knobs.cache.scope(), knobs.nvidia.scope():
        knobs.cache.dir = folder
        knobs.nvidia.dump_ptxas_log = True
        yield


@contextlib.contextmanager
def _hook(function: Any) -> Iterator[None]:
    with knobs.runtime.scope():
        knobs.runtime.jit_cache_hook = function
        yield


def _disassemble(cubin: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.nvdisasm.path, "-c", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _read(compiled: Any, log: str, machine_code: str) -> Resources:
    left = _WGMMA.findall(machine_code)
    in_registers = sum(not operand.startswith("gdesc") for operand in left)
    return Resources(
        registers=max(map(int, re.findall(r"Used (\d+) registers", log))),
        spill_bytes=sum(map(int, re.findall(r"(\d+) bytes spill", log))),
        shared_bytes=compiled.metadata.shared,
        threads=int(re.findall(r"\.reqntid +(\d+)", compiled.asm["ptx"])[0]),
        wgmma_ss=len(left) - in_registers,
        wgmma_rs=in_registers,
        mma=len(_MMA.findall(machine_code)),
        tcgen05=len(_TCGEN05.findall(machine_code)),
        serialized="are serialized due to" in log,
    )


def _telling_line(error: BaseException) -> str:
    """Return one line of the innermost cause, for the compiler's messages are long."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" ^")]
    telling = [line for line in lines if "error" in line.lower()] or lines[-1:]
    return ": ".join([type(error).__name__, *telling[:1]])
