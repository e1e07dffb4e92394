"""The gated delta rule's arguments: raw gates and norms, packed sequences, one step, refusals, tracing."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from gdnbench_kernels import backends, checks, testing
from gdnbench_kernels.backends import BackendRefusal
from gdnbench_kernels.gated_delta import arguments, gated_delta_rule, gated_delta_rule_step
from gdnbench_kernels.testing import Case

F64 = torch.float64
CASE = Case(batch=2, time=7, heads=2, group=2, key_dim=4, value_dim=3)
both = pytest.mark.parametrize("impl", ["reference", "torch"])


def draw(case=CASE, dtype=F64):
    return testing.inputs("gated_delta", case, dtype=dtype)


def raw(case=CASE, dtype=F64):
    """Return arguments before norms and gates, of which some are beyond what the recurrence itself takes."""
    rng = torch.Generator().manual_seed(1)
    heads = case.heads * case.group
    sizes = {
        "q": (case.batch, case.time, case.heads, case.key_dim),
        "k": (case.batch, case.time, case.heads, case.key_dim),
        "v": (case.batch, case.time, heads, case.value_dim),
        "g": (case.batch, case.time, heads),
        "beta": (case.batch, case.time, heads),
        "A_log": (heads,),
        "dt_bias": (heads,),
    }
    return {name: 3 * torch.randn(size, generator=rng, dtype=F64).to(dtype) for name, size in sizes.items()}


RAW = {"normalize_qk": True, "gate_scale": 0.7, "beta_range": 2.0}


def by_hand(x, gate_scale, beta_range):
    """Return what `RAW` asks for, from its definition."""
    unit = {name: x[name] / (x[name].square().sum(-1, keepdim=True) + 1e-6).sqrt() for name in ("q", "k")}
    g = -x["A_log"].exp() * (1 + (gate_scale * x["g"] + x["dt_bias"]).exp()).log()
    return {**unit, "v": x["v"], "g": g, "beta": beta_range / (1 + (-gate_scale * x["beta"]).exp())}


def assert_same(actual, expected, tolerance=1e-12):
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@both
def test_raw_arguments_are_activated(impl):
    x = raw()
    expected = gated_delta_rule(**by_hand(x, 0.7, 2.0), output_final_state=True, impl=impl)
    assert_same(gated_delta_rule(**x, **RAW, output_final_state=True, impl=impl), expected, 1e-9)


@pytest.mark.parametrize(("name", "setting"), [("g", {}), ("beta", {"beta_range": 1.0}), ("q", {"normalize_qk": True})])
def test_each_activation_alone(name, setting):
    x, ready = raw(), by_hand(raw(), 1.0, 1.0)
    gate = {key: x.pop(key) for key in ("A_log", "dt_bias")}
    given = {"q": {"q": x["q"], "k": x["k"]}, "g": {"g": x["g"], **gate}, "beta": {"beta": x["beta"]}}[name]
    assert_same(gated_delta_rule(**{**ready, **given}, **setting)[:1], gated_delta_rule(**ready)[:1], 1e-9)


def test_gradients_reach_the_raw_arguments():
    x = {name: t.requires_grad_() for name, t in raw(Case(batch=1, time=3, heads=1, key_dim=2, value_dim=2)).items()}

    def output(*tensors):
        return gated_delta_rule(**dict(zip(x, tensors, strict=True)), **RAW)[0]

    assert torch.autograd.gradcheck(output, tuple(x.values()))


def test_half_precision_is_activated_in_float32_and_zero_rows_have_gradients():
    x = raw(dtype=torch.bfloat16)
    x["q"][:, 0], x["k"][:, 0] = 0, 0
    x = {name: t.requires_grad_() for name, t in x.items()}
    gates = {name: x[name] for name in ("A_log", "dt_bias")}
    activated = arguments.activate(x["q"], x["k"], x["g"], x["beta"], **gates, **RAW)
    assert {t.dtype for t in activated} == {torch.float32}
    output, state = gated_delta_rule(**x, **RAW, output_final_state=True)
    assert (output.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    output.sum().backward()
    assert all(t.grad.isfinite().all() for t in x.values())


@both
@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_packed_sequences_equal_each_alone(impl, state, dtype):
    bounds = [0, 0, 1, 66, 66, 70, 70]
    x = draw(Case(batch=1, time=70, heads=1, group=2, key_dim=4, value_dim=3, state=False))
    starts = torch.randn(6, 2, 4, 3, dtype=F64) if state else None
    leaves = [t.requires_grad_() for t in (*x.values(), *([starts] if state else []))]
    cu_seqlens = torch.tensor(bounds, dtype=dtype)
    settings = {"output_final_state": True, "impl": impl, "scale": 0.5}
    output, final = gated_delta_rule(**x, initial_state=starts, cu_seqlens=cu_seqlens, **settings)

    outputs, states = [], []
    for i, (begin, end) in enumerate(itertools.pairwise(bounds)):
        own_start = starts[i : i + 1] if state else None
        if begin == end:
            states.append(torch.zeros(1, 2, 4, 3, dtype=F64) if own_start is None else own_start)
            continue
        own = {name: t[:, begin:end] for name, t in x.items()}
        own_output, own_state = gated_delta_rule(**own, initial_state=own_start, **settings)
        outputs.append(own_output)
        states.append(own_state)
    expected = torch.cat(outputs, 1), torch.cat(states)
    assert_same((output, final), expected)
    weights = [torch.randn_like(t) for t in expected]
    assert_same(*(torch.autograd.grad(results, leaves, weights) for results in ((output, final), expected)), 1e-10)


def change(**changes):
    """Return a function that changes arguments by name; a plain value is taken as it is."""
    return lambda x: {name: to(x[name]) if callable(to) else to for name, to in changes.items()}


HEADS = torch.zeros(4, dtype=F64)
MISFITS = {
    r"k: torch.float32, but q is torch.float64": change(k=torch.Tensor.float),
    r"v: torch.float32, but q is torch.float64": change(v=torch.Tensor.float),
    r"initial_state: torch.float32, but q": change(initial_state=torch.Tensor.float),
    r"q: expected a contiguous last dim.*strides": change(q=lambda x: x.mT.contiguous().mT),
    r"v: expected a contiguous last dim.*strides": change(v=lambda x: torch.stack([x, x], -1)[..., 0]),
    r"A_log: None, but dt_bias is given": change(dt_bias=HEADS),
    r"dt_bias: None, but A_log is given": change(A_log=HEADS),
    r"A_log: expected shape \[4\], got \[3\]": change(A_log=HEADS[:3], dt_bias=HEADS),
    r"dt_bias: expected shape \[4\], got \[1, 4\]": change(A_log=HEADS, dt_bias=HEADS[None]),
    r"A_log: expected a floating point": change(A_log=HEADS.long(), dt_bias=HEADS),
    r"dt_bias: on meta, but q is on cpu": change(A_log=HEADS, dt_bias=HEADS.to("meta")),
    r"beta_range: 0, wants more than 0": change(beta_range=0),
    r"beta_range: 2.5, wants .* at most 2": change(beta_range=2.5),
    r"g: a log decay of 0.1, wants at most 0": change(g=lambda x: x.fill_(0.1)),
    r"beta: from -0.5 to -0.5, wants 0 to 2": change(beta=lambda x: x.fill_(-0.5)),
    r"beta: from 2.5 to 2.5, wants 0 to 2": change(beta=lambda x: x.fill_(2.5)),
    r"initial_state: expected shape \[2,": change(initial_state=lambda x: x[:1]),
    r"q: expected a batch of 1.*\[2, 7, 2, 4\]": change(cu_seqlens=torch.tensor([0, 14])),
    r"cu_seqlens: expected int32 or int64.*float64": change(cu_seqlens=HEADS),
    r"cu_seqlens: .*sequences \+ 1.* got torch.int64 \[1, 2\]": change(cu_seqlens=torch.tensor([[0, 7]])),
    r"cu_seqlens: .*at least one sequence, got torch.int64 \[1\]": change(cu_seqlens=torch.tensor([0])),
    r"cu_seqlens: on meta, but q is on cpu": change(cu_seqlens=torch.tensor([0, 7], device="meta")),
    r"cu_seqlens: expected a contiguous": change(cu_seqlens=torch.tensor([0, 3, 7])[::2]),
}


@pytest.mark.parametrize("message", MISFITS)
def test_what_does_not_fit_is_refused_by_name(message):
    x = draw()
    with pytest.raises(ValueError, match=rf"^{message}") as error:
        gated_delta_rule(**x | MISFITS[message](x))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [([1, 7], "from 1 to 7"), ([0, 6], "0 to T = 7"), ([0, 5, 3, 7], "never decrease"), ([0, 9, 7], "never decrease")],
)
def test_bounds_that_are_none(bounds, message):
    x = draw(Case(batch=1, time=7, state=False))
    with pytest.raises(ValueError, match=f"^cu_seqlens: .*{message}"):
        gated_delta_rule(**x, cu_seqlens=torch.tensor(bounds))


def test_packed_initial_states_are_counted_by_sequence():
    x = draw(Case(batch=1, time=7))
    with pytest.raises(ValueError, match=r"^initial_state: expected shape \[3,"):
        gated_delta_rule(**x, cu_seqlens=torch.tensor([0, 2, 2, 7]))


def test_nan_is_not_an_argument_error():
    x = draw()
    x["g"][0, 3], x["beta"][0, 3] = torch.nan, torch.nan
    assert gated_delta_rule(**x)[0].isnan().any()


def test_values_are_not_read_where_that_would_wait_or_fail(monkeypatch):
    assert not checks.may_read(torch.empty(1, device="meta"))
    on_gpu = SimpleNamespace(is_meta=False, is_cuda=True)
    for capturing in (True, False):
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda answer=capturing: answer)
        assert checks.may_read(on_gpu) == (not capturing)


@pytest.mark.parametrize("validate", [True, False])
def test_tracing_reads_no_values(validate):
    x = draw()
    compiled = torch.compile(lambda **x: gated_delta_rule(**x, validate=validate)[0], fullgraph=True, backend="eager")
    assert compiled(**{**x, "g": x["g"].abs()}).isfinite().all()


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("operation", backends.TRAINING)
def test_operations_trace_without_a_graph_break(operation, warm, monkeypatch):
    torch.compiler.reset()
    # The chunked form of wkv7 reads its smallest decay on a CPU.
    impl, time = ("reference", 3) if operation == "wkv7" else ("torch", 70)
    x = testing.inputs(operation, Case(time=time), dtype=torch.float32)
    expected = testing.run(operation, x, impl=impl)
    if not warm:
        monkeypatch.setattr(backends, "_resolved", set())
    compiled = torch.compile(lambda x: testing.run(operation, x, impl=impl), fullgraph=True, backend="eager")
    assert_same(compiled(x).values(), expected.values(), 0)


def test_raw_arguments_and_the_step_trace_too():
    x = raw(dtype=torch.float32)
    rule = torch.compile(gated_delta_rule, fullgraph=True, backend="eager")
    assert_same(rule(**x, **RAW)[:1], gated_delta_rule(**x, **RAW)[:1], 0)
    one = {name: t[:, 0] if t.ndim > 2 else t for name, t in x.items()} | {"state": torch.zeros(2, 4, 4, 3)}
    step = torch.compile(gated_delta_rule_step, fullgraph=True, backend="eager")
    assert_same(step(**one, **RAW), gated_delta_rule_step(**one, **RAW), 0)


@both
def test_steps_equal_the_sequence(impl):
    x, state = raw(), draw()["initial_state"]
    whole, final = gated_delta_rule(**x, **RAW, initial_state=state, output_final_state=True, scale=0.5, impl=impl)
    gates = {name: x.pop(name) for name in ("A_log", "dt_bias")}
    before = state.clone()
    outputs, carried = [], state
    for t in range(7):
        own = {name: tensor[:, t] for name, tensor in x.items()}
        output, carried = gated_delta_rule_step(**own, **gates, **RAW, state=carried, scale=0.5, impl=impl)
        outputs.append(output)
    assert_same((torch.stack(outputs, 1), carried), (whole, final), 1e-10)
    assert torch.equal(state, before)


def test_a_step_in_place_writes_the_state():
    x = draw()
    state = x.pop("initial_state")
    one = {name: t[:, 0] for name, t in x.items()}
    expected = gated_delta_rule_step(**one, state=state)
    output, written = gated_delta_rule_step(**one, state=state, inplace=True)
    assert written is state
    assert_same((output, state), expected, 0)


def test_a_step_in_half_precision_keeps_its_state_in_float32():
    x = draw(dtype=torch.bfloat16)
    state = x.pop("initial_state").float()
    output, new = gated_delta_rule_step(**{name: t[:, 0] for name, t in x.items()}, state=state)
    assert (output.dtype, new.dtype) == (torch.bfloat16, torch.float32)


STEP_MISFITS = {
    r"q and v: expected 3 dim": change(q=lambda x: x[:, None]),
    r"q: expected at least one sequence": change(q=lambda x: x[:0]),
    r"value heads of v: 4 is not": change(q=lambda x: x[:, [0, 0, 0]], k=lambda x: x[:, [0, 0, 0]]),
    r"k: expected shape \[2, 2, 4\]": change(k=lambda x: x[..., :2]),
    r"beta: expected shape \[2, 4\]": change(beta=lambda x: x[..., None]),
    r"state: expected shape \[2, 4, 4, 3\]": change(state=lambda x: x[:, 0]),
    r"state: torch.float32, but q is torch.float64": change(state=torch.Tensor.float),
    r"state: expected a contiguous last dim": change(state=lambda x: x.mT.contiguous().mT),
    r"dt_bias: None, but A_log": change(A_log=HEADS),
}


@pytest.mark.parametrize("message", STEP_MISFITS)
def test_a_step_that_does_not_fit_is_refused_by_name(message):
    x = draw()
    one = {"state": x.pop("initial_state")} | {name: t[:, 0] for name, t in x.items()}
    with pytest.raises(ValueError, match=rf"^{message}"):
        gated_delta_rule_step(**one | STEP_MISFITS[message](one))


def fused_step(q, k, v, g, beta, state, *, scale, normalize_qk, A_log, dt_bias, gate_scale, beta_range):
    """A backend's step as `arguments` describes it: in place, the output alone."""
    output, new = gated_delta_rule_step(q, k, v, g, beta, state, scale=scale, normalize_qk=normalize_qk)
    state.copy_(new)
    return output


