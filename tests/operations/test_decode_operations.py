"""Operations of one token: equal to a whole sequence's, from any prefix, in float64; and what they refuse."""

import pytest
import torch
from gdnbench_kernels import backends, testing
from gdnbench_kernels.gated_delta import gated_delta_rule
from gdnbench_kernels.gated_delta_decode import gated_delta_decode
from gdnbench_kernels.short_convolution import ring as rings
from gdnbench_kernels.short_convolution import short_convolution
from gdnbench_kernels.ssd import ssd
from gdnbench_kernels.ssd_decode import ssd_decode
from gdnbench_kernels.testing import Case
from torch.nn import functional as F

OPERATIONS = ("gated_delta_decode", "ssd_decode")
CASE = Case(batch=1, heads=2, group=2, key_dim=5, value_dim=3)
TOKENS = 10
SETTINGS = {"scale": 0.3, "gate_scale": 0.7, "beta_range": 2.0}


def parts(x, *sizes):
    """Cut the last dimension into parts, each of so many heads."""
    lengths = [heads * size for heads, size in sizes]
    return [part.unflatten(-1, (heads, -1)) for part, (heads, _) in zip(x.split(lengths, -1), sizes, strict=True)]


def gated_delta_sequence(x, raw, fixed, state):
    """Return output and states of a sequence ``x [1, T, C]`` as training computes it."""
    convolved, values = x.tensor_split([len(fixed["weight"])], -1)
    y, tail = short_convolution(convolved, fixed["weight"], initial_state=state["tail"], output_final_state=True)
    y = F.silu(torch.cat([y, values], -1))
    q, k, v = parts(y, (2, 5), (2, 5), (4, 3))
    gates = {"A_log": fixed["A_log"], "dt_bias": fixed["dt_bias"], **raw}
    settings = SETTINGS | {"normalize_qk": True, "initial_state": state["memory"], "output_final_state": True}
    o, memory = gated_delta_rule(q, k, v, **gates, **settings, impl="reference")
    return o.flatten(2), {"tail": tail, "memory": memory}


def ssd_sequence(x, raw, fixed, state):
    """Return output and states of a sequence ``x [1, T, C]`` as training computes it."""
    y, tail = short_convolution(
        x, fixed["weight"], fixed["bias"], initial_state=state["tail"], output_final_state=True, activation="silu"
    )
    u, b, c = parts(y, (4, 3), (2, 5), (2, 5))
    dt = F.softplus(raw["dt"] + fixed["dt_bias"])
    g = -fixed["A_log"].exp() * dt
    o, memory = ssd(c, b, u, g, dt, initial_state=state["memory"], output_final_state=True, impl="reference")
    return (o + fixed["D"][:, None] * u).flatten(2), {"tail": tail, "memory": memory}


SEQUENCES = {"gated_delta_decode": gated_delta_sequence, "ssd_decode": ssd_sequence}
DECODES = {"gated_delta_decode": (gated_delta_decode, SETTINGS), "ssd_decode": (ssd_decode, {})}
RAW = ("x", "g", "beta", "dt")


def drawn(operation, width, time):
    """Return inputs of so many tokens, each ``[1, T, any]``, and what is the same for all."""
    case = Case(**{**vars(CASE), "width": width})
    fixed = testing.inputs(operation, case, dtype=torch.float64)
    tokens = testing.inputs(operation, Case(**{**vars(case), "batch": time}), dtype=torch.float64, seed=1)
    return {name: tokens[name][None] for name in RAW if name in tokens}, fixed


