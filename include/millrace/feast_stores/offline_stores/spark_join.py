"""The point-in-time join on Spark: the same answer as `asof`, which says which row is meant.

There is no inequality in it, which Spark would run as a product of all rows of a key: entity rows and feature rows
are laid on one line of time, and a running maximum of the feature rows, ordered by (event time, created time, all
columns by name), is read off at every entity row. Null is the least of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.core.errors import SpecError
from millrace.sql.spark import guarded

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ROW, MOMENT = "__millrace_spark_row", "__millrace_spark_moment"
"""Columns of the entity rows: their number, and their moment in UTC."""
_BEST, _SIDE = "__millrace_spark_best", "__millrace_spark_side"
WHERE = "the point-in-time join"


@dataclass(frozen=True)
class View:
    """A feature view as the join sees it."""

    name: str
    files: Sequence[str]
    keys: Mapping[str, str]
    """Column of the entity rows -> column of the files."""
    event: str
    created: str | None
    features: Mapping[str, str]
    """Name in the result -> column of the files."""
    ttl: timedelta | None


def join(
    spark: SparkSession, views: Sequence[View], asked: pa.Table, columns: Sequence[str], *, known_only: bool
) -> pa.Table:
    """Join the rows of `asked` with these views: `columns` of it, then the features, in its order.

    With `known_only` a feature row counts from its created time on, and one without a created time never. Raises
    SpecError for keys that cannot be compared, DataError, MemoryError, Unavailable.
    """
    found = asked.select(columns)
    moments = pc.min_max(asked[MOMENT]).as_py()
    for view in views:
        keys = list(view.keys)
        mine = asked.select([ROW, MOMENT, *keys])

        def hits(view: View = view, mine: pa.Table = mine) -> pa.Table:
            return _hits(spark, view, mine, moments, known_only).toArrow()

        made = guarded(hits, WHERE)
        made = made.take(pc.sort_indices(made[ROW]))
        for out in view.features:
            found = found.append_column(out, made[out])
    return found


def _hits(
    spark: SparkSession, view: View, asked: pa.Table, span: Mapping[str, datetime | None], known_only: bool
) -> DataFrame:
    """Row number and features of every entity row."""
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    held = spark.read.option("mergeSchema", True).parquet(*view.files)
    held = held.select(*(_no_nan(field) for field in held.schema.fields))  # Snapshots of earlier versions hold it
    created = f.col(_q(view.created)).cast("timestamp") if view.created else f.lit(None).cast("timestamp")
    event = f.col(_q(view.event)).cast("timestamp")
    kept = event.isNotNull()
    if span["max"] is not None:
        kept = kept & (event <= f.lit(span["max"]))
    if view.ttl is not None and span["min"] is not None:
        kept = kept & (event >= f.lit(max(span["min"] - view.ttl, datetime(1, 1, 2, tzinfo=UTC))))
    for theirs in view.keys.values():
        kept = kept & f.col(_q(theirs)).isNotNull()
    if known_only and view.created:
        kept = kept & created.isNotNull()
    order = [event.alias("event"), created.alias("created")]
    order += [f.col(_q(column)).alias(f"c{n}") for n, column in enumerate(sorted(held.columns))]
    place = {column: f"c{n}" for n, column in enumerate(sorted(held.columns))}
    time = f.greatest(event, created) if known_only and view.created else event
    keys = [f"k{n}" for n in range(len(view.keys))]
    right = held.where(kept).select(
        *(f.col(_q(theirs)).alias(key) for key, theirs in zip(keys, view.keys.values(), strict=True)),
        time.alias(MOMENT), f.lit(0).alias(_SIDE), f.lit(None).cast("bigint").alias(ROW),
        f.struct(*order).alias(_BEST),
    )  # fmt: skip
    types = {field.name: field.dataType.simpleString() for field in held.schema.fields}
    rows = spark.createDataFrame(asked)
    given = {field.name: field.dataType.simpleString() for field in rows.schema.fields}
    left = rows.select(
        *(
            _comparable(view, own, given[own], types[theirs]).alias(key)
            for key, (own, theirs) in zip(keys, view.keys.items(), strict=True)
        ),
        f.col(MOMENT), f.lit(1).alias(_SIDE), f.col(ROW), f.lit(None).cast(right.schema[_BEST].dataType).alias(_BEST),
    )  # fmt: skip
    # Rows of one moment: feature rows before entity rows. An entity row without a moment comes first, and sees nothing.
    line = Window.partitionBy(*keys).orderBy(f.asc_nulls_first(MOMENT), f.asc(_SIDE))
    best = f.max(_BEST).over(line.rowsBetween(Window.unboundedPreceding, Window.currentRow))
    hit = left.unionByName(right).select(MOMENT, _SIDE, ROW, best.alias(_BEST)).where(f.col(_SIDE) == 1)
    live = f.lit(True)
    if view.ttl is not None:
        age = f.unix_micros(f.col(MOMENT)) - f.unix_micros(f.col(f"{_BEST}.event"))
        live = age <= f.lit(view.ttl // timedelta(microseconds=1))
    return hit.select(
        ROW, *(f.when(live, f.col(f"{_BEST}.{place[column]}")).alias(out) for out, column in view.features.items())
    )


def _no_nan(field: Any) -> Any:
    """A column, with null for NaN."""
    from pyspark.sql import functions as f

    column = f.col(_q(field.name))
    if field.dataType.simpleString() not in ("float", "double"):
        return column
    return f.nanvl(column, f.lit(None).cast(field.dataType)).alias(field.name)


def _comparable(view: View, own: str, have: str, want: str) -> Any:
    """A key of the entity rows as the files' type; a number with a fraction, or none, is no key of whole numbers."""
    from pyspark.sql import functions as f

    column, whole, floats = f.col(_q(own)), ("tinyint", "smallint", "int", "bigint"), ("float", "double")
    if have == want:
        return column
    if have == "void" or (want in whole and have in whole):
        return column.try_cast(want)
    if want in whole and have in floats:  # what pandas makes of whole numbers with a gap
        return f.when(column == f.rint(column), column.try_cast(want))
    if want in floats and have in (*whole, *floats):
        return column.cast(want)
    raise SpecError(
        f"join key '{own}' is of another type in the entity rows than in the data", where=view.name, given=have,
        allowed=want, next_step="Convert the entity rows",
    )  # fmt: skip


def _q(column: str | None) -> str:
    return "`" + str(column).replace("`", "``") + "`"
