"""What a training step consists of, and which of it a GPU kernel belongs to, by the kernel's name."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

MATMUL = "matrix products"
MIXER = "mixer"
ATTENTION = "attention"
CONVOLUTION = "convolution"
ELEMENTWISE = "norms and element-wise"
LOSS = "loss"
EMBEDDING = "embedding"
OPTIMIZER = "optimizer"
COPIES = "copies and casts"
IDLE = "idle"
OTHER = "other"

# In the order of tables and figures.
COMPONENTS = (
    MATMUL, MIXER, ATTENTION, CONVOLUTION, ELEMENTWISE, LOSS, EMBEDDING, OPTIMIZER, COPIES, IDLE, OTHER,
)  # fmt: skip

# Expressions searched for in a kernel's name; the first that is found decides. Names are those of this project's
# kernels, of flash-linear-attention's and mamba-ssm's, of PyTorch's (at::native, inductor's triton_*) and of NVIDIA's
# libraries. What none of them fits is "other", which is shown.
NAMES: tuple[tuple[str, str], ...] = (
    (LOSS, r"^rows_kernel|cross_entropy|nll_loss|log_?softmax|softmax_warp|SoftMax|logsumexp"),
    (ATTENTION, r"flash_(fwd|bwd)|flash::|fmha|sdpa|compute_dot_do_o|convert_dq"),
    (CONVOLUTION, r"conv1d|^convolution_"),
    (COPIES, r"^Mem(cpy|set)|[a-z0-9]_copy_kernel|CatArrayBatchedCopy|multi_tensor_apply.*Copy|FillFunctor"),
    (COPIES, r"^triton_poi_fused__to_copy(_(t|view|clone|transpose|permute))*_\d+"),
    (OPTIMIZER, r"multi_tensor_apply|FusedAdam|LpNorm"),
    (ELEMENTWISE, r"norm|token_shift|addcmul|k_update|gate_output_correction|relu_square|swiglu|rotary"),
    (
        MIXER,
        r"^(prepare|scan|reverse|gradients|finish|reach|chain|step)_kernel|^ssd_|^wkv7?_|chunk_|gated_delta|dplr"
        r"|delta_rule|wy_|wu_fwd|w_u_fwd|inverse_kernel|solve_tril|cumsum|gdn_gate|beta_sigmoid|state_passing",
    ),
    (MATMUL, r"nvjet|cutlass|gemm|gemv|cublas|xmma|splitK|^triton_tem_"),
    # Its gradient sorts tokens, which nothing else does.
    (
        EMBEDDING,
        r"embedding|indexSelect|index_select|_scatter_gather|index_put|compute_grad_weight|krn_partial|cub::|thrust::",
    ),
    (ELEMENTWISE, r"^triton_(poi|red|per|for)_fused|elementwise_kernel|reduce_kernel|silu|swish|sigmoid|_add_kernel"),
)
_PATTERNS = tuple((component, re.compile(pattern)) for component, pattern in NAMES)


@dataclass(frozen=True, kw_only=True)
class KernelTime:
    """A kernel's share of a step: its name, what it belongs to, milliseconds and calls in a step."""

    name: str
    component: str
    ms: float
    calls: float


def component_of(name: str) -> str:
    """Return what a kernel belongs to."""
    return next((component for component, pattern in _PATTERNS if pattern.search(name)), OTHER)


def grouped(kernels: Iterable[tuple[str, float]], steps: int) -> list[KernelTime]:
    """Return the kernels (name, milliseconds) of so many profiled steps by name, the longest first."""
    times: dict[str, list[float]] = {}
    for name, ms in kernels:
        times.setdefault(name, []).append(ms)
    found = [
        KernelTime(name=name, component=component_of(name), ms=sum(each) / steps, calls=len(each) / steps)
        for name, each in times.items()
    ]
    return sorted(found, key=lambda kernel: (-kernel.ms, kernel.name))


def by_component(kernels: Iterable[KernelTime], step_ms: float) -> dict[str, float]:
    """Return component -> milliseconds of a step; what no kernel fills of ``step_ms`` is idle."""
    times: dict[str, float] = {}
    for kernel in kernels:
        times[kernel.component] = times.get(kernel.component, 0.0) + kernel.ms
    times[IDLE] = max(0.0, step_ms - sum(times.values()))
    return {name: times[name] for name in COMPONENTS if name in times}
