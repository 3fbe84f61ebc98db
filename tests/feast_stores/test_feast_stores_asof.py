"""The point-in-time join against a brute-force one, on random bitemporal data with ties, gaps and nulls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.core.errors import SpecError
from millrace.feast_stores.offline_stores import asof
from millrace.feast_stores.offline_stores.scan import Scan
from millrace.sql.duck import Limits, connection

START = datetime(2024, 1, 1, tzinfo=UTC)
MOMENT = pa.timestamp("us", "UTC")
KEYS = st.sampled_from(["a", "b", "c", None])
TIMES = st.one_of(st.none(), st.integers(0, 12).map(lambda minutes: START + timedelta(minutes=minutes)))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "key": KEYS,
            "sub": st.integers(0, 1),
            "event": TIMES.filter(lambda t: t is not None),
            "created": TIMES,
            "value": st.one_of(st.none(), st.integers(-2, 2)),
            "other": st.sampled_from(["x", "y", None]),
        }
    ),
    max_size=25,
)
ASKED = st.lists(st.fixed_dictionaries({"key": KEYS, "sub": st.integers(0, 1), "at": TIMES}), max_size=15)
SCHEMA = pa.schema(
    {"key": pa.string(), "sub": pa.int64(), "event": MOMENT, "created": MOMENT, "value": pa.int64(),
     "other": pa.string()}
)  # fmt: skip
QUESTION = pa.schema({"key": pa.string(), "sub": pa.int64(), "at": MOMENT})
TTL = st.sampled_from([None, timedelta(minutes=3), timedelta(minutes=2, microseconds=1), timedelta(days=40000)])


def scan_of(opened: Any, name: str, table: pa.Table) -> Scan:
    opened.register(name, table)
    return Scan(name, {r[0]: r[1] for r in opened.execute(f"DESCRIBE {name}").fetchall()}, name)


def view_of(scan: Scan, keys: list[str], ttl: timedelta | None, created: bool = True) -> asof.View:
    return asof.View(
        scan=scan,
        keys=[(key, key) for key in keys],
        event="event",
        created="created" if created else None,
        features=[("value", "value"), ("other", "other")],
        ttl=ttl,
    )


def asked_table(rows: list[dict[str, Any]]) -> pa.Table:
    table = pa.Table.from_pylist(rows, QUESTION)
    table = table.append_column(asof.MOMENT, table["at"])
    return table.append_column(asof.ROW, pa.array(range(len(rows)), pa.int64()))


def joined(
    rows: list[dict[str, Any]],
    asked: list[dict[str, Any]],
    keys: list[str],
    ttl: timedelta | None,
    known_only: bool,
    threads: int = 2,
) -> list[dict[str, Any]]:
    with connection(Limits(threads=threads)) as opened:
        scan = scan_of(opened, "source", pa.Table.from_pylist(rows, SCHEMA))
        opened.register("asked", asked_table(asked))
        query = asof.join(opened, [view_of(scan, keys, ttl)], QUESTION.names, known_only=known_only)
        found: list[dict[str, Any]] = opened.sql(query).to_arrow_table().to_pylist()
        return found


def greatness(value: Any) -> tuple[bool, Any]:
    """Nulls below everything."""
    return (value is not None, value if value is not None else 0)


def oracle(
    rows: list[dict[str, Any]], asked: list[dict[str, Any]], keys: list[str], ttl: timedelta | None, known_only: bool
) -> list[dict[str, Any]]:
    answers = []
    for question in asked:
        moment = question["at"]
        possible = [
            row
            for row in rows
            if moment is not None
            and all(question[k] is not None and row[k] == question[k] for k in keys)
            and row["event"] <= moment
            and (not known_only or (row["created"] is not None and row["created"] <= moment))
        ]
        best = max(
            possible,
            key=lambda r: (r["event"], greatness(r["created"]), *(greatness(r[c]) for c in sorted(SCHEMA.names))),
            default=None,
        )
        if best is not None and ttl is not None and moment - best["event"] > ttl:
            best = None
        answers.append({**question, "value": best["value"] if best else None, "other": best["other"] if best else None})
    return answers


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, asked=ASKED, keys=st.sampled_from([["key"], ["key", "sub"], []]), ttl=TTL, known_only=st.booleans())
def test_no_difference_from_brute_force(
    rows: list[dict[str, Any]], asked: list[dict[str, Any]], keys: list[str], ttl: timedelta | None, known_only: bool
) -> None:
    expected = oracle(rows, asked, keys, ttl, known_only)
    assert joined(rows, asked, keys, ttl, known_only) == expected
    # and in whatever order the rows lie, on one thread
    assert joined(rows[::-1], asked, keys, ttl, known_only, threads=1) == expected


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, data=st.data())
def test_latest_is_the_join_at_the_end(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    first, last = sorted(data.draw(st.tuples(st.integers(0, 12), st.integers(0, 12))))
    low, high = START + timedelta(minutes=first), START + timedelta(minutes=last)
    with connection(Limits()) as opened:
        scan = scan_of(opened, "source", pa.Table.from_pylist(rows, SCHEMA))
        where = f"s.event BETWEEN '{low.isoformat()}' AND '{high.isoformat()}'"
        query = asof.latest(opened, scan, ["key"], "event", "created", ["key", "event", "value", "other"], where)
        found = opened.sql(query).to_arrow_table().to_pylist()
    within = [row for row in rows if low <= row["event"] <= high]
    assert len(found) == len({row["key"] for row in within})
    expected = oracle(within, [{"key": r["key"], "sub": 0, "at": high} for r in found], ["key"], None, False)
    for got, said in zip(found, expected, strict=True):
        if got["key"] is not None:
            assert (got["value"], got["other"]) == (said["value"], said["other"])


def test_two_views_and_many_doubles_come_back_in_order() -> None:
    asked = [{"key": "a", "sub": 0, "at": START + timedelta(minutes=n % 3)} for n in range(5000)]
    rows = [{"key": "a", "sub": 0, "event": START + timedelta(minutes=n), "created": None, "value": n, "other": "x"}
            for n in range(3)]  # fmt: skip
    with connection(Limits()) as opened:
        first = scan_of(opened, "one", pa.Table.from_pylist(rows, SCHEMA))
        second = scan_of(opened, "two", pa.Table.from_pylist(rows[:1], SCHEMA))
        opened.register("asked", asked_table(asked))
        views = [view_of(first, ["key"], None), view_of(second, ["key"], timedelta(minutes=1))]
        query = asof.join(opened, views, ["at"], known_only=False)
        found = opened.sql(query).to_arrow_table()
    assert found.column(1).to_pylist() == [n % 3 for n in range(5000)]
    assert found.column(3).to_pylist() == [0 if n % 3 < 2 else None for n in range(5000)]


@pytest.mark.parametrize(
    ("given", "held", "expected"),
    [
        (pa.array([1.0, None, 2.5]), pa.array([1, 2], pa.int64()), ["one", None, None]),
        (pa.array([1, 2, 300], pa.int16()), pa.array([1, 2], pa.int8()), ["one", "two", None]),
        (pa.array(["1", "2", None]).dictionary_encode(), pa.array(["1", "2"]), ["one", "two", None]),
        (pa.nulls(3), pa.array([1, 2], pa.int64()), [None, None, None]),
    ],
)
def test_keys_of_kindred_types_meet(given: pa.Array, held: pa.Array, expected: list[str | None]) -> None:
    assert by_key(given, held) == expected


def test_keys_of_other_types_are_refused() -> None:
    with pytest.raises(SpecError, match="join key 'key' is of another type"):
        by_key(pa.array(["1", "2", "3"]), pa.array([1, 2], pa.int64()))


def by_key(given: pa.Array, held: pa.Array) -> list[str | None]:
    rows = pa.table({"key": held, "event": pa.array([START] * 2, MOMENT), "value": ["one", "two"]})
    moments = pa.array([START] * 3, MOMENT)
    asked = pa.table({"key": given, asof.MOMENT: moments, asof.ROW: pa.array(range(3), pa.int64())})
    with connection(Limits()) as opened:
        scan = scan_of(opened, "source", rows)
        opened.register("asked", asked)
        view = asof.View(scan, [("key", "key")], "event", None, [("value", "value")], None)
        query = asof.join(opened, [view], [], known_only=False)
        found: list[str | None] = opened.sql(query).to_arrow_table()["value"].to_pylist()
        return found


@pytest.mark.parametrize("kind", [pa.timestamp("ns"), pa.timestamp("ns", "UTC")])
def test_a_value_is_not_seen_a_nanosecond_early(kind: pa.DataType) -> None:
    base = int(START.timestamp()) * 10**9
    rows = pa.table({"key": ["a"], "event": pa.array([base + 1], kind), "value": [1]})
    with connection(Limits()) as opened:
        scan = scan_of(opened, "source", rows)
        opened.register("asked", asked_table([{"key": "a", "sub": 0, "at": START + timedelta(microseconds=n)}
                                              for n in (0, 1)]))  # fmt: skip
        view = asof.View(scan, [("key", "key")], "event", None, [("value", "value")], None)
        query = asof.join(opened, [view], [], known_only=False)
        assert opened.sql(query).to_arrow_table()["value"].to_pylist() == [None, 1]
