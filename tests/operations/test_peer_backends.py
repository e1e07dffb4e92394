"""Peers' kernels behind the switch, against stand-ins that keep each peer's signature and conventions."""

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from gdnbench_kernels import backends, fla, requirements, testing
from gdnbench_kernels.backends import BackendRefusal, BackendUnavailable
from gdnbench_kernels.gated_delta import arguments, gated_delta_rule, gated_delta_rule_step
from gdnbench_kernels.testing import Case

PEERS = ["fla", "flash_qla", "flashinfer"]
CASE = Case(batch=2, time=5, heads=1, group=2, key_dim=128, value_dim=128)


def reference(q, k, v, g, beta, *, cu_seqlens, **settings):
    """The stand-ins' arithmetic, which takes the states of packed sequences one by one."""
    return gated_delta_rule(q, k, v, g, beta, cu_seqlens=cu_seqlens, impl="reference", **settings)


def fla_rule(
    q, k, v, g, beta, scale=None, initial_state=None, output_final_state=False, use_qk_l2norm_in_kernel=False,
    use_beta_sigmoid_in_kernel=False, allow_neg_eigval=False, state_v_first=False, cu_seqlens=None,
    cu_seqlens_cpu=None, chunk_indices=None, cp_context=None, **kwargs,
):  # fmt: skip
    """fla-core 0.6.0, fla/ops/gated_delta_rule/chunk.py: unknown keywords pass unnoticed."""
    assert not kwargs.keys() - {"use_gate_in_kernel", "A_log", "dt_bias", "chunk_size"}
    assert not allow_neg_eigval or use_beta_sigmoid_in_kernel
    assert scale is not None and not state_v_first
    assert initial_state is None or initial_state.dtype == torch.float32
    gate = {"A_log": kwargs["A_log"], "dt_bias": kwargs["dt_bias"]} if kwargs.get("use_gate_in_kernel") else {}
    sigmoid = {"beta_range": 2.0 if allow_neg_eigval else 1.0} if use_beta_sigmoid_in_kernel else {}
    return reference(
        q, k, v, g, beta, scale=scale, initial_state=initial_state, output_final_state=output_final_state,
        normalize_qk=use_qk_l2norm_in_kernel, cu_seqlens=cu_seqlens, **gate, **sigmoid,
    )  # fmt: skip


def flash_qla_rule(
    q, k, v, g, beta, scale=None, initial_state=None, output_final_state=False, use_qk_l2norm_in_kernel=False,
    cu_seqlens=None, head_first=False, state_v_first=False, auto_cp=True, enable_fwd_cp_cache=True, cp_context=None,
    force_intra_cp=False,
):  # fmt: skip
    """flash-qla 0.1.3, flash_qla/ops/gated_delta_rule/chunk/__init__.py: a scale of 0 is one of K^-1/2."""
    assert q.dtype == k.dtype == v.dtype and g.dtype == torch.float32
    assert not head_first and not state_v_first and cp_context is None
    return reference(
        q, k, v, g, beta, scale=scale or q.shape[-1] ** -0.5, initial_state=initial_state, cu_seqlens=cu_seqlens,
        output_final_state=output_final_state, normalize_qk=use_qk_l2norm_in_kernel,
    )  # fmt: skip


def flashinfer_rule(
    q, k, v, g=None, beta=None, scale=None, initial_state=None, output_final_state=False, cu_seqlens=None,
    use_qk_l2norm_in_kernel=False, output=None, output_state=None, state_checkpoints=None, checkpoint_cu_starts=None,
    checkpoint_every_n_tokens=0, use_cp="auto", state_indices=None, _cp_chunk_len=None, backend="auto", max_seqlen=None,
):  # fmt: skip
    """flashinfer-python 0.7.2.post1, flashinfer/gdn_prefill.py: tokens packed, decay not its log, states [V, K]."""
    assert cu_seqlens is not None and backend == "flashinfer"
    assert q.ndim == k.ndim == v.ndim == 3 and g.ndim == beta.ndim == 2
    assert g.dtype == beta.dtype == torch.float32
    assert all(x.is_contiguous() for x in (q, k, v, g, beta, cu_seqlens))
    assert initial_state is None or initial_state.is_contiguous()
    output, state = reference(
        *(x[None] for x in (q, k, v, (g + 1e-10).log().clamp(max=0), beta)), scale=scale or q.shape[-1] ** -0.5,
        initial_state=None if initial_state is None else initial_state.mT.contiguous(), cu_seqlens=cu_seqlens,
        output_final_state=True, normalize_qk=use_qk_l2norm_in_kernel,
    )  # fmt: skip
    return (output[0], state.mT.contiguous()) if output_final_state else output[0]


