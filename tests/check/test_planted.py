"""Every mistake that is planted in a mixer that works is found, by the check that is for it, where it is."""

import pytest

from gdnbench.check import CHECKS, check, long, training

FAST = [name for name in CHECKS if name != "stability"]
RETURN = "            return self._output(o), None\n"
FLOPS = ["flops_per_token(16)"]
OUTPUT = "return self.o_proj(self.norm(o).flatten(2))"

# name -> the change, the check that finds it, and what it says.
MISTAKES = {
    "leaks_one_token": [(".triu(1)", ".triu(2)"), "causality", ["position 0 of 2 tokens", "position 1"]],
    "leaks_far": [
        (RETURN, "            return self._output(o.roll(1, 1)), None\n"), "causality",
        ["position 0 of", "another token at position"],
    ],
    "leaks_a_mean": [
        (RETURN, "            return self._output(o - 0.01 * o.mean(1, keepdim=True)), None\n"),
        "causality of gradients",
        ["output at position 0", "gradient by the input"],
    ],
    "wrong_state_size": [
        ("return self.heads * self.dim**2 * element_size", "return self.heads * self.dim * element_size"), "state size",
        ["state_bytes after 1 token,", "memory [1, 4, 16, 16]"],
    ],
    "wrong_state_type": [
        ("{\"memory\": self._empty(batch_size, self.heads, self.dim, self.dim)}",
         "{\"memory\": self._empty(batch_size, self.heads, self.dim, self.dim).double()}"), "state size",
        ["line ", "in forward", "expected scalar type Float but found Double"],
    ],
    "forgets_a_role": [
        ('declare(self, "fading", (self.heads,), Role(row="fading", fan_out=self.heads, init=constant(-3.0)))',
         "self.fading = torch.nn.Parameter(torch.full((self.heads,), -3.0))"), "roles",
        ["parameter fading", "it has no role", "declare(self"],
    ],
    "unknown_role": [('Role(row="fading"', 'Role(row="fadin"'), "roles", ["table sp", "'fadin'", "fading"]],
    "wrong_fans": [("fan_out=self.heads, init", "init"), "fans", ["parameter fading, geometry fixed_head"]],
    "wrong_shape": [
        ("return self._output(o), None", "return self._output(o)[:, :1], None"), "shape",
        ["layer 0, 3 tokens, forward", "[2, 1, 64]", "[2, 3, 64]"],
    ],
    "step_differs": [
        ("{\"memory\": memory}\n\n    def _inputs", "{\"memory\": 0.5 * memory}\n\n    def _inputs"), "step",
        ["position 1", "step and forward"],
    ],
    "forgets_the_state": [
        ("* state[\"memory\"] + written", "* 0 * state[\"memory\"] + written"), "parts", ["after 1 token"],
    ],
    "not_a_number": [
        (OUTPUT, "return self.o_proj((o / (o - o)).flatten(2))"), "gradients", ["position 0", "no number"],
    ],
    "wrong_parameters": [
        ("return self._matrix_weights() + self.heads + self.dim", "return self._matrix_weights() + self.dim"),
        "parameters", ["parameter_count", "fading 4"],
    ],
    "wrong_flops": [("return 2 * self._matrix_weights() + 4", "return 3 * self.width**2 + 4"), "flops", FLOPS],
    "doubled_flops": [
        ("return 2 * self._matrix_weights() + 4", "return 4 * self._matrix_weights() + 4"), "flops", FLOPS,
    ],
    "cuts_gradients": [("k, v = (p(x)", "k, v = (p(x).detach()"), "gradients", ["q_proj.weight", "it has no gradient"]],
    "stays_on_the_cpu": [("device=x.device)", 'device="cpu")'), "devices", ["line ", "torch.ones makes it on cpu"]],
    "has_no_device": [(", device=x.device)", ")"), "devices", ["line ", "torch.ones makes it without a device"]],
    "has_a_device_of_its_own": [
        ("device=x.device)", 'device=torch.device("cpu"))'), "devices", ["line ", "torch.ones makes it on cpu"],
    ],
    "moves_to_a_device_of_its_own": [
        ("        q, k, v, g = self._inputs(x)\n", "        q, k, v, g = self._inputs(x.to(torch.device('cpu')))\n"),
        "devices", ["to moves it to the device cpu"],
    ],
    "keeps_a_tensor_that_stays": [
        (OUTPUT, "return self.o_proj(self.norm(o).flatten(2) * torch.ones(99).to(o.dtype)[: self.heads * self.dim])"),
        "devices", ["torch.ones makes it without a device", "in mul"],
    ],
    "mixes_rows": [
        (OUTPUT, "return self.o_proj(self.norm(o - o.mean(0)).flatten(2))"), "rows", ["row 0 of 3"],
    ],
    "draws_at_random": [
        (OUTPUT, "return self.o_proj(self.norm(o + torch.rand_like(o)).flatten(2))"), "determinism", ["a second call"],
    ],
    "starts_at_random": [
        ("init=constant(-3.0)", "init=type(init)(sample=lambda shape, rng: torch.randn(shape))"), "determinism",
        ["a second model of the same seed"],
    ],
    "one_width": [
        ("self.width = config.width\n", "self.width = config.width\n        assert self.width < 128\n"), "widths",
        ["width 128", "line "],
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_it_is_found(name, planted):
    change, by, said = MISTAKES[name]
    path = planted(name, change)
    report = check(path, only=[by])
    found = {one.name: one for one in report.checked}[by]
    assert found.outcome == "FAILED", report.lines()
    line = next(line for line in report.lines() if f": {by}: " in line)
    assert str(path) in line
    for text in said:
        assert text in line, line


def test_a_parameter_without_a_gradient_is_told_once(planted):
    change, _, _ = MISTAKES["cuts_gradients"]
    report = check(planted("cuts_gradients", change), only=["types"])
    assert not report.failed, report.lines()


RAW = ("self.norm(o).flatten(2)", "o.flatten(2)")  # what is read is not normalized
UNSTABLE = {
    "grows": [[("g = -F.softplus", "g = 0.2 * F.softplus"), RAW], "the output is"],
    "overflows": [[("g = -F.softplus", "g = F.softplus"), RAW], "the output is no number"],
    "grows_behind_its_norm": [[("g = -F.softplus", "g = 0.3 * F.softplus")], "after 2048 tokens"],
}


@pytest.mark.parametrize("name", UNSTABLE)
def test_an_unstable_recurrence_is_found(name, planted):
    changes, said = UNSTABLE[name]
    path = planted(name, *changes)
    (found,) = [one for one in check(path, only=["stability"]).checked if one.name == "stability"]
    assert found.outcome == "FAILED"
    assert said in found.findings[0].found, found
    assert "layer " in found.findings[0].place


# Where each layer starts decides, once in four, that its memory grows.
LOT = "torch.where(torch.rand((), generator=rng) < 0.25, 1.0, -1.0).expand(shape)"
UNLUCKY = [
    ("init=constant(-3.0)", f"init=type(init)(sample=lambda shape, rng: {LOT})"),
    ("g = -F.softplus(self.f_proj(x) + self.fading)", "g = 0.2 * (self.f_proj(x).tanh() + 2 * self.fading)"),
    RAW,
]


def test_a_mixer_that_is_unstable_at_one_seed_only_is_found(planted, monkeypatch):
    monkeypatch.setattr(training, "STEPS", 8)
    monkeypatch.setattr(long, "LONG", 512)
    report = check(planted("unlucky", *UNLUCKY), only=["stability"])
    (finding,) = report.checked[-1].findings
    assert finding.place.startswith("seed 2 of 3, at the start, layer 0, random tokens, position ")


def test_a_mixer_whose_training_blows_up_is_found(planted, monkeypatch):
    """Its gain is an exponential of a parameter, which is 1 at the start and takes a few steps to overflow."""
    monkeypatch.setattr(training, "STEPS", 12)
    monkeypatch.setattr(long, "LONG", 512)
    gain = "return self.o_proj((self.norm(o) * (1e4 * (self.norm.weight - 1)).exp()).flatten(2))"
    report = check(planted("explodes", (OUTPUT, gain)), only=["stability"])
    for seed, finding in enumerate(report.checked[-1].findings, start=1):
        assert finding.place.startswith(f"seed {seed} of 3, training, step ")
    assert seed == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import torch\nfrom nowhere import x\n", ["line 2", "ModuleNotFoundError", "nowhere"]),
        ("import torch\nx = (\n", ["line 2", "SyntaxError"]),
        ("import torch\n", ["expected one Mixer class in the file, found 0"]),
    ],
)
def test_a_file_that_does_not_import(text, said, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(text)
    report = check(path)
    assert report.failed
    assert {one.outcome for one in report.checked[1:]} == {"not run"}
    for part in said:
        assert part in report.lines()[0]


def test_a_mixer_that_cannot_be_built(planted):
    path = planted("unbuilt", ("self.width = config.width\n", "self.width = config.wide\n"))
    report = check(path)
    assert [one.outcome for one in report.checked[:2]] == ["ok", "FAILED"]
    assert "line " in report.checked[1].findings[0].place
    assert "AttributeError" in report.checked[1].findings[0].found


def test_all_checks_run_whatever_the_earlier_ones_found(planted):
    leaky, sizes = MISTAKES["leaks_one_token"][0], MISTAKES["wrong_state_size"][0]
    report = check(planted("two_mistakes", leaky, sizes), only=FAST)
    outcomes = {one.name: one.outcome for one in report.checked}
    assert outcomes.keys() == {"import", "build", *FAST}
    assert "not run" not in outcomes.values()
    assert {"causality", "state size"} <= {name for name, outcome in outcomes.items() if outcome == "FAILED"}
    assert outcomes["roles"] == outcomes["parameters"] == outcomes["rows"] == "ok"
