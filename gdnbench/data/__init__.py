"""Text by name, as token files that are built once, and the batches that training draws from them."""

from gdnbench.data.batches import BatchSampler
from gdnbench.data.corpora import corpus_label, corpus_name, open_corpus
from gdnbench.data.loading import TokenizedCorpus, load
from gdnbench.data.token_files import TokenSplit
from gdnbench.data.tokenizers import Tokenizer, open_tokenizer

__all__ = [
    "BatchSampler",
    "TokenSplit",
    "TokenizedCorpus",
    "Tokenizer",
    "corpus_label",
    "corpus_name",
    "load",
    "open_corpus",
    "open_tokenizer",
]
