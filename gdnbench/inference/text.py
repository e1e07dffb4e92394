"""Text from tokens as they come: a character is shown when its last byte is there, and no text past a stop."""

import codecs
from collections.abc import Iterable, Sequence

from gdnbench.data import Tokenizer


class TextStream:
    """The text of a sequence that grows, up to the first of some stop texts.

    All pieces together are what `Tokenizer.decode` makes of all tokens, before that text.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()):
        self.tokenizer, self.stops = tokenizer, [stop for stop in stops if stop]
        self.over = False
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def add(self, tokens: Iterable[int], *, final: bool = False) -> str:
        """Return the characters that these tokens complete; bytes that are no UTF-8 become U+FFFD.

        What may be the beginning of a stop text waits for more, and so does half a character, unless they are
        ``final``.
        """
        text = self._held + self._bytes.decode(b"".join(map(self.tokenizer.spelling, tokens)), final=final)
        if self.over:
            return ""
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        self.over = bool(places)
        end = min(places) if places else len(text) - (0 if final else self._beginning(text))
        self._held = text[end:]
        return text[:end]

    def _beginning(self, text: str) -> int:
        """Return how many of the last characters begin a stop text."""
        sizes = (size for stop in self.stops for size in range(1, len(stop)) if text.endswith(stop[:size]))
        return max(sizes, default=0)
