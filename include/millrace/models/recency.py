"""Recency: training rows that count less the older their partition is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from millrace.core.errors import DataError
from millrace.models.metrics import Floats
from millrace.spec import Partitioning

if TYPE_CHECKING:
    import pyarrow as pa


def weights(event_time: pa.Array | pa.ChunkedArray, cut: Partitioning, last: str, half_life: float) -> Floats:
    """Weight of each row, shape (rows,), mean 1: half for every `half_life` partitions that lie between a row's own and
    `last`, the newest one, whose rows and any later count alike. Raises DataError for no rows and a null event time."""
    import pyarrow as pa

    if not len(event_time) or event_time.null_count:
        raise DataError("rows without an event time have no weight", given=event_time.null_count)
    zoned = pa.types.is_timestamp(event_time.type) and event_time.type.tz is not None
    moments = event_time.cast(pa.timestamp("us", "UTC" if zoned else None), safe=False).cast(pa.int64()).to_numpy()
    oldest, starts = int(moments.min()), [last]
    while _us(cut, starts[-1]) > oldest:
        starts.append(cut.previous(starts[-1]))
    begins = np.array([_us(cut, key) for key in reversed(starts)])
    age = len(begins) - np.searchsorted(begins, moments, side="right")
    found = np.exp2(-age / half_life)
    return np.asarray(found / found.mean(), dtype=np.float64)


def _us(cut: Partitioning, key: str) -> int:
    return round(cut.start(key).timestamp() * 1_000_000)
