"""Training another library's model as our own is trained: autocast, fused AdamW, clipping, the same batches."""

import contextlib
from collections.abc import Mapping

import torch
from gdnbench_kernels.backends import BackendUnavailable
from torch import nn

from gdnbench.measure.training.case import TrainingCase
from gdnbench.measure.training.peers import PEERS
from gdnbench.measure.training.text import sampler

BATCHES = 4  # made beforehand, on the device: a peer never waits for data
CLIP = 1.0
OPTIMIZER = {"lr": 1e-3, "betas": (0.9, 0.95), "weight_decay": 0.1}


class PeerTrainer:
    """A `gdnbench.measure.training.stepping.Stepper` on a peer's model.

    Its loss shifts the labels itself, so that the last token of a sequence has no target.
    """

    def __init__(self, case: TrainingCase):
        peer = PEERS[case.impl]
        self.case, self.library = case, peer.library()
        if reason := self.library.why_unavailable(case.model):
            raise BackendUnavailable(reason)
        torch.manual_seed(case.seed)
        model = self.library.build(case.model, fused_loss=peer.fused_loss).to(case.device).train()
        self.params_total = sum(parameter.numel() for parameter in model.parameters())
        self.params_non_embedding = self.params_total - _tables(model)
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, fused=True, **OPTIMIZER)  # type: ignore[arg-type]
        self.model = torch.compile(model) if peer.compiled else model
        batches = sampler(case.model.vocab_size, case.batch, case.seq_len, case.seed)
        self.batches = [batches.batch(step)[:, :-1].to(case.device).contiguous() for step in range(BATCHES)]
        self.steps, self.last = 0, torch.zeros(())

    def step(self) -> None:
        """Train one step."""
        batch = self.batches[self.steps % BATCHES]
        half = self.case.dtype == "bfloat16"
        with torch.autocast(self.case.device, dtype=torch.bfloat16) if half else contextlib.nullcontext():
            loss = self.model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.last, self.steps = loss.detach(), self.steps + 1

    def loss(self) -> float:
        """Return the last step's loss."""
        return self.last.item()

    def what_ran(self) -> Mapping[str, str]:
        """Return what decided which kernels ran."""
        return self.library.what_ran()


def _tables(model: nn.Module) -> int:
    """Return the numbers in the token table and in an untied head, a shared one once."""
    tables = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)  # type: ignore[operator]
    return sum(table.numel() for table in {id(table): table for table in tables}.values())