def module(name, **contents):
    made = ModuleType(name)
    vars(made).update(contents)
    return made


STAND_INS = {
    "fla": ("fla.ops.gated_delta_rule", fla_rule),
    "flash_qla": ("flash_qla", flash_qla_rule),
    "flashinfer": ("flashinfer.gdn_prefill", flashinfer_rule),
}


@pytest.fixture
def installed(monkeypatch):
    """All peers as if installed, on a machine with a GPU; float32 on a CPU is let through for exact comparison."""
    for path, rule in STAND_INS.values():
        parts = path.split(".")
        for i in range(1, len(parts)):
            monkeypatch.setitem(sys.modules, ".".join(parts[:i]), module(".".join(parts[:i])))
        monkeypatch.setitem(sys.modules, path, module(path, chunk_gated_delta_rule=rule))
    monkeypatch.setattr(requirements, "version", lambda distribution: "9.9")
    monkeypatch.setattr(requirements, "missing", lambda *args, **wants: None)
    monkeypatch.setattr(arguments, "beyond_half_on_gpu", lambda *tensors: None)
    monkeypatch.setattr(backends, "_resolved", set())
    monkeypatch.setenv("FLA_FLASH_QLA", "1")
    monkeypatch.delenv("FLA_INTRACARD_CP", raising=False)
    fla.pin.cache_clear()
    yield
    fla.pin.cache_clear()


def arguments_of(kind, case=CASE):
    x = testing.inputs("gated_delta", case, dtype=torch.float32)
    settings = {"scale": 0.5, "output_final_state": True}
    if kind == "given":
        return {**x, **settings}
    heads = case.heads * case.group
    rng = torch.Generator().manual_seed(2)
    x["g"], x["beta"] = (torch.randn(x[name].shape, generator=rng) for name in ("g", "beta"))
    gates = {name: torch.randn(heads, generator=rng) for name in ("A_log", "dt_bias")}
    return {**x, **settings, **gates, "normalize_qk": True, "gate_scale": 0.7, "beta_range": float(kind)}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["given", "1.0", "2.0", "1.5"])
@pytest.mark.parametrize("peer", PEERS)
@torch.no_grad()
def test_a_peer_gets_what_its_signature_wants(peer, kind, packed, installed):
    x = arguments_of(kind, Case(**{**vars(CASE), "batch": 1}) if packed else CASE)
    if packed:
        x |= {"cu_seqlens": torch.tensor([0, 2, 5]), "initial_state": torch.randn(2, 2, 128, 128)}
    expected, actual = gated_delta_rule(**x), gated_delta_rule(**x, impl=peer)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert one.is_contiguous()


@pytest.mark.parametrize("peer", PEERS)
@torch.no_grad()
def test_no_state_asked_or_given(peer, installed):
    x = arguments_of("given") | {"output_final_state": False, "initial_state": None}
    output, state = gated_delta_rule(**x, impl=peer)
    torch.testing.assert_close(output, gated_delta_rule(**x)[0], rtol=1e-4, atol=1e-5)
    assert state is None


