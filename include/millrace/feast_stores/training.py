"""Entity rows, what is known of them at a moment, and their point-in-time join through Feast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import FeatureStore
from feast.errors import FeastError

from millrace.core.errors import DataError, SpecError
from millrace.store.snapshots import concat

_EVENT_TIME = "event_timestamp"
"""The name under which Feast looks for the event time of entity rows."""
_ROW = "__millrace_row"


def entity_rows(files: Sequence[tuple[str, Path]], keys: Sequence[str], others: Sequence[str]) -> pa.Table:
    """Read these columns of (partition, Parquet file) in order: one row per row of the files, duplicates included.

    `keys` are the join keys and the event time, `others` the label and what stands beside it. Raises DataError naming
    the partition for a column that is missing or has types with nothing in common, and for keys that are null.
    """
    columns = [*keys, *others]
    tables = []
    for partition, path in files:
        held = pq.read_schema(path).names
        if lacking := [name for name in columns if name not in held]:
            raise DataError(
                "the features lack columns of the spec",
                where=f"partition {partition}",
                given=", ".join(lacking),
                allowed=held,
            )
        tables.append(pq.read_table(path, columns=columns))
    rows = concat(tables).combine_chunks()
    for name in keys:
        if rows[name].null_count:
            raise DataError(
                f"{rows[name].null_count} of {rows.num_rows} rows are not entity rows: {name} is null",
                given=name,
                next_step="Let transform.sql drop them, and the features' gate refuse them",
            )
    return rows


def join(
    store: FeatureStore,
    service: str,
    features: Sequence[str],
    rows: pa.Table,
    keys: Sequence[str],
    moments: pa.ChunkedArray,
    refs: Sequence[str] = (),
) -> pa.Table:
    """Return the features of every row at its moment, in the rows' order; nulls where nothing was known yet.

    `refs` are what Feast is asked for instead of the service, `view:feature`, where that has on-demand features, too.
    A value with a created time counts from that time on. `moments` are UTC, one per row. Raises SpecError when Feast
    cannot serve the FeatureService, DataError unless exactly the rows that were asked for come back, MemoryError when
    the join does not fit (Feast pairs every row of an entity with every earlier one before it takes the latest).
    """
    asked = pa.table(
        {
            **{key: rows[key] for key in keys},
            _EVENT_TIME: moments,
            _ROW: pa.array(range(rows.num_rows), pa.int64()),
        }
    ).to_pandas()
    try:
        found: Any = store.get_historical_features(
            entity_df=asked, features=list(refs) or store.get_feature_service(service), filter_by_created_timestamp=True
        ).to_arrow()
    except duckdb.OutOfMemoryException as err:
        raise MemoryError("the point-in-time join needs more memory than there is") from err
    except FeastError as err:
        raise SpecError(f"Feast cannot serve the FeatureService: {err}", given=service) from err
    if lost := [name for name in features if name not in found.column_names]:
        raise DataError("Feast returned no such features", given=", ".join(lost), allowed=found.column_names)
    found = found.take(pc.sort_indices(found[_ROW])).combine_chunks()
    if not found[_ROW].combine_chunks().equals(pa.array(range(rows.num_rows), pa.int64())):
        raise DataError(
            f"{rows.num_rows} entity rows were asked for, Feast returned {found.num_rows} or others", given=service
        )
    for key in keys:
        if not found[key].combine_chunks().equals(rows[key].combine_chunks().cast(found[key].type)):
            raise DataError("Feast returned rows of other entities than asked for", given=key)
    return found.select(list(features))


def as_stored(table: pa.Table, schemas: Sequence[pa.Schema]) -> pa.Table:
    """Give columns the Arrow type that they have in all of these schemas; DuckDB and pandas know fewer types."""
    for index, name in enumerate(table.column_names):
        kinds = {schema.field(name).type for schema in schemas if name in schema.names}
        if len(kinds) == 1 and table[name].type != (kind := kinds.pop()):
            try:
                table = table.set_column(index, name, table[name].cast(kind))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                continue  # a feature of that name comes from elsewhere
    return table
