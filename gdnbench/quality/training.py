"""A short training from text to validation loss, as `gdnbench reproduce` would make it, on text made for it."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import torch

from gdnbench.errors import GdnbenchError
from gdnbench.plan.spec import Data, RunSpec
from gdnbench.results import Store
from gdnbench.runs.execute import execute
from gdnbench.runs.progress import Observer

WORDS = 48
FOLLOWERS = 4  # words that may follow a word: 2 bits each
SIZES = {"train": 12_000, "valid": 3_000}  # words
DOCUMENT = 120  # words
METRICS = ("val_loss", "bits_per_byte")


def train(spec: RunSpec) -> dict[str, float]:
    """Run a training to its end in a folder that goes afterwards, and return its last metrics."""
    torch.set_num_threads(spec.threads)
    with tempfile.TemporaryDirectory(prefix="gdnbench-quality-") as folder:
        corpus = write_text(Path(folder) / "text")
        placed = dataclasses.replace(spec, data=Data(corpus=corpus, tokenizer="bytes"))
        record = execute(placed, Store(Path(folder), "quality"), Observer())
    assert record is not None
    if record.outcome != "finished":
        raise GdnbenchError(f"{spec.arm}: its training did not end well: {record.outcome}, {record.detail}")
    return {name: float(record.metrics[name]["value"]) for name in METRICS}


def write_text(folder: Path) -> str:
    """Write a text whose every word is one of a few that follow the one before; return the corpus's name.

    It comes from raw bits of PCG64, which NumPy promises never to change.
    """
    folder.mkdir(parents=True)
    bits = np.random.PCG64(0)
    words = ["".join(chr(97 + int(letter) % 26) for letter in bits.random_raw(2 + n % 5)) for n in range(WORDS)]
    follows = bits.random_raw(WORDS * FOLLOWERS).reshape(WORDS, FOLLOWERS) % WORDS
    word = 0
    for split, size in SIZES.items():
        text = []
        for place, choice in enumerate(bits.random_raw(size) % FOLLOWERS):
            word = int(follows[word, choice])
            text.append(words[word] + ("\n\n" if place % DOCUMENT == DOCUMENT - 1 else " "))
        (folder / f"{split}.txt").write_text("".join(text), encoding="utf-8")
    return f"text:{folder}"
