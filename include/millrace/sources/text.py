"""Text files as bytes: encoding, lines and quotes, counted in one fast pass."""

from __future__ import annotations

import codecs
import itertools
from dataclasses import dataclass
from pathlib import Path

from millrace.errors import DataError

BLOCK = 1 << 22
_MAGIC = {
    b"\x1f\x8b": "It looks like gzip: say so under compression in pipeline.yaml",
    b"PK\x03\x04": "It looks like zip: say so under compression in pipeline.yaml",
    b"PAR1": "It looks like Parquet: say so under format in pipeline.yaml",
    b"\xff\xfe": "It looks like UTF-16; ask for the file in UTF-8",
    b"\xfe\xff": "It looks like UTF-16; ask for the file in UTF-8",
}


@dataclass(frozen=True)
class Text:
    """What a text file is made of: lines (the last one counts without its line end too) and double quotes."""

    lines: int
    quotes: int


def check_text(path: Path, name: str) -> Text:
    """Count lines and quotes. Raises DataError naming the first line that is not UTF-8."""
    decoder, ends, quotes, last = codecs.getincrementaldecoder("utf-8")(), 0, 0, b"\n"
    with path.open("rb") as handle:
        for block in itertools.chain(iter(lambda: handle.read(BLOCK), b""), [b""]):
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as err:
                line = ends + 1 + err.object[: err.start].count(b"\n")
                raise DataError("not UTF-8 text", where=f"{name}:{line}", next_step=_hint(path)) from None
            ends += block.count(b"\n")
            quotes += block.count(b'"')
            last = block[-1:] or last
    return Text(lines=ends + (last != b"\n"), quotes=quotes)


def _hint(path: Path) -> str:
    with path.open("rb") as handle:
        start = handle.read(4)
    return next((text for magic, text in _MAGIC.items() if start.startswith(magic)), "Ask for the file in UTF-8")
