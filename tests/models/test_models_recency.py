"""Rows that count less the older their partition is."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from millrace.core.errors import DataError
from millrace.models.recency import weights
from millrace.spec import Partitioning

CUT = Partitioning("month", "America/New_York")


def times(*moments: str) -> pa.Array:
    return pa.array([datetime.fromisoformat(m).replace(tzinfo=UTC) for m in moments], pa.timestamp("us", "UTC"))


def test_a_row_counts_half_for_every_half_life_on_the_pipelines_clocks():
    # midnight in New York is 05:00 UTC: the second row is still December's
    found = weights(times("2013-04-30T12:00", "2013-01-01T04:59", "2013-01-01T05:00"), CUT, "2013-04", 2.0)
    assert found / found[0] == pytest.approx([1, 2**-2, 2**-1.5])
    assert found.mean() == pytest.approx(1)


def test_rows_after_the_last_partition_count_as_its_own():
    found = weights(times("2013-04-30T12:00", "2013-06-01T12:00"), CUT, "2013-04", 3.0)
    assert found.tolist() == [1.0, 1.0]


def test_order_does_not_matter():
    moments = times("2013-01-15T12:00", "2013-04-15T12:00", "2013-02-15T12:00")
    back = np.array([2, 0, 1])
    assert weights(moments.take(pa.array(back)), CUT, "2013-04", 3.0).tolist() == (
        weights(moments, CUT, "2013-04", 3.0)[back].tolist()
    )


def test_rows_without_a_time_have_no_weight():
    with pytest.raises(DataError, match="without an event time"):
        weights(pa.array([None], pa.timestamp("us", "UTC")), CUT, "2013-04", 3.0)
    with pytest.raises(DataError, match="without an event time"):
        weights(times(), CUT, "2013-04", 3.0)
