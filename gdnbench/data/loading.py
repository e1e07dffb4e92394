"""From a corpus name and a tokenizer name to token arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gdnbench.data.batches import BatchSampler
from gdnbench.data.content_hash import corpus_hash
from gdnbench.data.corpora import open_corpus
from gdnbench.data.token_files import TokenSplit, ensure_split
from gdnbench.data.tokenizers import Tokenizer, open_tokenizer
from gdnbench.errors import GdnbenchError


@dataclass(frozen=True, kw_only=True)
class TokenizedCorpus:
    """A corpus in tokens: what a run trains on, and the hashes that its record keeps."""

    name: str
    corpus_hash: str
    tokenizer: Tokenizer
    metadata: Mapping[str, Any]
    splits: Mapping[str, TokenSplit]

    @property
    def tokenizer_hash(self) -> str:
        """The SHA-256 that identifies the tokenizer."""
        return self.tokenizer.hash

    @property
    def vocab_size(self) -> int:
        """The number of token ids, the separator included."""
        return self.tokenizer.vocab_size

    def sampler(self, *, batch_size: int, seq_len: int, seed: int) -> BatchSampler:
        """Return the training batches."""
        return BatchSampler(self.split("train").tokens, batch_size=batch_size, seq_len=seq_len, seed=seed)

    def split(self, name: str) -> TokenSplit:
        """Return one split; raise `GdnbenchError` if it was not loaded."""
        if name not in self.splits:
            raise GdnbenchError(f"corpus {self.name}: split {name!r} is not loaded; loaded: {', '.join(self.splits)}")
        return self.splits[name]


def load(
    corpus: str, tokenizer: str, splits: Sequence[str] = ("train", "valid"), *, tokenizer_corpus: str = ""
) -> TokenizedCorpus:
    """Return the ``splits`` of ``corpus`` (``name[:path]``) in tokens of ``tokenizer``, building token files once.

    A tokenizer that is trained is trained on ``corpus``, or on ``tokenizer_corpus`` where that is given.

    Raises `GdnbenchError` for unknown names, missing or unreadable files, a split that does not exist or is empty,
    and a full disk.
    """
    opened = open_corpus(corpus)
    for split in splits:
        opened.source(split)  # fails here, before any long work
    digest = corpus_hash(opened)
    tokens = open_tokenizer(tokenizer, open_corpus(tokenizer_corpus) if tokenizer_corpus else opened)
    return TokenizedCorpus(
        name=opened.name,
        corpus_hash=digest,
        tokenizer=tokens,
        metadata=opened.metadata,
        splits={split: ensure_split(opened, digest, tokens, split) for split in splits},
    )
