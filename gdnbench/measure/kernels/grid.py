"""Which measurements a run consists of, the most important first: a budget may end before the list does."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gdnbench_kernels import backends

from gdnbench.errors import GdnbenchError, unknown
from gdnbench.measure.kernels.case import Direction, KernelCase, Shape, Timing, parse_shape
from gdnbench.measure.kernels.operations import FUSED, MIXER_PEERS, MIXERS
from gdnbench.measure.kernels.operations.gated_delta import GATES, SCALED_GATES
from gdnbench.measure.kernels.operations.loss import OP as LOSS

# The shapes of the targets: FlashQLA's ground, one long sequence, and the paper's geometry (K = d/8, V = d/4).
GPU_SHAPES = (
    "8,4096,16,128,128", "1,32768,16,128,128", "60,1024,6,32,64", "32,1024,6,96,192", "32,1024,6,128,256",
    "8,4096,6,256,512",
)  # fmt: skip
CPU_SHAPES = ("1,256,2,32,64",)
# Of head and loss, H being 1: the widths of 125M and of 1.3B parameters.
LOSS_SHAPES = {"cuda": ("32,2048,1,768,32000", "16,2048,1,2048,32000"), "cpu": ("1,256,1,64,1000",)}
STEP = {"cuda": "64,16,128,128", "cpu": "2,2,32,32"}  # B,H,K,V of the decode step
PARTS = ("delta", "decode", "gating", "fused", "mixers")
DIRECTIONS: tuple[Direction, ...] = ("forward", "forward_backward", "backward")
GATE_REGIMES = ("default", "strong", "none")
QK_NORMS = ("given", "raw")
OWN = ("triton", "torch", "reference")  # backends that take raw gates
PLAIN = ("torch", "reference")  # backends that no one would pick on a GPU; on a CPU, torch is timed
DTYPES = ("bfloat16", "float16", "float32", "float64")
DEFAULT_PEER = "fla"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked for; `chosen` makes one from what a user types."""

    shapes: tuple[Shape, ...]
    step: Shape
    backends: tuple[str, ...]
    peer: str | None
    directions: tuple[Direction, ...]
    gates: tuple[str, ...]
    qk: tuple[str, ...]
    timings: tuple[Timing, ...]
    parts: tuple[str, ...]
    repeats: int
    dtype: str
    device: str
    seed: int


@dataclass(frozen=True)
class Group:
    """Cases that are timed in turn; ``peer`` is the one that the others are compared with, by its place."""

    cases: tuple[KernelCase, ...]
    peer: int | None

    @property
    def label(self) -> str:
        """What the cases have in common, in words."""
        case = self.cases[0]
        return f"{case.op} {case.shape} {case.gates} {case.qk_norm} {case.direction} {case.timing}"


@dataclass(frozen=True)
class Block:
    """Groups of one operation that share inputs and correctness checks."""

    groups: tuple[Group, ...]


def chosen(
    *,
    device: str,
    shapes: Sequence[str] = (),
    step: str | None = None,
    names: Sequence[str] = (),
    peer: str | None = None,
    directions: Sequence[str] = (),
    gates: Sequence[str] = (),
    qk: Sequence[str] = (),
    timings: Sequence[str] = (),
    parts: Sequence[str] = (),
    repeats: int | None = None,
    dtype: str | None = None,
    seed: int = 0,
) -> Options:
    """Return the options for a device; what is empty or None takes the device's default.

    Raises:
        GdnbenchError: a name does not exist, a shape cannot be read, or a CPU is asked for device time.
    """
    on_gpu = device == "cuda"
    known = backends.names("gated_delta")
    names = _known("backend", names, known) or ([n for n in known if n not in PLAIN] if on_gpu else ["torch"])
    if not names:
        raise GdnbenchError(f"--backends: none but {', '.join(known)} exist here, and none of them is for {device}")
    if peer is not None and peer not in names:
        raise GdnbenchError(f"--peer {peer}: not among the backends that are timed ({', '.join(names)})")
    if repeats is not None and repeats < 1:
        raise GdnbenchError(f"--repeats {repeats}: expected a whole number above 0")
    clocks = _known("timing", timings, ("device", "eager")) or (["device", "eager"] if on_gpu else ["eager"])
    if not on_gpu and "device" in clocks:
        raise GdnbenchError("--timing device: a CPU has no device time apart from the call's; use --timing eager")
    batch, heads, key_dim, value_dim = parse_shape(step or STEP["cuda" if on_gpu else "cpu"], "B,H,K,V")
    sizes = [text for entry in shapes for text in entry.split()] or (GPU_SHAPES if on_gpu else CPU_SHAPES)
    return Options(
        shapes=tuple(dict.fromkeys(Shape(*parse_shape(text)) for text in sizes)),
        step=Shape(batch, 1, heads, key_dim, value_dim),
        backends=tuple(names),
        peer=peer or (DEFAULT_PEER if DEFAULT_PEER in names else None),
        directions=tuple(_known("direction", directions, DIRECTIONS) or DIRECTIONS[:2]),  # type: ignore[arg-type]
        gates=tuple(_known("gate regime", gates, GATE_REGIMES) or GATE_REGIMES),
        qk=tuple(_known("--qk choice", qk, QK_NORMS) or QK_NORMS),
        timings=tuple(clocks),  # type: ignore[arg-type]
        parts=tuple(_known("part", parts, PARTS) or PARTS),
        repeats=repeats or (30 if on_gpu else 5),
        dtype=_known("dtype", [dtype] if dtype else [], DTYPES)[0] if dtype else "bfloat16" if on_gpu else "float32",
        device=device,
        seed=seed,
    )


