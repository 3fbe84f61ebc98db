"""A csv file as pieces of whole records, each split into texts by Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from millrace.core.errors import DataError
from millrace.sources.formats.records import Block
from millrace.sources.formats.text import read_blocks
from millrace.spec.csv import NONE, Csv

LONGEST = 1 << 26
"""Bytes of the longest record that is read: a quote that is never closed must not take all memory there is."""


@dataclass(frozen=True)
class Piece:
    """Whole records, the number of their first line, whether the file ends with them, and what is wrong after them."""

    block: Block
    line: int
    last: bool
    problem: DataError | None

    def behind(self, place: int) -> Piece:
        """What comes from a place on where a record begins."""
        line = self.line + self.block.lines(place)
        return replace(self, block=Block.of(self.block.data[place:], self.block.form), line=line)


def pieces(path: Path, name: str, form: Csv) -> Iterator[Piece]:
    """The file, cut at ends of records: at least one piece, and none after one with a problem."""
    by_cr: bool | None = None
    rest, line, blocks = b"", 1, read_blocks(path, name, form.encoding, "csv.encoding")
    following: bytes | None = next(blocks, b"")
    while following is not None:
        data, following = rest + following, next(blocks, None)
        block, last, problem = Block.of(data, form), following is None, None
        end = len(data) if last else block.end(len(data))
        if by_cr is None and (end or last):
            by_cr = data[: block.after(0)].endswith(b"\r")
        if flaw := block.flaw(last, bool(by_cr)):
            problem = DataError(flaw.message, where=f"{name}:{line + block.lines(flaw.place)}",
                                next_step=flaw.next_step)  # fmt: skip
            end = block.end(flaw.place)
        elif end == 0 and len(data) > LONGEST:
            problem = DataError(f"a line of more than {LONGEST >> 20} MiB begins here", where=f"{name}:{line}",
                                next_step="Is a quote never closed?")  # fmt: skip
        elif end == 0 and not last:
            rest = data
            continue
        yield Piece(block if end == len(data) else Block.of(data[:end], form), line, last, problem)
        if problem:
            return
        rest, line = data[end:], line + block.lines(end)


def split(block: Block, width: int, columns: Sequence[int], null: Sequence[str] = ()) -> list[pa.Array] | None:
    """Texts of some columns, null where the text stands in `null` and in no quotes.

    None where a record has more or fewer fields than `width`.
    """
    if not block.data.strip(b"\r\n"):
        return [pa.array([], pa.string()) for _ in columns]
    names = [str(place) for place in range(width)]
    kept = [names[place] for place in columns]
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(block.data),
            # One block: a value that holds a line end loses bytes where a block ends in it.
            read_options=pa.csv.ReadOptions(block_size=len(block.data) + 1, column_names=names),
            parse_options=pa.csv.ParseOptions(
                delimiter=block.form.delimiter,
                quote_char=False if block.form.quote == NONE else block.form.quote,
                escape_char=False if block.form.escape == NONE else block.form.escape,
                newlines_in_values=block.quotes.size > 0 or block.escaped.size > 0,
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(kept, pa.string()), include_columns=kept, null_values=list(null),
                strings_can_be_null=True, quoted_strings_can_be_null=False,
            ),
        )  # fmt: skip
    except pa.ArrowInvalid:
        return None
    return [table[name].combine_chunks() for name in kept]
