"""Read a delivered csv, parquet or json file into Arrow with the declared columns and types.

The fast path is Arrow's reader. Its errors quote values, which may be personal; so when it refuses, a slow second
pass finds the line and says what is wrong in our words.
"""

from __future__ import annotations

import codecs
import csv
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from millrace.errors import DataError, nearest

TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
}
NULLS = ("", "NA")
BLOCK = 1 << 22


def read(
    path: Path, name: str, format: str, columns: Sequence[str], types: Mapping[str, str], public: Callable[[str], bool]
) -> pa.Table:
    """Read the declared columns. `name` is what people call the file; `public` says whose values may be shown.

    Raises DataError naming file, line and column where it can.
    """
    wanted = {column: TYPES[types.get(column, "string")] for column in columns}
    if format == "parquet":
        table = _parquet(path, name, wanted)
    elif format == "json":
        _check_text(path, name)
        table = _json(path, name, wanted)
    else:
        _check_text(path, name)
        table = _csv(path, name, wanted, public)
    if table.num_rows == 0:
        raise DataError("the file has a header but no rows", where=name)
    return table


def _csv(path: Path, name: str, wanted: Mapping[str, pa.DataType], public: Callable[[str], bool]) -> pa.Table:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        header = next(csv.reader(handle), [])
    _check_header(header, name, wanted)
    try:
        return pa.csv.read_csv(
            path,
            convert_options=pa.csv.ConvertOptions(
                column_types=dict(wanted), include_columns=list(wanted), null_values=list(NULLS),
                strings_can_be_null=True, true_values=["true", "True", "1"], false_values=["false", "False", "0"],
            ),
        )  # fmt: skip
    except pa.ArrowInvalid:
        pass
    for problem in _csv_problems(path, name, header, wanted, public):
        # `from None`: Arrow's own message quotes the value.
        raise problem from None
    raise DataError("the file cannot be read as csv", where=name, next_step="Look for unbalanced quotes")


def _csv_problems(
    path: Path, name: str, header: list[str], wanted: Mapping[str, pa.DataType], public: Callable[[str], bool]
) -> Iterator[DataError]:
    kinds = {pa.int64(): "integer", pa.float64(): "number", pa.bool_(): "boolean"}
    places = [(header.index(c), c, kinds.get(t, "timestamp")) for c, t in wanted.items() if t != pa.string()]
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle)
        next(reader)
        try:
            for row in reader:
                where = f"{name}:{reader.line_num}"
                if len(row) != len(header):
                    if not row:
                        continue
                    last = next(reader, None) is None
                    hint = "The file ends here: it was probably cut off" if last and len(row) < len(header) else None
                    yield DataError(
                        f"the line has {len(row)} fields, the header {len(header)}", where=where, next_step=hint
                    )
                    return
                for place, column, kind in places:
                    if row[place] not in NULLS and not _is(kind, row[place]):
                        yield DataError(
                            f"column '{column}' is not of type {kind}",
                            where=where,
                            given=row[place] if public(column) else None,
                            allowed="ISO 8601 with Z or an offset" if kind == "timestamp" else None,
                        )
                        return
        except csv.Error as err:
            yield DataError(f"not valid csv: {err}", where=f"{name}:{reader.line_num}")


def _is(kind: str, text: str) -> bool:
    try:
        if kind == "integer":
            int(text)
        elif kind == "number":
            float(text)
        elif kind == "boolean":
            return text in ("true", "True", "1", "false", "False", "0")
        else:
            return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
    return True


def _json(path: Path, name: str, wanted: Mapping[str, pa.DataType]) -> pa.Table:
    # Times are read as text first: Arrow's JSON reader takes none with an offset.
    schema = pa.schema([(c, pa.string() if pa.types.is_timestamp(t) else t) for c, t in wanted.items()])
    options = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        table = pa.json.read_json(path, parse_options=options)
        return table.select(list(wanted)).cast(pa.schema(list(wanted.items())))
    except pa.ArrowInvalid:
        pass
    raise DataError(
        "the file is not newline-delimited JSON with the declared columns and types", where=name,
        allowed=[f"{c} {t}" for c, t in wanted.items()],
    )  # fmt: skip


def _parquet(path: Path, name: str, wanted: Mapping[str, pa.DataType]) -> pa.Table:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError):
        schema = None
    if schema is None:
        raise DataError("the file is not Parquet, or was cut off", where=name)
    _check_header(schema.names, name, wanted)
    table = pq.read_table(path, columns=list(wanted))
    for column, kind in wanted.items():
        given = table.schema.field(column).type
        if pa.types.is_timestamp(kind) and pa.types.is_timestamp(given) and given.tz is None:
            raise DataError(f"column '{column}' has no time zone", where=name, given=given, allowed="timestamps in UTC")
        try:
            table = table.set_column(table.schema.get_field_index(column), column, table[column].cast(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise DataError(
                f"column '{column}' is not of its type", where=name, given=given, allowed=str(kind)
            ) from None
    return table


def _check_header(header: Sequence[str], name: str, wanted: Mapping[str, pa.DataType]) -> None:
    twice = sorted({column for column in header if list(header).count(column) > 1})
    if twice:
        raise DataError(f"the header names a column twice: {', '.join(twice)}", where=f"{name}:1")
    for column in wanted:
        if column not in header:
            near = nearest(column, header)
            raise DataError(
                f"the header has no column '{column}'" + (f"; did you mean '{near}'?" if near else ""),
                where=f"{name}:1", allowed=list(wanted),
                next_step="Is this the right file? Its columns are named in pipeline.yaml",
            )  # fmt: skip


def _check_text(path: Path, name: str) -> None:
    """Raise DataError naming the first line that is not UTF-8."""
    decoder, lines = codecs.getincrementaldecoder("utf-8")(), 1
    with path.open("rb") as handle:
        for block in itertools.chain(iter(lambda: handle.read(BLOCK), b""), [b""]):
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as err:
                line = lines + err.object[: err.start].count(b"\n")
                raise DataError(
                    "not UTF-8 text", where=f"{name}:{line}", next_step="Ask for the file in UTF-8"
                ) from None
            lines += block.count(b"\n")
