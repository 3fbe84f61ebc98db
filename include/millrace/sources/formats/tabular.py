"""Read a delivered csv, parquet or json file, or a zip of images or texts, into Arrow with the declared columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from millrace.core.errors import DataError
from millrace.sources.formats.columns import Public, wanted
from millrace.sources.formats.delimited import csv_header, read_csv
from millrace.sources.formats.json_lines import json_header, read_json
from millrace.sources.formats.media import media_header, read_media
from millrace.sources.formats.parquet import parquet_header, read_parquet
from millrace.spec.csv import Csv
from millrace.spec.media import MEASURED


def read(
    path: Path,
    name: str,
    format: str,
    columns: Sequence[str],
    types: Mapping[str, str],
    public: Public,
    csv: Csv | None = None,
    timezone: str | None = None,
) -> pa.Table:
    """Read the declared columns. `name` is what people call the file; `public` says whose values may be shown.

    `csv` says how a csv is written, `timezone` in which zone times without an offset are, which are refused where it is
    None. Raises DataError naming file, line and column where it can.
    """
    declared = wanted(columns, types)
    if format == "parquet":
        table = read_parquet(path, name, declared, timezone)
    elif format == "json":
        table = read_json(path, name, declared, public, timezone)
    elif format in MEASURED:
        table = read_media(path, name, format, declared, public, timezone)
    else:
        table = read_csv(path, name, declared, public, csv, timezone)
    if table.num_rows == 0:
        empty = "the file has no rows" if format in ("parquet", "json") else "the file has a header but no rows"
        raise DataError(empty, where=name)
    return table


def header(path: Path, name: str, format: str, csv: Csv | None = None, columns: Sequence[str] = ()) -> list[str]:
    """Columns that a file has, declared or not; of a json file those of its first object.

    Where `csv` says that case is of no matter, the declared `columns` are spelled as they are declared.
    """
    if format == "parquet":
        return parquet_header(path, name)
    if format in MEASURED:
        return media_header(path, name)
    return json_header(path, name) if format == "json" else csv_header(path, name, csv, columns)
