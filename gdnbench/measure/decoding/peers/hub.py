"""A model that generates by transformers' ``generate``, as it is measured."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gdnbench.measure.decoding.case import DecodeCase
from gdnbench.measure.decoding.session import Gate


class HubHost:
    """A library's model with random weights that has transformers' ``generate``.

    Args:
        case: of which type and on which device it is to run.
        model: the model.
        what_ran: what decides which kernels run.
        mixer: the first layer's mixer, called with ``[B, T, D]``; None: not to be called alone.
        options: options of ``generate``.
    """

    def __init__(
        self,
        case: DecodeCase,
        model: nn.Module,
        what_ran: Callable[[], Mapping[str, str]],
        *,
        mixer: nn.Module | None = None,
        options: Mapping[str, Any] | None = None,
    ):
        self.case, self.said, self.mixer, self.options = case, what_ran, mixer, dict(options or {})
        model.to(device=case.device, dtype=getattr(torch, case.dtype)).eval()
        self.model: Any = model
        self._open_end()
        self.params_total = sum(parameter.numel() for parameter in model.parameters())
        self.params_non_embedding = self.params_total - table_numbers(self.model)

    def _open_end(self) -> None:
        """Let sequences end where the bench says, whatever token comes."""
        chosen = self.model.generation_config
        chosen.eos_token_id, chosen.pad_token_id = None, 0

    def check(self) -> Gate:
        """Say whether tokens come out, as many as asked for."""
        prompts = torch.ones(2, 8, dtype=torch.int64, device=self.case.device)
        found = self.generate(prompts, 4)
        good = found.shape == (2, 12) and int(found.min()) >= 0 and int(found.max()) < self.case.model.vocab_size
        return Gate(correct=good, checked=PRODUCES, problem="" if good else f"it generated {list(found.shape)}")

    def generate(self, prompts: Tensor, tokens: int, mark: Callable[[], None] | None = None) -> Tensor:
        """Return prompts with greedy tokens behind; ``mark`` is called at each, before it is chosen."""
        from transformers import LogitsProcessor, LogitsProcessorList

        class Marking(LogitsProcessor):
            def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
                if mark is not None:
                    mark()
                return scores

        processors = LogitsProcessorList([Marking()])
        with torch.no_grad():
            found: Tensor = self.model.generate(
                input_ids=prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=tokens,
                do_sample=False,
                use_cache=True,
                logits_processor=processors,
                **self.options,
            )
        return found

    def rows_fed(self, batch: int) -> int:
        """All."""
        return batch

    def session(self, prompts: Tensor, batch: int, generated: int) -> "HubSession":
        """Return a session."""
        return HubSession(self, prompts)

    def what_ran(self) -> Mapping[str, str]:
        """Return what decided which kernels ran."""
        return self.said()


class HubSession:
    """Calls of ``generate`` on the same prompts; each feeds them again."""

    def __init__(self, host: HubHost, prompts: Tensor):
        self.host, self.prompts, self.fed = host, prompts, len(prompts)

    def first(self) -> list[int]:
        """Generate one token."""
        found: list[int] = self.host.generate(self.prompts, 1)[:, -1].tolist()
        return found

    def begin(self) -> None:
        """Nothing: each call begins with the prompts."""

    def warm(self) -> None:
        """Compile the step of one token for the length that is timed."""
        self.host.generate(self.prompts, self.host.case.tokens + 1)

    def stretch(self, tokens: int, mark: Callable[[], None]) -> None:
        """Feed the prompts, unmarked, and generate."""
        self.host.generate(self.prompts, tokens + 1, mark)

    def mixer(self) -> Callable[[], object] | None:
        """Return a call of the first layer's mixer."""
        if self.host.mixer is None:
            return None
        return mixer_call(self.host.mixer, self.host.model.get_input_embeddings().weight, self.prompts)

    def bytes(self) -> tuple[int, int | None]:
        """Return the weights' bytes; the cache is the library's own matter."""
        return weight_bytes(self.host.model), None


PRODUCES = "that it generates as many tokens of its vocabulary as it is asked for"


def table_numbers(model: Any) -> int:
    """Return the numbers in a library's model's token table and in an untied head, a shared one once."""
    tables = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    return sum(table.numel() for table in {id(table): table for table in tables}.values())


def mixer_call(mixer: Callable[[Tensor], object], weight: Tensor, prompts: Tensor) -> Callable[[], object]:
    """Return a call of a mixer on random numbers: a row as long as the prompts, in width and type the embedding's."""
    x = torch.randn(1, prompts.shape[1], weight.shape[1], device=weight.device, dtype=weight.dtype)

    def call() -> object:
        with torch.no_grad():
            return mixer(x)

    return call


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's weights, a shared one once."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
