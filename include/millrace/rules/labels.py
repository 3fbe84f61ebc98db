"""Labels: when one is known, when it is absent, and what it may be. Pure.

A label is known at `as_of` when its event time and then `label.known_after` lie before or at that moment, in UTC:
`known_after.after(event_time) <= as_of`. Nothing shorter is the same. A month before 28 February is no moment (31
January and 28 January are both a month before it), and adding a month does not even keep the order of moments (30
January noon comes to 28 February noon, 31 January morning to 28 February morning), so every event time is looked at.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from millrace.core.errors import DataError
from millrace.rules.numbers import LARGEST
from millrace.spec import Duration

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Column = Any  # an Array or ChunkedArray: the stubs know too little of what they share

Task = Literal["binary", "multiclass", "regression"]

ALLOWED: dict[Task, str] = {
    "binary": "0, 1 or booleans",
    "multiclass": "text or integers of 64 bits with a sign",
    "regression": f"finite numbers up to {LARGEST:.8g}",
}
"""What a label may be, per task."""
DAY = timedelta(days=1)
_MOST = 3  # wrong values that a message shows


def known(rows: pa.Table, event_time: str, known_after: Duration, as_of: datetime) -> pa.Array:
    """Whether the label of each row is known at `as_of`, a mask. Raises DataError as `utc` does."""
    import numpy as np
    import pyarrow as pa

    moments = np.asarray(utc(rows[event_time], event_time).cast(pa.int64()).to_numpy(), dtype=np.int64)
    day, clock = np.divmod(moments, DAY // timedelta(microseconds=1))
    # The clock's part of a duration can be taken from the other side without changing anything.
    limit = moment(as_of) - known_after.clock
    last, until = divmod(limit - datetime(1970, 1, 1, tzinfo=UTC), DAY)
    later = _later(day.view("datetime64[D]"), known_after)
    return pa.array((later < last) | ((later == last) & (clock <= until // timedelta(microseconds=1))))


def all_known(end: datetime, known_after: Duration) -> datetime:
    """The first moment from which on the labels of all events before `end` are known.

    Mostly `end` and then `known_after`; but events of the evening before 31 March are known a month later, on the
    evening of 30 April, when those of the morning of 31 March have been known for half a day. Those before the
    midnight that begins 1 May are known by the end of 30 May, and do not wait for 1 June.
    """
    end = moment(end)
    midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
    before = known_after.after(midnight - DAY) + DAY
    return before if end == midnight else max(known_after.after(end), before)


def utc(column: Column, name: str) -> Column:
    """Event times in UTC, microseconds; a timestamp without a zone is UTC. Raises DataError for another type, and
    for nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_timestamp(column.type):
        raise DataError("the event time must be a timestamp", given=f"{name}: {column.type}")
    if column.null_count:
        raise DataError(f"{column.null_count} of {len(column)} rows have no event time", given=name)
    if column.type.tz is None:
        return pc.assume_timezone(column.cast(pa.timestamp("us"), safe=False), "UTC")
    return column.cast(pa.timestamp("us", "UTC"), safe=False)


def moment(value: datetime) -> datetime:
    """The moment in UTC; one without a zone is UTC."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def absent(values: Column) -> Column:
    """Whether each label is missing: null, or NaN, which means the same."""
    import pyarrow.compute as pc

    return pc.is_null(values, nan_is_null=True)


def check(values: Column, column: str, task: Task, *, public: bool = False) -> None:
    """Raise DataError for labels that the task cannot have; those that are absent are left to `label.nulls`.

    Wrong values are named where the column is public.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if pa.types.is_null(kind):
        return
    if not _fits(kind, task):
        raise DataError(
            f"label '{column}' of a {task} task is {kind}",
            given=str(kind),
            allowed=ALLOWED[task],
            next_step=f"Give it another type in transform.sql, or choose another label.task than {task}",
        )
    if pa.types.is_boolean(kind) or (task == "multiclass" and not pa.types.is_uint64(kind)):
        return
    numbers = np.asarray(values.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy(), dtype=np.float64)
    if task == "binary":
        good = (numbers == 0) | (numbers == 1)
    else:
        good = numbers < 2**63 if task == "multiclass" else np.abs(numbers) <= LARGEST
    bad = ~(good | np.isnan(numbers))
    if wrong := int(bad.sum()):
        counts = pc.value_counts(values.filter(pa.array(bad))).to_pylist() if public else []
        frequent = sorted(counts, key=lambda item: -item["counts"])[:_MOST]
        raise DataError(
            f"label '{column}' of a {task} task ({kind}) is something else in {wrong} of {len(values)} rows",
            given=", ".join(f"{item['values']} ({item['counts']} rows)" for item in frequent) or None,
            allowed=ALLOWED[task],
            next_step="Correct it in transform.sql, and let the features' gate hold it; NULL is what is not known",
        )


def _fits(kind: pa.DataType, task: Task) -> bool:
    import pyarrow.types as types

    if task == "multiclass":
        texts = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        return bool(texts or types.is_integer(kind))
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return bool(number or (task == "binary" and types.is_boolean(kind)))


def _later(days: NDArray[np.datetime64], duration: Duration) -> NDArray[np.int64]:
    """Days since 1970 after the calendar's part of a duration: months first, to a day that they have, then days."""
    import numpy as np

    calendar: Any = duration.calendar
    month = days.astype("datetime64[M]")
    in_month = (days - month.astype("datetime64[D]")).astype(np.int64)
    month = month + np.timedelta64(12 * calendar.years + calendar.months, "M")
    first, after = (m.astype("datetime64[D]").astype(np.int64) for m in (month, month + np.timedelta64(1, "M")))
    return np.asarray(first + np.minimum(in_month, after - first - 1) + calendar.days, dtype=np.int64)
