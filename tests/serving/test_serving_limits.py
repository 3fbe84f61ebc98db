"""A caller asks as often as was said, and a pipeline has as many who wait; whoever floods keeps nobody else out."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.serving import limits
from millrace.serving.limits import Rates, Waiting
from millrace.serving.refused import Refused


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(rates: Rates, caller: str = "ann", pipeline: str = "orders", per_second: float | None = 5) -> int:
    """Requests until the first that is refused."""
    for count in range(1000):
        try:
            rates.take(caller, pipeline, per_second)
        except Refused as err:
            assert err.status == 429
            return count
    raise AssertionError("there is no limit")


def test_a_bucket_holds_one_second_and_fills_as_time_goes_by():
    clock = Clock()
    rates = Rates(clock)
    assert taken(rates) == 5
    clock.now += 0.2
    assert taken(rates) == 1
    clock.now += 100
    assert taken(rates) == 5, "a full bucket does not run over"


def test_each_caller_has_one_for_each_pipeline():
    rates = Rates(Clock())
    assert [taken(rates, *who) for who in (("ann", "orders"), ("bob", "orders"), ("ann", "flights"))] == [5, 5, 5]


def test_without_a_limit_nothing_is_counted():
    rates = Rates(Clock())
    for _ in range(1000):
        rates.take("ann", "orders", None)
    assert taken(rates) == 5


@pytest.mark.parametrize(("per_second", "after"), [(0.1, 10), (0.4, 3), (1, 1), (50, 1)])
def test_who_is_refused_is_told_when_to_come_back(per_second, after):
    clock = Clock()
    rates = Rates(clock)
    taken(rates, per_second=per_second)
    with pytest.raises(Refused, match="too often") as refused:
        rates.take("ann", "orders", per_second)
    assert dict(refused.value.headers)[b"retry-after"] == str(after).encode()
    clock.now += after
    rates.take("ann", "orders", per_second)


def test_who_is_refused_is_not_counted():
    clock = Clock()
    rates = Rates(clock)
    taken(rates, per_second=1)
    for _ in range(100):
        with pytest.raises(Refused):
            rates.take("ann", "orders", 1)
    clock.now += 1
    rates.take("ann", "orders", 1)


@given(st.lists(st.floats(0, 2), min_size=1, max_size=60), st.floats(0.1, 20))
def test_in_no_time_are_there_more_than_the_rate_and_a_bucket(waits, per_second):
    clock = Clock()
    rates = Rates(clock)
    let_in = 0
    for wait in waits:
        clock.now += wait
        try:
            rates.take("ann", "orders", per_second)
            let_in += 1
        except Refused:
            pass
    assert let_in <= max(1, per_second) + per_second * (clock.now - 1000) + 1e-6


def test_full_buckets_are_forgotten(monkeypatch):
    monkeypatch.setattr(limits, "_MANY", 10)
    clock = Clock()
    rates = Rates(clock)
    for number in range(1000):
        clock.now += 0.5
        rates.take(f"caller{number}", "orders", 1)
    assert len(rates._full_at) <= 21


def test_so_many_wait_and_no_more():
    waiting = Waiting()
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(waiting.room("orders", "a", 3))
        with pytest.raises(Refused, match="too many requests wait") as refused:
            stack.enter_context(waiting.room("orders", "a", 3))
        assert refused.value.status == 429 and dict(refused.value.headers)[b"retry-after"] == b"1"
        stack.enter_context(waiting.room("flights", "a", 3))
    with waiting.room("orders", "a", 1):
        pass
    assert not waiting._waiting


def test_a_tenant_that_fills_the_room_keeps_no_other_out():
    waiting = Waiting()
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(waiting.room("orders", "a", 8))
        for _ in range(4):
            stack.enter_context(waiting.room("orders", "b", 8))
        for tenant in ("a", "b"):
            with pytest.raises(Refused):
                stack.enter_context(waiting.room("orders", tenant, 8))
        stack.enter_context(waiting.room("orders", "c", 8))


def test_who_failed_waits_no_longer():
    waiting = Waiting()
    for _ in range(5):
        with pytest.raises(KeyError), waiting.room("orders", "a", 1):
            raise KeyError
