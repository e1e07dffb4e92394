"""mamba-ssm's SSD kernels behind the switch, against a stand-in of the two functions that are called."""

import sys

import pytest
import torch
from gdnbench_kernels import backends, requirements, testing
from gdnbench_kernels.backends import BackendRefusal, BackendUnavailable
from gdnbench_kernels.gated_delta import arguments
from gdnbench_kernels.ssd import ssd
from gdnbench_kernels.ssd.impl import mamba_ssm
from gdnbench_kernels.testing import Case

CASE = Case(batch=2, time=70, heads=1, group=3, key_dim=16, value_dim=8)

# mamba-ssm 2.3.2.post1, mamba_ssm/ops/triton/ssd_combined.py: states are [B, H, V, K] in float32.
LIBRARY = """
from concurrent.futures import ThreadPoolExecutor

import torch
from gdnbench_kernels.ssd import ssd


def run(x, dt, A, B, C, initial):
    state = None if initial is None else initial.mT
    output, final = ssd(C, B, x, A * dt, dt, initial_state=state, output_final_state=True)
    return output, final.mT


def _mamba_chunk_scan_combined_fwd(x, dt, A, B, C, chunk_size, D=None, z=None, dt_bias=None, initial_states=None):
    assert chunk_size == 256 and A.ndim == 1 and A.dtype == dt.dtype == torch.float32
    assert initial_states is None or initial_states.is_contiguous()
    output, final = run(x, dt, A, B, C, initial_states)
    return output.clone(), None, None, None, None, final.contiguous()


def _mamba_chunk_scan_combined_bwd(
    dout, x, dt, A, B, C, out, chunk_size, D=None, z=None, dt_bias=None, initial_states=None, dfinal_states=None
):
    assert torch.equal(out, run(x, dt, A, B, C, initial_states)[0])
    with ThreadPoolExecutor(1) as pool:  # an operator's body runs below autograd
        found = pool.submit(gradients, (x, dt, A, B, C, initial_states), dout, dfinal_states).result()
    return *found[:5], None, None, None, found[5]


def gradients(saved, dout, dfinal):
    tensors = [None if x is None else x.detach().requires_grad_() for x in saved]
    given = [(x, d) for x, d in zip(run(*tensors), (dout, dfinal)) if d is not None]
    wanted = [x for x in tensors if x is not None]
    found = torch.autograd.grad([x for x, _ in given], wanted, [d for _, d in given], materialize_grads=True)
    return *(x.contiguous() for x in found), *[None] * (6 - len(found))
"""


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The library as if installed, without its compiled part; float32 on a CPU is let through."""
    folder = tmp_path / "mamba_ssm" / "ops" / "triton"
    folder.mkdir(parents=True)
    (tmp_path / "mamba_ssm" / "__init__.py").write_text("import selective_scan_cuda\n")
    (folder / "ssd_combined.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(requirements, "version", lambda distribution: "2.3.2.post1")
    monkeypatch.setattr(requirements, "missing", lambda *args, **wants: None)
    monkeypatch.setattr(arguments, "beyond_half_on_gpu", lambda *tensors, names: None)
    monkeypatch.setattr(backends, "_resolved", set())
    mamba_ssm._library.cache_clear()
    yield
    mamba_ssm._library.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "mamba_ssm"]:
        del sys.modules[name]


def draw(state=True):
    """Return arguments whose log decay is A dt, and A."""
    x = testing.inputs("ssd", Case(**{**vars(CASE), "state": state}), dtype=torch.float32)
    A = -torch.rand(3, generator=torch.Generator().manual_seed(0)) - 0.5
    return {name: t for name, t in x.items() if name != "g"}, A


def results(impl, x, A, through=("output", "state")):
    leaves = {name: t.clone().requires_grad_() for name, t in (x | {"A": A}).items()}
    arguments = {name: t for name, t in leaves.items() if name != "A"}
    output, state = ssd(**arguments, g=leaves["A"] * leaves["dt"], output_final_state=True, impl=impl)
    chosen = [{"output": output, "state": state}[name].square().sum() for name in through]
    return [output, state, *torch.autograd.grad(sum(chosen), list(leaves.values()), materialize_grads=True)]


@pytest.mark.parametrize("through", [("output",), ("state",), ("output", "state")])
@pytest.mark.parametrize("state", [True, False])
def test_results_and_gradients_of_what_g_was_made_of(state, through, installed):
    x, A = draw(state)
    for one, other in zip(results("mamba_ssm", x, A, through), results("torch", x, A, through), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert "mamba_ssm" not in sys.modules, "its own import is left to whoever wants it"


def test_no_state_asked_for(installed):
    x, A = draw()
    assert ssd(**x, g=A * x["dt"], impl="mamba_ssm")[1] is None


def test_traced_without_a_graph_break(installed):
    x, A = draw()

    def form(A, impl, **x):
        return ssd(**x, g=A * x["dt"], output_final_state=True, impl=impl)

    compiled = torch.compile(form, fullgraph=True, backend="aot_eager")
    for one, other in zip(compiled(A, "mamba_ssm", **x), form(A, "torch", **x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_decay_that_is_no_rate_times_the_step_is_not_computed(installed):
    x, A = draw()
    g = A * x["dt"]
    g[1, 5, 2] *= 1.01
    with pytest.raises(RuntimeError, match="wants g = A dt with one A a head"):
        ssd(**x, g=g, impl="mamba_ssm")


def test_coarse_gates_are_refused(installed):
    x, A = draw()
    with pytest.raises(BackendRefusal, match=r"^g: torch.bfloat16, wants torch.float32 .*served here by: .*torch"):
        ssd(**x, g=(A * x["dt"]).bfloat16(), impl="mamba_ssm")


def test_what_ran_is_reported(installed):
    assert backends.what_ran("ssd", "mamba_ssm") == {
        "mamba-ssm": "2.3.2.post1", "einops": "2.3.2.post1", "chunk_size": "256",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({}, "mamba-ssm is not installed"),
        ({"mamba-ssm": "2.3.2.post1"}, "einops is not installed"),
        ({"mamba-ssm": "2.4.0", "einops": "0.8"}, "mamba-ssm 2.4.0 is not older than 2.4"),
    ],
)
def test_what_a_machine_lacks_is_said(versions, message, monkeypatch):
    monkeypatch.setattr(requirements, "version", versions.get)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(backends, "_resolved", set())
    x, A = draw()
    with pytest.raises(BackendUnavailable, match=f"'mamba_ssm' of ssd cannot run here: .*{message}"):
        ssd(**x, g=A * x["dt"], impl="mamba_ssm")
