from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from millrace.core.errors import DataError
from millrace.models.holdout import Holdout

RULE = Holdout(share=0.2, block="day", seed=7, timezone="America/New_York")


def hours(first: datetime, days: int) -> pa.Array:
    return pa.array([first + timedelta(hours=h) for h in range(24 * days)], pa.timestamp("us", "UTC"))


def test_whole_local_days_are_held_out_in_about_the_share_asked_for() -> None:
    held, keys = RULE.divide(hours(datetime(2013, 1, 1, 5), 300))
    for day in np.unique(keys):
        assert len(set(held[keys == day].tolist())) == 1
    assert 0.12 < held.mean() < 0.28


def test_a_block_is_on_the_same_side_in_every_window() -> None:
    long, long_keys = RULE.divide(hours(datetime(2013, 1, 1, 5), 300))
    short, short_keys = RULE.divide(hours(datetime(2013, 4, 1, 4), 60))
    sides = dict(zip(long_keys, long, strict=True))
    assert all(sides[key] == side for key, side in zip(short_keys, short, strict=True))


def test_another_seed_holds_other_days() -> None:
    moments = hours(datetime(2013, 1, 1, 5), 300)
    other = RULE.model_copy(update={"seed": 8})
    assert (RULE.divide(moments)[0] != other.divide(moments)[0]).any()


def test_the_rule_is_the_documented_hash() -> None:
    import hashlib

    value = int(hashlib.sha256(b"7:2013-01-05").hexdigest()[:16], 16) / 2**64
    assert RULE.holds("2013-01-05") == (value < 0.2)
    assert not RULE.model_copy(update={"share": value}).holds("2013-01-05")
    assert RULE.model_copy(update={"share": value + 1e-9}).holds("2013-01-05")


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_a_side_without_a_block_is_an_error(share: float) -> None:
    rule = RULE.model_copy(update={"share": share})
    with pytest.raises(DataError, match="cannot be divided"):
        rule.divide(hours(datetime(2013, 1, 1, 5), 3))