@pytest.mark.parametrize("peer", ["fla", "flash_qla"])
def test_gradients_pass_through_a_peers_own(peer, installed):
    def gradients(impl):
        x = {n: t.requires_grad_() if isinstance(t, torch.Tensor) else t for n, t in arguments_of("2.0").items()}
        output, state = gated_delta_rule(**x, impl=impl)
        tensors = [t for t in x.values() if isinstance(t, torch.Tensor)]
        return torch.autograd.grad(output.square().sum() + state.sum(), tensors)

    for one, other in zip(gradients(peer), gradients("torch"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("peer", "sizes", "message"),
    [
        (
            "flash_qla",
            (96, 128),
            r"^q: K is 96, wants 128 \(backend 'flash_qla'\); served here by: fla, reference, torch",
        ),
        ("flash_qla", (128, 64), r"^v: V is 64, wants 128 .*: fla, reference"),
        ("flashinfer", (128, 256), r"^v: V is 256, wants 128 .*: fla, reference"),
        ("fla", (264, 16), r"^q: K is 264, wants at most 256 .*: reference, torch$"),
    ],
)
def test_a_refusal_names_the_dimension_and_who_serves_it(peer, sizes, message, installed, monkeypatch):
    real = backends.why_unavailable
    monkeypatch.setattr(backends, "why_unavailable", lambda op, impl: "off" if impl == "triton" else real(op, impl))
    x = arguments_of("given", Case(**{**vars(CASE), "key_dim": sizes[0], "value_dim": sizes[1]}))
    with pytest.raises(BackendRefusal, match=message) as refusal:
        gated_delta_rule(**x, impl=peer)
    assert isinstance(refusal.value, ValueError) and isinstance(refusal.value, BackendUnavailable)


def test_forward_only_is_refused_where_gradients_are_wanted(installed):
    x = arguments_of("given")
    x["beta"].requires_grad_()
    with pytest.raises(BackendRefusal, match=r"^impl: it runs forward only.*'flashinfer'\); .* fla, flash_qla, "):
        gated_delta_rule(**x, impl="flashinfer")


def test_a_backend_without_a_step_says_so(installed):
    x = arguments_of("given")
    one = {name: x[name][:, 0] for name in ("q", "k", "v", "g", "beta")}
    with pytest.raises(BackendRefusal, match=r"^impl: it has no gated_delta_rule_step .*: reference, torch"):
        gated_delta_rule_step(**one, state=x["initial_state"], impl="fla")


@pytest.mark.parametrize("peer", ["flash_qla", "flashinfer"])
@torch.no_grad()
def test_a_scale_that_a_peer_takes_for_none(peer, installed):
    with pytest.raises(ValueError, match=rf"^scale: 0 .*'{peer}'"):
        gated_delta_rule(**arguments_of("given") | {"scale": 0.0}, impl=peer)


@torch.no_grad()
def test_what_flash_linear_attention_ran_is_pinned_and_reported(installed, monkeypatch):
    gated_delta_rule(**arguments_of("given"), impl="fla")
    assert (os.environ["FLA_FLASH_QLA"], os.environ["FLA_INTRACARD_CP"]) == ("0", "0")
    log = {"common:chunk_bwd_dqkwg:tilelang", "gated_delta_rule:chunk_gated_delta_rule:triton_ascend:fail"}
    dispatcher = module("fla.backends", _operation_registries={"common": SimpleNamespace(_logged=log)})
    monkeypatch.setattr(sys.modules["fla"], "backends", dispatcher, raising=False)
    report = backends.what_ran("gated_delta", "fla")
    assert report["fla-core"] == report["tilelang"] == "9.9"
    assert report["FLA_FLASH_QLA"] == "0"
    assert report["dispatched"] == "common:chunk_bwd_dqkwg:tilelang"


def test_versions_are_reported(installed):
    assert backends.what_ran("gated_delta", "flash_qla") == {"flash-qla": "9.9", "tilelang": "9.9"}
    assert backends.what_ran("gated_delta", "flashinfer").keys() == {"flashinfer-python", "nvidia-cutlass-dsl"}
    assert backends.what_ran("gated_delta", "torch") == {}


@pytest.mark.parametrize(
    ("found", "gpu", "message"),
    [
        (None, None, "flash-qla is not installed"),
        ("0.1.2.post9", None, "flash-qla 0.1.2.post9 is older than 0.1.3"),
        ("0.1.3", None, "no NVIDIA GPU"),
        ("0.1.10", (8, 9), "sm_89, older than sm_90"),
        ("0.1.3.post1", (9, 0), None),
    ],
)
def test_what_a_machine_lacks_is_said(found, gpu, message, monkeypatch):
    monkeypatch.setattr(requirements, "version", lambda distribution: found)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: gpu)
    reason = backends.why_unavailable("gated_delta", "flash_qla")
    assert reason is None if message is None else message in reason


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_that_is_not_here_is_unavailable(peer, monkeypatch):
    monkeypatch.setattr(requirements, "version", lambda distribution: None)
    monkeypatch.setattr(backends, "_resolved", set())
    with pytest.raises(BackendUnavailable, match=f"'{peer}' of gated_delta cannot run here: .*is not installed"):
        gated_delta_rule(**arguments_of("given"), impl=peer)


def test_types_that_peers_take():
    def tensor(dtype, cuda=True):
        return SimpleNamespace(dtype=dtype, is_cuda=cuda, device="cpu")

    half, other = tensor(torch.bfloat16), tensor(torch.float16)
    assert arguments.beyond_half_on_gpu(half, half, half) is None
    assert arguments.beyond_half_on_gpu(half, half, other).startswith("v: torch.float16, wants torch.bfloat16")
    assert arguments.beyond_half_on_gpu(tensor(torch.float32), half, half).startswith("q: torch.float32, wants")
    assert (
        arguments.beyond_half_on_gpu(tensor(torch.float16, cuda=False), half, half) == "q: on cpu, wants a CUDA device"
    )
