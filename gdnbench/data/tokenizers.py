"""Tokenizers by name: ``bytes``, ``bpe:<vocab_size>`` trained on the corpus, ``gpt2[:<path>]``; all exact in bytes."""

import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers as hf

from gdnbench.data.cache import cache_folder
from gdnbench.data.content_hash import corpus_hash
from gdnbench.data.corpus import Corpus
from gdnbench.errors import GdnbenchError, unknown
from gdnbench.files import atomic_file, set_aside

END_OF_TEXT = "<|endoftext|>"
# 256 bytes and the separator: every text can be encoded from here on.
SMALLEST_BPE = 257
# A BPE of any corpus is trained on at most its first GiB: the merges settle long before.
TRAIN_BYTES = 1 << 30


# A byte-level vocabulary writes bytes that print as themselves, the others as the characters from 256 on (GPT-2).
_PRINTED = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_BYTE_OF = {chr(byte): byte for byte in _PRINTED}
_BYTE_OF |= {chr(256 + place): byte for place, byte in enumerate(sorted({*range(256)} - {*_PRINTED}))}


class Tokenizer(ABC):
    """Text to token ids and back. ``byte_lengths[id]`` is exact: those of a document sum to its UTF-8 length.

    ``separator`` is the id that follows each document in a token file and stands before one that is scored; it has
    byte length 0. ``hash`` (SHA-256) identifies the mapping, whatever file it came from.
    """

    name: str
    hash: str
    vocab_size: int
    separator: int
    byte_lengths: np.ndarray

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Return the ids of ``text``, int64 [tokens], without separators; special tokens in it are plain text."""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each text."""
        return [self.encode(text) for text in texts]

    @abstractmethod
    def spelling(self, token: int) -> bytes:
        """Return the bytes of a token, none of an id that is no token; a character's may be spread over several."""

    @abstractmethod
    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Return the text of ``tokens``; bytes that are no UTF-8, as at a cut, become U+FFFD."""


class ByteTokenizer(Tokenizer):
    """Token ids are the UTF-8 bytes; the separator is byte 0, which text does not contain."""

    def __init__(self) -> None:
        self.name = "bytes"
        self.hash = hashlib.sha256(b"gdnbench bytes tokenizer, separator 0").hexdigest()
        self.vocab_size = 256
        self.separator = 0
        self.byte_lengths = np.ones(256, dtype=np.int64)
        self.byte_lengths[self.separator] = 0

    def encode(self, text: str) -> np.ndarray:
        """Return the UTF-8 bytes; raise `GdnbenchError` for a text with byte 0, which would read as a separator."""
        data = text.encode()
        if b"\0" in data:
            raise GdnbenchError(f"tokenizer bytes: NUL at byte {data.index(0)} of a document; it is the separator")
        return np.frombuffer(data, dtype=np.uint8).astype(np.int64)

    def spelling(self, token: int) -> bytes:
        """Return the byte."""
        return bytes([token]) if token < self.vocab_size else b""

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Return the text of the bytes ``tokens``."""
        return bytes(np.asarray(tokens, dtype=np.uint8)).decode("utf-8", errors="replace")


