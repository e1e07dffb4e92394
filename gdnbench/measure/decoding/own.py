"""Our own engine as it is measured: one prompt fed, its state copied to the other rows."""

import dataclasses
import gc
from collections.abc import Callable, Mapping

import torch
from gdnbench_kernels import backends
from torch import Tensor

from gdnbench.inference import Engine
from gdnbench.inference.network import backend_of
from gdnbench.measure.decoding.case import UNTIMED, DecodeCase
from gdnbench.measure.decoding.floors import counted
from gdnbench.measure.decoding.session import Gate
from gdnbench.measure.decoding.weights import random_decoder
from gdnbench.measure.training.text import tokens
from gdnbench.models.decoder import Decoder
from gdnbench.models.serving import precision

PREFIX, STEPS = 70, 16  # tokens of the check: fed at once, and one by one
BOUNDS = {"bfloat16": 2e-2, "float32": 1e-4}
LEEWAY = 1.5  # times the error of the model's own forward pass in the same type


class OwnHost:
    """Our engine on a model with random weights; the model is built by `check`."""

    def __init__(self, case: DecodeCase):
        self.case = case
        self.params_total = counted(case.model).parameter_count(embedding=True)
        self.params_non_embedding = counted(case.model).parameter_count(embedding=False)
        self.model: Decoder | None = None

    def check(self) -> Gate:
        """Compare logits of tokens that are given, step by step, with those of a forward pass in float32.

        The pass runs PyTorch's chunked forms. The error is the relative 2-norm over the vocabulary and all steps, the
        larger of two rows, of which one got its state as a copy.
        """
        case = self.case
        text = prompts(case, 1, PREFIX + STEPS)
        plain = dataclasses.replace(case.model, backend="torch")
        with torch.no_grad():
            exact = random_decoder(plain, device=case.device, seed=case.seed)(text)[0][0, PREFIX - 1 :]
        free(case.device)
        engine = self._engine(2, PREFIX + STEPS + 1)
        with torch.no_grad(), precision(case.device, engine.demand.dtype):
            own = _error(engine.model(text)[0][0, PREFIX - 1 :], exact)
        found = [engine.prefill(text[:, :PREFIX], slice(0, 1)).expand(2, -1).clone()]
        repeat(engine)
        for step in range(STEPS):
            found.append(engine.step(text[:, PREFIX + step].expand(2)).clone())
        error = max(_error(torch.stack(found)[:, row], exact) for row in range(2))
        bound = max(BOUNDS[case.dtype], LEEWAY * own)
        checked = (
            f"logits of {STEPS} given tokens in {case.dtype} against a forward pass in float32: relative error "
            f"{error:.2g}, at most {bound:.2g}, since {BOUNDS[case.dtype]:g} or {LEEWAY:g} times that of the model's "
            f"own pass in {case.dtype}, {own:.2g}"
        )
        good = error <= bound  # not so where it is no number
        problem = "" if good else f"what is served step by step is off by {error:.2g} relative to the logits"
        return Gate(correct=good, checked=checked, error=error, problem=problem)

    def rows_fed(self, batch: int) -> int:
        """One: its state is copied."""
        return 1

    def session(self, prompts: Tensor, batch: int, generated: int) -> "OwnSession":
        """Return a session on a fresh engine."""
        return OwnSession(self._engine(batch, prompts.shape[1] + generated), prompts)

    def what_ran(self) -> Mapping[str, str]:
        """Return the backend of every operation of prompts and steps, with what each says that it ran."""
        assert self.model is not None
        model, device = self.model, torch.device(self.case.device)
        found = model.backends()
        mixing = [op for op in backends.DECODING if op.endswith("_decode")]
        steps = [op for op in backends.DECODING if op not in mixing or op.removesuffix("_decode") in found]
        found |= {op: backend_of(model.config, op, device) for op in steps}
        said = {
            f"{op}.{key}": value for op, impl in found.items() for key, value in backends.what_ran(op, impl).items()
        }
        return {**found, **said}

    def _engine(self, batch: int, capacity: int) -> Engine:
        case = self.case
        if self.model is None:
            self.model = random_decoder(case.model, device=case.device, seed=case.seed)
        demand = case.demand()
        return Engine(
            self.model, batch_size=batch, capacity=capacity, dtype=demand.dtype, state_dtype=demand.state_dtype
        )


class OwnSession:
    """Rows of one engine, of which the first is fed the prompt."""

    fed = 1

    def __init__(self, engine: Engine, prompts: Tensor):
        self.engine, self.prompts = engine, prompts

    def first(self) -> list[int]:
        """Feed the prompt to the first row."""
        found: list[int] = self.engine.prefill(self.prompts, slice(0, 1)).argmax(-1).tolist()
        return found

    def begin(self) -> None:
        """Copy the first row's state to the others."""
        repeat(self.engine)

    def warm(self) -> None:
        """Make the graph."""
        self.engine.advance(UNTIMED)

    def stretch(self, tokens: int, mark: Callable[[], None]) -> None:
        """Replay the graph; the host waits for nothing."""
        self.engine.advance(tokens + 1, each=lambda step: mark())

    def mixer(self) -> Callable[[], object]:
        """Return the first block's mixer as a prompt runs it."""
        engine = self.engine
        mixer, dtype = engine.model.block_list()[0].mixer, engine.demand.dtype
        x = torch.randn(1, self.prompts.shape[1], engine.model.config.width, device=engine.device, dtype=dtype)

        def call() -> object:
            with torch.no_grad(), precision(engine.device.type, dtype):
                return mixer(x, mixer.init_state(1), {})

        return call

    def bytes(self) -> tuple[int, int | None]:
        """Return what the engine says."""
        memory = self.engine.memory()
        return memory.weights, memory.state


def repeat(engine: Engine) -> None:
    """Put all rows where the first one is."""
    rows, others = engine.rows, len(engine.fed) - 1
    for buffer in (rows.tokens, rows.lengths, rows.logits):
        buffer[1:] = buffer[0]  # lengths before states: a layer's ring begins where its row's length says
    for serving in engine.network.servings() if others else ():
        state = serving.unload(slice(0, 1))
        serving.load(
            slice(1, 1 + others), {n: t.expand(others, *t.shape[1:]) if t.ndim else t for n, t in state.items()}
        )
    engine.fed, engine.waits = [engine.fed[0]] * len(engine.fed), [engine.waits[0]] * len(engine.fed)


def prompts(case: DecodeCase, rows: int, length: int) -> Tensor:
    """Return tokens ``[rows, length]`` on the case's device: those that training speeds are measured on."""
    drawn = torch.from_numpy(tokens(case.model.vocab_size, rows, length, case.seed).astype("int64"))
    return drawn[: rows * length].view(rows, length).to(case.device)


def free(device: str) -> None:
    """Give back what nothing refers to any more of a GPU's memory."""
    if device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def _error(found: Tensor, exact: Tensor) -> float:
    """Return the relative error of logits ``[steps, vocabulary]``."""
    return float((found.double() - exact.double()).norm() / exact.double().norm())
