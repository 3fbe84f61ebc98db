"""Text files as bytes of UTF-8, block by block; what is no text is named by line and guessed at."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from millrace.core.errors import DataError

BLOCK = 1 << 22
_MARK = "\ufeff"
_MAGIC = {
    b"\x1f\x8b": "It looks like gzip: say so under compression in pipeline.yaml",
    b"PK\x03\x04": "It looks like zip: say so under compression in pipeline.yaml",
    b"PAR1": "It looks like Parquet: say so under format in pipeline.yaml",
}


def check_text(path: Path, name: str) -> None:
    """Raise DataError naming the first line that is not UTF-8."""
    for _ in read_blocks(path, name):
        pass


def read_blocks(path: Path, name: str, encoding: str = "utf-8", key: str | None = None) -> Iterator[bytes]:
    """The file as pieces of UTF-8, without a mark at its start; they may end anywhere, also inside of a character.

    `key` is that of pipeline.yaml which names the encoding. Raises DataError naming the first line that is not text.
    """
    codec = codecs.lookup(encoding)
    plain, start = codec.name == "utf-8", True
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as handle:
        while True:
            block = given = handle.read(max(BLOCK, 4))
            if start and given.startswith(codecs.BOM_UTF8):
                if not codec.name.startswith("utf"):
                    raise DataError(f"declared to be {encoding}, and begins with the mark of UTF-8", where=f"{name}:1",
                                    next_step=f"Leave {key} out")  # fmt: skip
                block = block.removeprefix(codecs.BOM_UTF8) if plain else block
            if not (plain and block.isascii() and not decoder.getstate()[0]):  # which needs no decoding
                try:
                    text = decoder.decode(block, final=not given)
                except UnicodeError as err:
                    behind = len(getattr(err, "object", block)) - getattr(err, "start", 0)
                    raise DataError(f"not {encoding.upper() if plain else encoding} text",
                                    where=f"{name}:{_line(path, handle.tell() - behind)}",
                                    next_step=_hint(path, key)) from None  # fmt: skip
                if not plain:
                    block = (text.removeprefix(_MARK) if start else text).encode(errors="surrogatepass")
            if block:
                yield block
                start = False
            if not given:
                return


def _line(path: Path, place: int) -> int:
    """Number of the line in which a byte of a file stands."""
    line, left = 1, place
    with path.open("rb") as handle:
        while left > 0 and (block := handle.read(min(BLOCK, left))):
            line, left = line + block.count(b"\n"), left - len(block)
    return line


def _hint(path: Path, key: str | None) -> str:
    with path.open("rb") as handle:
        start = handle.read(4)
    if known := next((text for magic, text in _MAGIC.items() if start.startswith(magic)), None):
        return known
    wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if key is None:
        return f"{'It looks like UTF-16; ask' if wide else 'Ask'} for the file in UTF-8"
    if wide:
        return f"It looks like UTF-16: set {key}: utf-16"
    return f"Ask for the file in UTF-8, or set {key} to what it is in, such as windows-1252 or latin-1"
