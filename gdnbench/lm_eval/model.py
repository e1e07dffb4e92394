"""A trained model as lm-eval asks for it: likelihoods of texts, greedy or not, and texts that follow others.

Its window is the length of the training, unless told otherwise. What is longer is treated as the harness's own models
do: a context loses its beginning, a text is scored in disjoint windows, each after the token before it. Only a
continuation that is itself longer than the window, which they refuse, is scored like a text, after its context's end.
"""

import contextlib
import copy
import inspect
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from tqdm import tqdm

from gdnbench.environment import check_device
from gdnbench.errors import GdnbenchError, unknown
from gdnbench.evaluate.scoring import evaluating, plan_windows, position_choices, score_documents, score_windows
from gdnbench.inference import Engine
from gdnbench.lm_eval.generation import complete, in_batches, wanted
from gdnbench.models import registry
from gdnbench.models.config import parse_backend
from gdnbench.runs.train import DTYPES, autocast
from gdnbench.runs.trained import find_run, load_trained, tokenizer_of

BATCH_TOKENS = {"cuda": 1 << 15, "cpu": 1 << 12}  # of one pass, where the batch size is left to us
HARNESS_DEVICE = "cuda:0"  # its command passes this where --device is not given
MAX_GENERATED = 256  # tokens, where a task does not say: the harness's own number


