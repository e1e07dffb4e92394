"""Kernel names and what they belong to; a profile's times grouped, with nothing lost."""

import ast

import pytest

from gdnbench.measure.training import components
from gdnbench.measure.training.components import by_component, component_of, grouped
from tests.runs.tiny import ROOT

# Names as the profiler gives them, of the libraries whose steps are measured.
KNOWN = {
    components.MATMUL: (
        "nvjet_tst_192x192_64x4_2x1_v_bz_coopB_TNN",
        "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_128x2_tn_align8>(...)",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64",
        "void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16>(...)",
        "triton_tem_fused_mm_3",
    ),
    components.ATTENTION: (
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4>>(...)",
        "void pytorch_flash::flash_bwd_convert_dq_kernel<...>(...)",
        "cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16_knob_7_64x128x64_1x1x1",
        "void cudnn::fusion::compute_dot_do_o_specialized<true, __nv_bfloat16>(...)",
    ),
    components.MIXER: (
        "chunk_gated_delta_rule_fwd_kernel_h_blockdim64",
        "chunk_bwd_kernel_dqkwg",
        "recompute_w_u_fwd_kernel",
        "prepare_wy_repr_bwd_kernel",
        "merge_16x16_to_64x64_inverse_kernel",
        "chunk_dplr_bwd_kernel_dhu",
        "_chunk_scan_chunk_state_bwd_dx_kernel",
        "_state_passing_fwd_kernel",
        "_bmm_chunk_fwd_kernel",
    ),
    components.CONVOLUTION: ("causal_conv1d_bwd_kernel", "void causal_conv1d_fwd_kernel<...>"),
    components.ELEMENTWISE: (
        "triton_poi_fused_add_mul_silu_4",
        "triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_2",
        "void at::native::vectorized_elementwise_kernel<4, at::native::BinaryFunctor<...>>(...)",
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::sum_functor<...>>>(...)",
        "layer_norm_gated_bwd_kernel",
        "l2norm_fwd_kernel",
        "swiglu_fwdbwd_kernel",
        "token_shift_fwd_kernel_long",
        "addcmul_bwd_kernel1",
    ),
    components.LOSS: (
        "cross_entropy_fwd_kernel",
        "triton_red_fused__log_softmax__to_copy_nll_loss_forward_9",
        "void at::native::(anonymous namespace)::cunn_SoftMaxForward<...>(...)",
    ),
    components.EMBEDDING: (
        "void at::native::(anonymous namespace)::compute_grad_weight<float, long>(...)",
        "triton_poi_fused_embedding_dense_backward_0",
        "void at_cuda_detail::cub::DeviceRadixSortOnesweepKernel<...>(...)",
        "void at::native::(anonymous namespace)::indexSelectLargeIndex<...>(...)",
    ),
    components.OPTIMIZER: (
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<..., FusedAdamMathFunctor<float, 4, ...>>",
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<..., LpNormFunctor<float, ...>>",
    ),
    components.COPIES: (
        "Memcpy DtoD (Device -> Device)",
        "Memset (Device)",
        "void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda(...)::{lambda()#3}>(...)",
        "void at::native::vectorized_elementwise_kernel<4, at::native::bfloat16_copy_kernel_cuda(...)>",
        "triton_poi_fused__to_copy_t_7",
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy<...>(...)",
    ),
    components.OTHER: ("somebodys_new_kernel",),
}


@pytest.mark.parametrize(("component", "name"), [(c, name) for c, names in KNOWN.items() for name in names])
def test_a_name_belongs_to_its_component(component, name):
    assert component_of(name) == component


OPERATIONS = {
    "gated_delta": components.MIXER,
    "ssd": components.MIXER,
    "wkv7": components.MIXER,
    "short_convolution": components.CONVOLUTION,
    "gated_norm": components.ELEMENTWISE,
    "add_norm": components.ELEMENTWISE,
    "linear_cross_entropy": components.LOSS,
}


def own_kernels():
    """Yield (operation, name) of every device function that is launched."""
    for operation in OPERATIONS:
        for path in sorted((ROOT / "kernels/gdnbench_kernels" / operation).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                jitted = any("jit" in ast.unparse(mark) for mark in getattr(node, "decorator_list", ()))
                if jitted and node.name.endswith("kernel"):
                    yield operation, node.name


def test_every_kernel_of_this_project_is_known_by_name():
    found = set(own_kernels())
    assert {operation for operation, _ in found} >= {"gated_delta", "short_convolution", "gated_norm"}
    wrong = {pair for pair in found if component_of(pair[1]) != OPERATIONS[pair[0]]}
    assert not wrong, "name the kernel, or gdnbench.measure.training.components.NAMES, so that a profile knows it"


def test_times_are_summed_by_name_and_component_and_the_rest_is_idle():
    kernels = [("nvjet_a", 3.0), ("nvjet_a", 5.0), ("nvjet_b", 2.0), ("somebodys", 1.0), ("nvjet_a", 4.0)]
    found = grouped(kernels, steps=2)
    assert [(kernel.name, kernel.ms, kernel.calls) for kernel in found] == [
        ("nvjet_a", 6.0, 1.5), ("nvjet_b", 1.0, 0.5), ("somebodys", 0.5, 0.5),
    ]  # fmt: skip
    times = by_component(found, step_ms=10.0)
    assert times == {components.MATMUL: 7.0, components.IDLE: 2.5, components.OTHER: 0.5}
    assert list(times) == [name for name in components.COMPONENTS if name in times]


def test_kernels_that_overlap_leave_no_negative_idleness():
    assert by_component(grouped([("nvjet_a", 12.0)], steps=1), step_ms=10.0)[components.IDLE] == 0.0
