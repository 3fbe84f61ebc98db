"""Text files as bytes of UTF-8, block by block; what is no text is named by line and guessed at."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from millrace.errors import DataError

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
    decoder, line, start = codecs.getincrementaldecoder(encoding)(), 1, True
    with path.open("rb") as handle:
        while True:
            block = handle.read(max(BLOCK, 4))
            if start and block.startswith(codecs.BOM_UTF8) and not codec.name.startswith("utf"):
                raise DataError(f"declared to be {encoding}, and begins with the mark of UTF-8", where=f"{name}:1",
                                next_step=f"Leave {key} out")  # fmt: skip
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeError as err:
                good = getattr(err, "object", b"")[: getattr(err, "start", 0)]
                words = "UTF-8" if codec.name.startswith("utf-8") else encoding
                raise DataError(f"not {words} text", where=f"{name}:{line + good.count(10)}",
                                next_step=_hint(path, key)) from None  # fmt: skip
            line += text.count("\n")
            if codec.name == "utf-8":
                piece = block.removeprefix(codecs.BOM_UTF8) if start else block
            else:
                piece = (text.removeprefix(_MARK) if start else text).encode("utf-8", "surrogatepass")
            if piece:
                yield piece
            if not block:
                return
            start = start and not text


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
