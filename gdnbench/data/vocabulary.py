"""The size of a tokenizer's vocabulary, from its name alone, so that a plan needs no text."""

from gdnbench.errors import GdnbenchError, unknown


def tokenizer_label(tokenizer: str) -> str:
    """Return a tokenizer as records name it: without the place of its file."""
    return "gpt2" if tokenizer.startswith("gpt2:") else tokenizer


def vocabulary_of(tokenizer: str) -> int:
    """Return the number of tokens of ``bytes`` (256), ``bpe:<vocabulary>`` or ``gpt2[:<file>]`` (50,257)."""
    name, _, argument = tokenizer.partition(":")
    if name == "bpe":
        if not argument.isdigit():
            raise GdnbenchError(f"tokenizer {tokenizer!r}: expected bpe:<vocabulary>, such as bpe:8192")
        return int(argument)
    sizes = {"bytes": 256, "gpt2": 50257}
    if name not in sizes:
        raise unknown("tokenizer", tokenizer, [*sizes, "bpe:<vocabulary>"])
    return sizes[name]