@pytest.mark.parametrize("impl", ["reference", "torch"])
@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize(
    ("operation", "values"), [*((each, True) for each in OPERATIONS), ("gated_delta_decode", False)]
)
def test_tokens_equal_the_sequence_from_any_prefix(operation, values, width, impl):
    """Rows at once whose prefixes are empty, shorter than the convolution and longer."""
    prefixes = [0, 1, 2, 6]
    rows, decode = len(prefixes), DECODES[operation][0]
    raw, fixed = drawn(operation, width, max(prefixes) + TOKENS)
    channels = fixed["x"].shape[1] if values else 2 * 2 * 5
    fixed["weight"] = fixed["weight"][:channels]
    convolved = raw["x"][..., :channels]
    lengths = torch.tensor(prefixes, dtype=torch.int32)
    ring = torch.full((rows, width, channels), torch.nan, dtype=torch.float64)  # nothing is read that was not loaded
    memory = torch.zeros(rows, *fixed["memory"].shape[1:], dtype=torch.float64)
    empty = {"tail": torch.zeros(1, width - 1, channels, dtype=torch.float64), "memory": torch.zeros_like(memory[:1])}
    expected = []
    for row, prefix in enumerate(prefixes):
        x, rest = raw["x"], {name: t for name, t in raw.items() if name != "x"}
        output, final = SEQUENCES[operation](
            x[:, : prefix + TOKENS], {name: t[:, : prefix + TOKENS] for name, t in rest.items()}, fixed, empty
        )
        expected.append((output[0, prefix:], final))
        tail = torch.cat([empty["tail"], convolved], 1)[:, prefix : prefix + width - 1]
        rings.load(ring[row : row + 1], lengths[row : row + 1], tail)
        if prefix:
            before = {name: t[:, :prefix] for name, t in rest.items()}
            memory[row] = SEQUENCES[operation](x[:, :prefix], before, fixed, empty)[1]["memory"][0]
    constants = {name: fixed[name] for name in ("weight", "bias", "A_log", "dt_bias", "D") if name in fixed}
    for t in range(TOKENS):
        own = {name: torch.stack([each[0, prefix + t] for prefix in prefixes]) for name, each in raw.items()}
        output = decode(
            **own, **constants, ring=ring, memory=memory, lengths=lengths, **DECODES[operation][1], impl=impl
        )
        lengths += 1
        torch.testing.assert_close(output, torch.stack([o[t] for o, _ in expected]), rtol=1e-11, atol=1e-11)
    for name, found in (("tail", rings.unload(ring, lengths)), ("memory", memory)):
        torch.testing.assert_close(found, torch.cat([state[name] for _, state in expected]), rtol=1e-11, atol=1e-11)


def arguments():
    case = Case(**{**vars(CASE), "batch": 2})
    return [(op, name) for op in OPERATIONS for name in testing.inputs(op, case, dtype=torch.float32)]


CHANGES = {
    "dimensions": lambda x: x[0],
    "batch": lambda x: x[:1],
    "kind": lambda x: x.long() if x.is_floating_point() else x.float(),
    "device": lambda x: x.to("meta"),
    "none": lambda x: x[..., :0],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("operation", "name"), arguments())
def test_what_does_not_fit_is_refused_by_name(operation, name, change):
    x = testing.inputs(operation, Case(**{**vars(CASE), "batch": 2}), dtype=torch.float32)
    # A wrong first argument may make the next one the odd one out.
    named = r"^\w+: " if name in ("x", "memory") else rf"\b{name}\b"
    with pytest.raises(ValueError, match=named):
        testing.run(operation, {**x, name: CHANGES[change](x[name])}, impl="torch")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_ring_of_another_type_or_in_pieces(operation):
    x = testing.inputs(operation, CASE, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"ring: torch\.bfloat16, but x"):
        testing.run(operation, x | {"ring": x["ring"].bfloat16()}, impl="torch")
    for name in ("ring", "memory"):
        function, settings = DECODES[operation]
        with pytest.raises(ValueError, match=f"{name}: expected a contiguous tensor"):
            function(**(x | {name: x[name].mT.contiguous().mT}), **settings)


def test_heads_that_do_not_divide_and_a_range_beyond_two():
    x = testing.inputs("gated_delta_decode", CASE, dtype=torch.float32)
    with pytest.raises(ValueError, match="4 is not a positive multiple of heads of x = 3"):
        testing.run("gated_delta_decode", x | {"x": F.pad(x["x"], (0, 10))}, impl="torch")
    with pytest.raises(ValueError, match="x: 33 channels, wants a multiple of 2 K = 10"):
        testing.run("gated_delta_decode", x | {"x": F.pad(x["x"], (0, 1))}, impl="torch")
    with pytest.raises(ValueError, match=r"beta_range: 3\.0"):
        testing.run("gated_delta_decode", x, impl="torch", beta_range=3.0)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_unknown_backend_names_those_that_exist(operation):
    x = testing.inputs(operation, CASE, dtype=torch.float32)
    with pytest.raises(backends.BackendUnavailable, match=r"'tirton'.*reference.*torch"):
        testing.run(operation, x, impl="tirton")
