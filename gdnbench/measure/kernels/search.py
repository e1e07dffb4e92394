"""The search of kernel configurations, on the GPU at hand: what ``gdnbench tune`` prints or writes."""

from collections.abc import Callable, Sequence

from gdnbench.environment import check_device
from gdnbench.errors import GdnbenchError
from gdnbench.files import write_text
from gdnbench.measure.kernels.case import parse_shape
from gdnbench.measure.kernels.grid import GPU_SHAPES


def table(
    shapes: Sequence[str], kernels: Sequence[str], *, workers: int, write: bool, say: Callable[[str], None]
) -> str:
    """Search the kernels at the shapes and return the whole table of configurations; with ``write``, store it, too.

    Args:
        shapes: ``B,T,H,K,V`` each, or several in one string; none: those of the benchmark.
        kernels: names; none: all.
        workers: processes that compile.
        write: whether to rewrite the package's file.
        say: takes lines of progress.

    Raises:
        GdnbenchError: a shape cannot be read, a kernel does not exist, or there is no GPU.
    """
    from gdnbench_kernels.gated_delta.gpu import configurations, tuning

    unknown = [name for name in kernels if name not in tuning.KERNELS]
    if unknown:
        raise GdnbenchError(f"--kernels {unknown[0]}: expected one of {', '.join(tuning.KERNELS)}")
    if workers < 1:
        raise GdnbenchError(f"--workers {workers}: expected a whole number above 0")
    sizes = [text for entry in shapes for text in entry.split()] or GPU_SHAPES
    parsed = [parse_shape(text) for text in sizes]
    check_device("cuda")
    found = tuning.tune(parsed, kernels or tuning.KERNELS, workers=workers, say=say)  # type: ignore[arg-type]
    text = tuning.as_text(tuning.merged(configurations.table(), found))
    if write:
        write_text(configurations.FILE, text)
        say(f"wrote {configurations.FILE}; `gdnbench bench check --update` records what its kernels take")
    return text