@pytest.mark.parametrize("inplace", [True, False])
def test_a_fused_step_may_write_only_where_it_was_told_to(inplace, monkeypatch):
    x = draw()
    state = x.pop("initial_state")
    one, before = {name: t[:, 0] for name, t in x.items()}, state.clone()
    expected = gated_delta_rule_step(**one, state=state)
    fused = SimpleNamespace(FUSED=True, gated_delta_rule_step=fused_step)
    real = backends.load
    monkeypatch.setattr(backends, "load", lambda op, impl: fused if impl == "fused" else real(op, impl))
    actual = gated_delta_rule_step(**one, state=state, impl="fused", inplace=inplace)
    assert_same(actual, expected, 0)
    assert (actual[1] is state) == inplace
    assert torch.equal(state, before) == (not inplace)
    with pytest.raises(BackendRefusal, match=r"^impl: .*no gradient"):
        gated_delta_rule_step(**one | {"q": one["q"].requires_grad_()}, state=state, impl="fused")


@pytest.mark.parametrize(
    ("key_dim", "value_dim", "found"),
    [
        *[(16, 16, None), (256, 512, None), (40, 96, None)],
        *[(8, 16, "q: K is 8"), (264, 16, "q: K is 264"), (36, 16, "q: K is 36")],
        *[(16, 8, "v: V is 8"), (16, 520, "v: V is 520"), (16, 20, "v: V is 20, wants a multiple of 8 from 16 to 512")],
    ],
)
def test_head_dims_of_the_gpu_kernels(key_dim, value_dim, found):
    q, v = (torch.empty(1, 1, 1, dim, device="meta") for dim in (key_dim, value_dim))
    actual = arguments.beyond_head_dims(q, v)
    assert actual is None if found is None else actual.startswith(found)
