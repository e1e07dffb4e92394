"""The lines of a text file as bytes, streamed, whether it is plain, xz or zst."""

import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from gdnbench.errors import GdnbenchError

CHUNK_BYTES = 1 << 20


def byte_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines with their newlines; joined they are the file's plain bytes.

    Only ``\\n`` ends a line. Raises `GdnbenchError` naming a file that is unreadable, damaged or truncated.
    """
    return _lines(_chunks(path))


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest


def _chunks(path: Path) -> Iterator[bytes]:
    """Yield the plain bytes of a file in pieces of about a mebibyte."""
    try:
        if path.name.lower().endswith(".zst"):
            yield from _zstd_chunks(path)
            return
        with lzma.open(path, "rb") if path.name.lower().endswith(".xz") else path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except (lzma.LZMAError, EOFError) as error:
        raise GdnbenchError(f"{path}: damaged or truncated xz file: {error}") from error
    except OSError as error:
        raise GdnbenchError(f"{path}: cannot be read: {error.strerror or error}") from error


def _zstd_chunks(path: Path) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        raise GdnbenchError(f'{path}: reading .zst needs zstandard: pip install "gdnbench[zstd]"') from None
    # zstandard's own stream reader takes a truncated file for a complete one, hence the frames by hand.
    frame = zstandard.ZstdDecompressor().decompressobj()
    begun = False
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            while data:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                begun = True
                try:
                    yield frame.decompress(data)
                except zstandard.ZstdError as error:
                    raise GdnbenchError(f"{path}: damaged zst file: {error}") from error
                data = frame.unused_data if frame.eof else b""
    if begun and not frame.eof:
        raise GdnbenchError(f"{path}: truncated zst file; copy it again")
