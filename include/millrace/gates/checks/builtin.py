"""Checks that every gate makes beside its suite, because GX passes what they catch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from millrace.contract import Check
from millrace.core.errors import SpecError
from millrace.gates import words

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Within:
    """Every row's time must lie in [start, end), aware moments; `partition` names them in messages."""

    column: str
    partition: str
    start: datetime
    end: datetime


def columns(table: pa.Table) -> Check:
    """At least one column, each name once."""
    names = table.column_names
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        return Check(name="columns", passed=False, message=f"the table: {words.subject(twice)} there more than once")
    found = f"{len(names)} column{'' if len(names) == 1 else 's'}"
    return Check(name="columns", passed=bool(names), message=f"the table: at least one column expected; {found}")


def row_floor(table: pa.Table) -> Check:
    """At least one row."""
    message = f"the table: at least one row expected; {words.rows(table.num_rows)}"
    return Check(name="rows", passed=table.num_rows > 0, message=message, total=table.num_rows)


def suite(entries: Sequence[object], problem: SpecError | None) -> Check:
    """At least one expectation, in a suite that can be read."""
    if problem is not None:
        return Check(name="suite", passed=False, message=f"the suite cannot be read: {problem.message}")
    found = f"{len(entries)} expectation{'' if len(entries) == 1 else 's'}"
    return Check(name="suite", passed=bool(entries), message=f"the suite: at least one expectation expected; {found}")


def null_columns(table: pa.Table, nulls: Mapping[str, int], waived: set[str]) -> list[Check]:
    """No column that is entirely null, but for those that the suite names: one failure per column, or one pass."""
    if not table.num_rows:
        return []
    failed = [
        Check(
            name="nulls",
            passed=False,
            message=f"{words.subject([name])}: at least one value expected; all {words.rows(table.num_rows)} are null",
            column=name,
            unexpected=table.num_rows,
            total=table.num_rows,
        )
        for name in table.column_names
        if nulls[name] == table.num_rows and name not in waived
    ]
    return failed or [Check(name="nulls", passed=True, message="the table: no column without a value")]


def finite(table: pa.Table, infinite: Mapping[str, int]) -> list[Check]:
    """No infinite number: one failure per column, or one pass. No bound and no rule can be trusted with one."""
    if not table.num_rows:
        return []
    failed = [
        Check(
            name="finite",
            passed=False,
            message=f"{words.subject([name])}: finite numbers expected; {words.count(count)} of "
            f"{words.rows(table.num_rows)} {'is' if count == 1 else 'are'} infinite",
            column=name,
            unexpected=count,
            total=table.num_rows,
        )
        for name, count in infinite.items()
    ]
    return failed or [Check(name="finite", passed=True, message="the table: no infinite number")]


def within(table: pa.Table, bounds: Within, classify: Callable[[str], str]) -> Check:
    """Every time within the partition; a null lies outside, and a timestamp without a zone is read as UTC."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def failed(why: str) -> Check:
        return Check(name="partition", passed=False, column=bounds.column, message=f"{asked}; {why}")

    span = f"{_utc(bounds.start)} up to {_utc(bounds.end)}"
    asked = f"{words.subject([bounds.column])}: times within partition {bounds.partition} ({span}) expected"
    if bounds.column not in table.column_names:
        return failed("the column is not in the data")
    times = table.column(bounds.column)
    if not pa.types.is_timestamp(times.type):
        return failed(f"the column holds {times.type}, not timestamps")
    times = times.cast(pa.timestamp("us", times.type.tz), safe=False)
    times = times.cast(pa.timestamp("us", "UTC")) if times.type.tz else pc.assume_timezone(times, "UTC")
    edges: list[Any] = [pa.scalar(edge, pa.timestamp("us", "UTC")) for edge in (bounds.start, bounds.end)]
    inside = pc.fill_null(pc.and_(pc.greater_equal(times, edges[0]), pc.less(times, edges[1])), False)
    outside = table.num_rows - (pc.sum(inside).as_py() or 0)
    nulls = f", {words.count(times.null_count)} of them null" if times.null_count else ""
    examples: tuple[str, ...] = ()
    if outside and classify(bounds.column) == "public":
        stray = times.filter(pc.and_(pc.invert(inside), pc.is_valid(times)))
        examples = tuple(_utc(t) for t in pc.unique(stray).slice(0, words.EXAMPLES).to_pylist())
    verb = "is" if outside == 1 else "are"
    return Check(
        name="partition",
        passed=outside == 0 and table.num_rows > 0,
        message=f"{asked}; {words.count(outside)} of {words.rows(table.num_rows)} {verb} outside{nulls}",
        column=bounds.column,
        unexpected=outside,
        total=table.num_rows,
        examples=examples,
    )


def _utc(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
