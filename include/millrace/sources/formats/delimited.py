"""Read csv: strictly, and value for value as it was written.

The file is cut at ends of records and Arrow splits each piece into texts, whole values however long they are; what they
say is read here. Arrow's own errors quote values, which may be personal, and hold no line: what is wrong is found again
and said in our words.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.core.errors import DataError
from millrace.sources.formats.columns import TYPES, Public, Refused, Wanted
from millrace.sources.formats.csv_header import check_names, read_header, spelled
from millrace.sources.formats.pieces import Piece, pieces, split
from millrace.sources.formats.records import Block
from millrace.sources.formats.values import hint, read_values
from millrace.spec.csv import Csv


def read_csv(
    path: Path, name: str, wanted: Wanted, public: Public, form: Csv | None = None, zone: str | None = None
) -> pa.Table:
    """Read the declared columns. Raises DataError naming file, line and column where it can."""
    form = form or Csv()
    rest = pieces(path, name, form)
    names, first = read_header(next(rest), name)
    header = spelled(names, list(wanted), form)
    check_names(header, f"{name}:{first.line - 1 or 1}", wanted, form)
    reader = _Reader(name, header, wanted, public, form, zone)
    return pa.concat_tables([reader.read(piece) for piece in itertools.chain([first], rest)])


def csv_header(path: Path, name: str, form: Csv | None = None, columns: Sequence[str] = ()) -> list[str]:
    """Names in the first line; `columns` as they are spelled there, where the form says that case is of no matter."""
    form = form or Csv()
    return spelled(read_header(next(pieces(path, name, form)), name)[0], columns, form)


@dataclass(frozen=True)
class _Reader:
    """Reads pieces of one file."""

    name: str
    header: Sequence[str]
    wanted: Wanted
    public: Public
    form: Csv
    zone: str | None

    def read(self, piece: Piece) -> pa.Table:
        """The declared columns of a piece. Raises DataError for the first thing that is wrong with it or after it."""
        block, problem = piece.block, piece.problem
        texts = self._split(block)
        if texts is None:
            block, problem = self._whole(piece)
            texts = self._split(block)
        if texts is None:
            raise DataError("the file cannot be read as csv", where=self.name)
        made: dict[str, pa.Array] = {}
        refused: list[tuple[int, str, Refused]] = []
        for (column, kind), given in zip(self.wanted.items(), texts, strict=True):
            if block.quotes.size and kind != TYPES["string"]:
                absent = pc.is_in(given, pa.array(self.form.null_values, pa.string()))
                given = pc.if_else(absent, pa.scalar(None, pa.string()), given)  # in quotes too: it is no text
            try:
                made[column] = read_values(given, kind, self.form, self.zone)
            except Refused as err:
                refused.append((err.place, column, err))
        if refused:
            raise self._refusal(*min(refused, key=lambda one: one[:2]), block, piece.line)
        if problem:
            raise problem
        return pa.table(made)

    def _split(self, block: Block) -> list[pa.Array] | None:
        places = [self.header.index(column) for column in self.wanted]
        return split(block, len(self.header), places, self.form.null_values)

    def _whole(self, piece: Piece) -> tuple[Block, DataError | None]:
        """The records before the first that has more or fewer fields than the header, and what is wrong with that."""
        block, widths = piece.block, piece.block.widths()
        starts, stops = block.records()
        bad = np.flatnonzero(widths != len(self.header))
        if not bad.size:
            return block, piece.problem
        first = int(bad[0])
        width, hint = int(widths[first]), None
        if width < len(self.header) and piece.last and first == len(widths) - 1:
            hint = "The file ends here: it was probably cut off"
        elif width == len(self.header) + 1 and block.data[: stops[first]].endswith(self.form.delimiter.encode()):
            hint = "The line ends with a delimiter and the header does not: ask for both alike"
        line = piece.line + block.lines(int(starts[first]))
        problem = DataError(f"the line has {width} fields, the header {len(self.header)}", where=f"{self.name}:{line}",
                            next_step=hint)  # fmt: skip
        return Block.of(block.data[: starts[first]], self.form), problem

    def _refusal(self, place: int, column: str, err: Refused, block: Block, line: int) -> DataError:
        texts = self._split(block)
        text = texts[list(self.wanted).index(column)][place].as_py() if texts else ""
        public = self.public(column)
        return DataError(
            f"column '{column}' {err.why}",
            where=f"{self.name}:{line + block.lines(int(block.records()[0][place]))}",
            given=text if public else None,
            allowed=err.allowed,
            next_step=err.next_step or hint(text, self.wanted[column], self.form, public),
        )
