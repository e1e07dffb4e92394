"""The parity command: every peer of the asked architectures against ours."""

import gc
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from gdnbench_kernels.backends import BackendUnavailable

from gdnbench import environment
from gdnbench.errors import GdnbenchError, unknown
from gdnbench.measure.parity.compare import TOLERANCES, Comparison
from gdnbench.measure.parity.peer import Peer, architectures, peers_of
from gdnbench.measure.parity.report import Options, Outcome, Report
from gdnbench.measure.parity.tuning import untuned
from gdnbench.measure.parity.weights import copy, pair
from gdnbench.models.config import ModelConfig
from gdnbench.models.decoder import Decoder, build_decoder
from gdnbench.models.parametrization import Parametrization

SEQUENCES, TOKENS, PREFIX = 2, 150, 146  # over two chunks of 64 tokens, and no whole number of them
TRITON_PRECISION = "TRITON_F32_DEFAULT"
NOISE = 0.1  # of a weight's root mean square, and at least of 0.2


def parity(
    archs: Sequence[str],
    options: Options,
    *,
    folder: Path | None = None,
    library: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Compare ours with the peers of ``archs`` (all that have one, where empty), or with one checkpoint.

    Args:
        archs: architectures by name.
        options: how both sides compute.
        folder: a checkpoint of a peer in Hugging Face's format; its weights instead of random ones.
        library: only peers of this library.
        say: takes a line of progress.

    Raises:
        GdnbenchError: a name does not exist, the checkpoint is none, or nothing that was asked for can run here.
    """
    if options.dtype not in TOLERANCES:
        raise unknown("type", options.dtype, TOLERANCES)
    environment.check_device(options.device)
    chosen = _chosen(archs, folder, library)
    outcomes = []
    for arch, peer in chosen:
        absent = peer.why_unavailable(options.device, options.dtype) or ""
        weights = "random" if folder is None else str(folder)
        if absent:
            outcomes.append(Outcome(arch=arch, peer=peer, weights=weights, absent=absent))
            continue
        say(f"{arch} against {peer.name}")
        outcomes.append(_outcome(arch, peer, options, folder))
        _release(options.device)
    if all(outcome.absent for outcome in outcomes):
        raise GdnbenchError("parity: " + "; ".join(dict.fromkeys(outcome.absent for outcome in outcomes)))
    return Report(options, tuple(archs), tuple(outcomes), environment.describe(options.device))


def _chosen(archs: Sequence[str], folder: Path | None, library: str | None) -> list[tuple[str, Peer]]:
    known = architectures()
    for arch in archs:
        if arch not in known:
            raise unknown("architecture with a peer", arch, known)
    found = [(arch, peer) for arch in archs or known for peer in peers_of(arch)]
    if library is not None:
        libraries = {peer.library for _, peer in found}
        if library not in libraries:
            raise unknown("library", library, libraries)
        found = [(arch, peer) for arch, peer in found if peer.library == library]
    return found if folder is None else _of_checkpoint(found, folder)


def _of_checkpoint(known: list[tuple[str, Peer]], folder: Path) -> list[tuple[str, Peer]]:
    """Return the peer whose checkpoint a folder is."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise GdnbenchError(f"{folder}: no checkpoint in Hugging Face's format: config.json: {error}") from None
    found = [(arch, peer) for arch, peer in known if peer.model_type == kind]
    if not found:
        types = sorted({peer.model_type for _, peer in known})
        raise GdnbenchError(f"{folder}: a checkpoint of type {kind!r}; there are peers for: {', '.join(types)}")
    if len(found) > 1:
        libraries = ", ".join(peer.library for _, peer in found)
        raise GdnbenchError(f"{folder}: type {kind!r} is of {libraries}; say which, with --library")
    return found


def _outcome(arch: str, peer: Peer, options: Options, folder: Path | None) -> Outcome:
    about: dict[str, Any] = {
        "arch": arch,
        "peer": peer,
        "weights": f"random, seed {options.seed}" if folder is None else str(folder),
    }
    try:
        with _quiet(), _whole_float32(), torch.random.fork_rng(), nullcontext() if options.tuned else untuned():
            comparison = prepared(arch, peer, options, folder)
            findings = tuple(comparison.findings())
    except BackendUnavailable:  # of ours, as asked for
        raise
    except GdnbenchError as error:
        if folder is not None:
            raise
        return Outcome(**about, failure=str(error))
    except Exception as error:  # of a library of others, whose kernels may not compile
        return Outcome(**about, failure=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return Outcome(**about, model=comparison.decoder.config, what_ran=peer.what_ran(), findings=findings)


def prepared(arch: str, peer: Peer, options: Options, folder: Path | None = None) -> Comparison:
    """Return both models with the same weights: the checkpoint's, or random ones."""
    torch.manual_seed(options.seed)
    rng = torch.Generator().manual_seed(options.seed)
    theirs = peer.build() if folder is None else peer.load(folder)
    if folder is None:
        _move(theirs, rng)
    decoder = _decoder(arch, peer.ours(theirs), options)
    pairs = pair(peer.weights, theirs, decoder, len(decoder.blocks))
    copy(pairs, theirs, decoder)
    width = torch.float64 if options.dtype == "float64" else torch.float32
    for model in (theirs, decoder):
        model.to(device=options.device, dtype=width)
    tokens = torch.randint(decoder.config.vocab_size, (SEQUENCES, TOKENS), generator=rng)
    # A token for padding gets no gradient where it is read.
    tokens[tokens == theirs.config.pad_token_id] = (theirs.config.pad_token_id or 0) + 1
    return Comparison(
        peer, theirs, decoder, pairs, tokens=tokens.to(options.device), prefix=PREFIX, dtype=options.dtype
    )


@torch.no_grad()
def _move(model: torch.nn.Module, rng: torch.Generator) -> None:
    """Add noise to every weight, so that none is zero or equal to another, which would hide a wrong mapping."""
    for parameter in model.parameters():
        size = max(float(parameter.double().square().mean().sqrt()), 0.2)
        parameter.add_(NOISE * size * torch.randn(parameter.shape, generator=rng).to(parameter))


def _decoder(arch: str, fields: dict[str, Any], options: Options) -> Decoder:
    own = {"options": {arch: fields.pop("options", {})}, "base_width": fields["width"], "backend": options.backend}
    config = ModelConfig(arch=arch, **fields, **own)
    return build_decoder(config, Parametrization(), seed=options.seed)


@contextmanager
def _whole_float32() -> Iterator[None]:
    """Keep Triton and cuDNN from multiplying float32 in TF32, of 10 bits, which would hide what is compared."""
    before = torch.backends.cudnn.allow_tf32, os.environ.get(TRITON_PRECISION)
    torch.backends.cudnn.allow_tf32 = False
    os.environ[TRITON_PRECISION] = "ieee"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        os.environ.pop(TRITON_PRECISION)
        if before[1] is not None:
            os.environ[TRITON_PRECISION] = before[1]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep libraries' warnings and bars off the screen; their errors stay errors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _release(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