class BpeTokenizer(Tokenizer):
    """A byte-level BPE of Hugging Face's `tokenizers`."""

    def __init__(self, name: str, backend: hf.Tokenizer) -> None:
        separator = backend.token_to_id(END_OF_TEXT)
        if separator is None:
            raise GdnbenchError(f"tokenizer {name}: it has no token {END_OF_TEXT}, which separates documents here")
        self.name = name
        self.vocab_size = backend.get_vocab_size()
        self.separator = int(separator)
        # A byte-level vocabulary spells each byte as one character, so a piece's length is its number of bytes.
        lengths = [len(backend.id_to_token(token) or "") for token in range(self.vocab_size)]
        self.byte_lengths = np.array(lengths, dtype=np.int64)
        self.byte_lengths[self.separator] = 0
        self.hash = hashlib.sha256(backend.to_str().encode()).hexdigest()
        backend.encode_special_tokens = True  # a document that mentions the separator must not contain one
        self._backend = backend
        self._check_exact()

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of ``text``, int64 [tokens]."""
        return np.array(self._backend.encode(text, add_special_tokens=False).ids, dtype=np.int64)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each text, encoded on all cores."""
        encoded = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encoded]

    def spelling(self, token: int) -> bytes:
        """Return the bytes of a piece; those of the separator spell its name."""
        piece = self._backend.id_to_token(token) or ""
        return piece.encode() if token == self.separator else bytes(map(_BYTE_OF.__getitem__, piece))

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Return the text of ``tokens``; a separator becomes ``<|endoftext|>``."""
        return str(self._backend.decode(np.asarray(tokens).tolist(), skip_special_tokens=False))

    def _check_exact(self) -> None:
        """Refuse a tokenizer that normalizes text or is not byte-level: bits per byte would be wrong."""
        probe = f"A  b\n\n\té e\u0301 漢😀\ufb01 don't 12,345 {END_OF_TEXT}"
        tokens = self.encode(probe)
        if self.decode(tokens) != probe or self.byte_lengths[tokens].sum() != len(probe.encode()):
            raise GdnbenchError(f"tokenizer {self.name}: not an exact byte-level BPE, so bytes cannot be counted by it")


def open_tokenizer(spec: str, corpus: Corpus | None) -> Tokenizer:
    """Return the tokenizer that ``name[:argument]`` asks for; ``bpe:<vocab_size>`` is trained on ``corpus`` once."""
    name, _, argument = spec.partition(":")
    if name == "bytes" and not argument:
        return ByteTokenizer()
    if name == "bpe":
        if corpus is None:
            raise GdnbenchError(f"tokenizer {spec}: it is trained on a corpus, and none was given")
        return _corpus_bpe(argument, corpus)
    if name == "gpt2":
        return BpeTokenizer("gpt2", _gpt2_file(Path(argument).expanduser()) if argument else _gpt2_hub())
    raise unknown("tokenizer", spec, ("bytes", "bpe:<vocab_size>", "gpt2", "gpt2:<path>"))


def train_bpe(documents: Iterable[str], vocab_size: int) -> hf.Tokenizer:
    """Train a byte-level BPE (GPT-2's pre-tokenization) with ``<|endoftext|>`` as id 0; equal input, equal result."""
    backend = hf.Tokenizer(hf.models.BPE())
    backend.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = hf.decoders.ByteLevel()
    trainer = hf.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(hf.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(_first_bytes(documents), trainer)
    return backend


def _first_bytes(documents: Iterable[str]) -> Iterator[str]:
    used = 0
    for document in documents:
        yield document
        used += len(document.encode())
        if used >= TRAIN_BYTES:
            return


def _corpus_bpe(argument: str, corpus: Corpus) -> Tokenizer:
    name = f"bpe:{argument}"
    if not argument.isascii() or not argument.isdigit() or int(argument) < SMALLEST_BPE:
        raise GdnbenchError(f"tokenizer {name}: expected bpe:<vocab_size> of at least {SMALLEST_BPE}, like bpe:8192")
    path = cache_folder() / "tokenizers" / f"bpe-{int(argument)}-{corpus_hash(corpus)[:32]}.json"
    if path.is_file() and (kept := _read_kept(path)) is not None:
        return BpeTokenizer(name, kept)
    backend = train_bpe(corpus.documents("train"), int(argument))
    if backend.get_vocab_size() != int(argument):
        found = backend.get_vocab_size()
        raise GdnbenchError(
            f"tokenizer {name}: the train split of {corpus.name} gives no more than {found} tokens; use bpe:{found}"
        )
    with atomic_file(path) as file:
        file.write(backend.to_str().encode())
    return BpeTokenizer(name, backend)


def _read_kept(path: Path) -> hf.Tokenizer | None:
    try:
        return hf.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        aside = set_aside(path)
        warnings.warn(
            f"{path}: damaged ({error}); kept as {aside.name} and trained again", RuntimeWarning, stacklevel=4
        )
        return None


def _gpt2_file(path: Path) -> Any:
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise GdnbenchError(f"tokenizer gpt2: {file}: no such file; give tokenizer.json or the folder that holds it")
    try:
        return hf.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise GdnbenchError(f"tokenizer gpt2: {file}: not a tokenizer.json: {error}") from error


def _gpt2_hub() -> Any:
    try:
        return hf.Tokenizer.from_pretrained("gpt2")
    except Exception as error:  # the class depends on the hub library's version and its HTTP client
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise GdnbenchError(
            f"tokenizer gpt2: could not be had from the Hugging Face hub ({reason}); give it as gpt2:<tokenizer.json>"
        ) from error