@register_model("gdnbench")
class GdnbenchLM(TemplateLM):
    """``--model gdnbench``; see ``__init__`` for ``--model_args``."""

    def __init__(
        self,
        checkpoint: str,
        *,
        results: str = "results",
        device: str | None = None,
        dtype: str | None = None,
        backend: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        max_length: int | None = None,
        max_gen_toks: int = MAX_GENERATED,
        training_corpus: str | None = None,
        mixer: str | None = None,
        **others: Any,
    ):
        """Load a model and its tokenizer.

        Args:
            checkpoint: a run that kept its checkpoint: its folder, the file in it, or ``<set>/<run id>``.
            results: folder of the result sets, for the last form.
            device: ``cpu`` or ``cuda``; None: where it was trained.
            dtype: ``float32``, ``float64`` or ``bfloat16`` (autocast); None: that of the training.
            backend: of its operations; None: the run's, on another device or in another type that one's own.
            batch_size: windows of a pass; None or ``auto``: as many as hold `BATCH_TOKENS`.
            max_batch_size: at most so many.
            max_length: tokens of a window; None: the length of the training.
            max_gen_toks: tokens to generate where a task does not say.
            training_corpus: where the training's corpus lies, for a tokenizer that was trained on it.
            mixer: file of a mixer from outside the repository.
            others: what is none of these, which is refused.

        Raises:
            GdnbenchError: there is no such argument, or the run, the device or a number does not allow it.
        """
        super().__init__()
        for name in others:
            known = inspect.signature(GdnbenchLM).parameters
            raise unknown("argument of --model_args", name, set(known) - {"others"})
        if mixer is not None:
            registry.add_file(Path(mixer))
        device = _device(device)
        if device is not None:
            check_device(device, dtype or "")
        store, run_id = find_run(checkpoint, Path(results))
        chosen = None if backend is None else parse_backend(backend)
        self.record, self.spec, self.model = load_trained(store, run_id, device=device, dtype=dtype, backend=chosen)
        assert self.spec.training is not None
        self.text = tokenizer_of(self.record, training_corpus)
        self.max_length = _positive("max_length", self.spec.training.seq_len if max_length is None else max_length)
        self.max_gen_toks = _positive("max_gen_toks", max_gen_toks)
        fits = max(1, BATCH_TOKENS[self.spec.device] // self.max_length)
        self.batch_size = fits if batch_size in (None, "auto") else _positive("batch_size", batch_size)
        self.batch_size = min(self.batch_size, max_batch_size or self.batch_size)
        self._device = torch.device(self.spec.device)
        self._engine: Engine | None = None

    @property
    def eot_token_id(self) -> int:
        """The token that separates documents; it stands before a text that has no context."""
        return self.text.separator

    @property
    def tokenizer_name(self) -> str:
        """What the harness's cache of requests tells tokenizers apart by."""
        return f"{self.text.name}-{self.text.hash[:10]}"

    def get_model_info(self) -> dict[str, Any]:
        """Return what the harness puts into its results beside the arguments."""
        return {
            "model_run_id": self.record.run_id,
            "model_num_parameters": self.model.parameter_count(embedding=True),
            "model_dtype": self.spec.dtype,
            "model_backends": self.model.backends(),
            "max_length": self.max_length,
        }

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **settings: Any) -> list[int]:
        """Return the tokens of a text; there are no special ones in it."""
        found: list[int] = self.text.encode(string).tolist()
        return found

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return the log likelihood of whole texts in nats, each after the separator."""
        texts = [request.args[0] for request in requests]
        with self._scoring(), _bar("loglikelihood_rolling", disable_tqdm) as bar:
            scores = score_documents(
                self.model,
                self.text.encode_batch(texts),
                separator=self.text.separator,
                window=self.max_length,
                stride=self.max_length,
                batch_size=self.batch_size,
                progress=lambda done, total: _show(bar, done, total),
            )
        found = [-float(score.sum()) for score in scores]
        for text, value in zip(texts, found, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), value)
        return found

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], disable_tqdm: bool = False, **more: Any
    ) -> list[tuple[float, bool]]:
        """Return the log likelihood of each continuation after its context, and whether it is the likeliest text."""
        inputs = [np.array([*context, *rest], dtype=np.int64) for _, context, rest in requests]
        windows = [
            window
            for number, (_, context, continuation) in enumerate(requests)
            for window in plan_windows(
                len(continuation),
                window=self.max_length,
                stride=self.max_length,
                document=number,
                context=len(context),
            )
        ]
        total, greedy = np.zeros(len(inputs)), np.ones(len(inputs), dtype=bool)
        batches = score_windows(self.model, inputs, windows, batch_size=self.batch_size, values=position_choices)
        with self._scoring(), _bar("loglikelihood", disable_tqdm) as bar:
            for group, values in batches:
                for window, value in zip(group, values, strict=True):
                    total[window.document] -= value[:, 0].sum()
                    greedy[window.document] &= bool(value[:, 1].all())
                _show(bar, bar.n + len(group), len(windows))
        found = [(float(nats), bool(likeliest)) for nats, likeliest in zip(total, greedy, strict=True)]
        for (asked, _, _), answer in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", asked, answer)
        return found

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return what follows each context, up to its stops."""
        limits = {"max_length": self.max_length, "max_tokens": self.max_gen_toks}
        given = [request.args for request in requests]
        asked = [wanted(context, settings, self.text, **limits) for context, settings in given]
        found: dict[int, str] = {}
        with _bar("generate_until", disable_tqdm) as bar:
            for batch in in_batches(asked, self.batch_size):
                texts = complete(self._generator(), self.text, [asked[number] for number in batch])
                found.update(zip(batch, texts, strict=True))
                _show(bar, len(found), len(asked))
        for number, arguments in enumerate(given):
            self.cache_hook.add_partial("generate_until", arguments, found[number])
        return [found[number] for number in range(len(asked))]

    def _generator(self) -> Engine:
        """Return the engine; it takes a copy over, so that likelihoods do not depend on what was generated before."""
        if self._engine is None:
            dtype = torch.bfloat16 if self.spec.dtype == "bfloat16" else DTYPES[self.spec.dtype]
            self._engine = Engine(
                copy.deepcopy(self.model), batch_size=self.batch_size, capacity=self.max_length + 1, dtype=dtype
            )
        return self._engine

    @contextlib.contextmanager
    def _scoring(self) -> Iterator[None]:
        with evaluating(self.model), autocast(self.spec):
            yield


def _device(given: str | None) -> str | None:
    """Return ``cpu`` or ``cuda``. The harness's default, ``cuda:0``, is a CPU where there is no GPU: it says so."""
    if given == HARNESS_DEVICE and not torch.cuda.is_available():
        logging.getLogger(__name__).warning("no GPU here: the harness's default, %s, becomes cpu", given)
        return "cpu"
    return None if given is None else given.removesuffix(":0")


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not str(value).isdigit() or int(value) < 1:
        raise GdnbenchError(f"{name}={value}: expected a whole number above 0")
    return int(value)


def _bar(what: str, disabled: bool) -> Any:
    return tqdm(desc=f"gdnbench {what}", disable=disabled)


def _show(bar: Any, done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)
