"""The first line of a csv: its names, and which key of pipeline.yaml it speaks for where they are not the declared."""

from __future__ import annotations

import re
from collections.abc import Sequence

from millrace.core.errors import DataError
from millrace.sources.formats.columns import Wanted, check_header
from millrace.sources.formats.pieces import Piece, split
from millrace.sources.formats.records import Block
from millrace.spec.csv import Csv

_DELIMITERS = ",;\t|"
_EXCEL = re.compile(rb'"?sep=([^\r\n])"?[\r\n]*', re.IGNORECASE)


def read_header(piece: Piece, name: str) -> tuple[list[str], Piece]:
    """Names in the first line of a file, and its first piece without them. A line `sep=;` before it is left out.

    Raises DataError for one that cannot be read, or names another delimiter.
    """
    form = piece.block.form
    end = piece.block.after(0)
    if said := _EXCEL.fullmatch(piece.block.data[:end]):
        if said.group(1) != form.delimiter.encode():
            raise DataError(f"the first line says which delimiter is meant: {_quoted(said.group(1).decode())}",
                            where=f"{name}:1", next_step=_set(said.group(1).decode()))  # fmt: skip
        piece = piece.behind(end)
        end = piece.block.after(0)
    first = Block.of(piece.block.data[:end], form)
    if not end and piece.problem:
        raise piece.problem
    if not first.data.strip(b"\r\n"):
        return [], piece.behind(end)
    width = int(first.widths()[0])
    texts = split(first, width, range(width))
    if texts is None:
        raise DataError("the header cannot be read as csv", where=f"{name}:{piece.line}")
    return [text[0].as_py() for text in texts], piece.behind(end)


def spelled(header: Sequence[str], columns: Sequence[str], form: Csv) -> list[str]:
    """The header's names, as the spec spells them where it says that their case is of no matter."""
    known = {column.casefold(): column for column in columns} if form.header_case == "ignore" else {}
    return [known.get(column.casefold(), column) for column in header]


def check_names(header: Sequence[str], where: str, wanted: Wanted, form: Csv) -> None:
    """`check_header`, with the keys of pipeline.yaml that the header speaks for."""
    try:
        check_header(header, where, wanted)
    except DataError as err:
        if (keys := _keys(header, wanted, form)) is None:
            raise
        raise DataError(err.message, where=where, allowed=err.allowed, next_step=keys) from None


def _keys(header: Sequence[str], wanted: Wanted, form: Csv) -> str | None:
    if any("\0" in column for column in header):
        return "It looks like UTF-16 without a mark: set csv.encoding: utf-16-le (or utf-16-be)"
    folded = {column.casefold() for column in wanted}
    for delimiter in _DELIMITERS.replace(form.delimiter, ""):
        # Put together again, the names hold the delimiter that is meant.
        names = [column.strip().strip("\"'") for column in form.delimiter.join(header).split(delimiter)]
        if len(names) > 1 and folded & {column.casefold() for column in names}:
            return _set(delimiter) + ("" if {*wanted} & {*names} else ", and csv.header_case: ignore")
    if folded & {column.casefold() for column in header if column not in wanted}:
        return "Upper and lower case differ: set csv.header_case: ignore"
    return None


def _set(delimiter: str) -> str:
    return f"If {_quoted(delimiter)} stands between the values, set csv.delimiter: {_quoted(delimiter)}"


def _quoted(character: str) -> str:
    return '"\\t"' if character == "\t" else f"'{character}'"