def blocks(options: Options) -> list[Block]:
    """Return what is asked for, the most important first.

    The gated delta rule as models start, q and k normalized beforehand; the decode step and the cost of the gating
    normalization; q and k raw; other gates; what stands around the recurrence; the other mixers. Within each, shapes
    in the order given.
    """
    common = {"dtype": options.dtype, "seed": options.seed, "device": options.device}
    regimes = [(gates, qk) for gates in GATE_REGIMES for qk in QK_NORMS if gates in options.gates and qk in options.qk]
    ranked: list[tuple[int, Block]] = []
    for gates, qk in regimes if "delta" in options.parts else []:
        rank = QK_NORMS.index(qk) * 3 + GATE_REGIMES.index(gates) * 4
        for shape in options.shapes:
            about = common | {"op": "gated_delta", "shape": shape, "qk_norm": qk, "gates": gates}
            ranked.append((rank, _side_by_side(options, options.backends, options.peer, options.directions, about)))
    for qk in options.qk if "decode" in options.parts else []:
        about = common | {"op": "gated_delta_step", "shape": options.step, "qk_norm": qk, "gates": "default"}
        ranked.append((1, _side_by_side(options, options.backends, options.peer, ("forward",), about)))
    if "gating" in options.parts:
        ranked += [(2, block) for block in _gating(options, common)]
    if "fused" in options.parts:
        ranked += [(5, block) for block in _fused(options, common)]
    if "mixers" in options.parts:
        ranked += [(6, block) for block in _mixers(options, common)]
    return [block for _, block in sorted(ranked, key=lambda pair: pair[0])]


def _side_by_side(
    options: Options, names: Sequence[str], peer: str | None, directions: Sequence[Direction], about: dict[str, Any]
) -> Block:
    place = names.index(peer) if peer in names else None
    return Block(
        tuple(
            Group(tuple(KernelCase(impl=name, direction=d, timing=t, **about) for name in names), place)
            for t, d in itertools.product(options.timings, directions)
        )
    )


def _gating(options: Options, common: dict[str, Any]) -> Iterator[Block]:
    """Yield the plain call with raw gates and the one with the gating normalization, by backend and shape."""
    for shape, name in itertools.product(options.shapes, [name for name in options.backends if name in OWN]):
        about = common | {"op": "gated_delta", "impl": name, "shape": shape, "qk_norm": "given", "gates": "default"}
        pairs = [
            Group(tuple(KernelCase(variant=v, direction=d, timing=t, **about) for v in (GATES, SCALED_GATES)), 0)
            for t, d in itertools.product(options.timings[:1], options.directions)
        ]
        yield Block(tuple(pairs))


def _mixers(options: Options, common: dict[str, Any]) -> Iterator[Block]:
    for shape, (op, names) in itertools.product(options.shapes, MIXERS.items()):
        # Attention forgets nothing; the others decay as models start. None of them takes a norm into the call.
        gates = "none" if op == "attention" else "default"
        about = common | {"op": op, "shape": shape, "qk_norm": "given", "gates": gates}
        yield _side_by_side(options, names, MIXER_PEERS.get(op), options.directions, about)


def _fused(options: Options, common: dict[str, Any]) -> Iterator[Block]:
    """Yield the operations around the recurrence, and head and loss, against plain PyTorch."""
    sizes = LOSS_SHAPES["cuda" if options.device == "cuda" else "cpu"]
    losses = [(Shape(*parse_shape(text)), LOSS) for text in sizes]
    for shape, op in (*losses, *itertools.product(options.shapes, FUSED)):
        names = [n for n in backends.names(op) if n not in PLAIN] if options.device == "cuda" else []
        about = common | {"op": op, "shape": shape, "qk_norm": "given", "gates": "none"}
        # The gradients of a loss are made forward, so that its backward pass alone is no piece of work.
        directions = [d for d in options.directions if op != LOSS or d != "backward"]
        if directions:
            yield _side_by_side(options, [*names, "torch"], "torch" if names else None, directions, about)


def without(block: Block, keep: Sequence[Group]) -> Block:
    """Return a block with only the groups to ``keep``."""
    return dataclasses.replace(block, groups=tuple(group for group in block.groups if group in keep))


def _known(kind: str, given: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the given names, each once; raise with the nearest known ones for a name that does not exist."""
    for name in given:
        if name not in known:
            raise unknown(kind, name, known)
    return list(dict.fromkeys(given))
