"""The `checks` of a suite (`millrace.spec.gate`): what takes the partition's time, earlier partitions, other sources.

Each check by itself: one that cannot be evaluated fails, and hides nothing of the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from millrace.contract import Check
from millrace.core.errors import MillraceError
from millrace.gates import words
from millrace.gates.gx.frame import nan_as_null
from millrace.gates.result import CheckResult
from millrace.spec.gate import Bias, Freshness, Reference, Rule, Schema, UniqueAcross, Volume
from millrace.sql.duck import Limits, connection, name

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Trailing:
    """An earlier partition: its key, its rows, and a reader of some of its columns."""

    partition: str
    rows: int
    read: Callable[[Sequence[str]], pa.Table]


@dataclass(frozen=True)
class Surroundings:
    """What a check may look at beside the rows. `trailing` are in partition order; `end` is that of the partition."""

    event_time: str | None = None
    end: datetime | None = None
    trailing: tuple[Trailing, ...] = ()
    sources: Mapping[str, Callable[[Sequence[str]], pa.Table]] = field(default_factory=dict)


def run(
    table: pa.Table, checks: Sequence[Any], classify: Callable[[str], str], around: Surroundings
) -> list[CheckResult]:
    """Evaluate checks on a table and return one CheckResult each, in order. NaN is null, here as in an expectation."""
    plain = _plain(table) if checks else table
    return [_run(plain, check, classify, around) for check in checks]


def _plain(table: pa.Table) -> pa.Table:
    import pyarrow as pa

    return pa.table([nan_as_null(column) for column in table.columns], names=table.column_names)


def _run(table: pa.Table, check: Any, classify: Callable[[str], str], around: Surroundings) -> CheckResult:
    kind = f"millrace_{check.type}"
    columns = _columns(check)
    missing = [column for column in columns if column not in table.column_names]
    try:
        if missing:
            made = _failed(check, f"{words.subject(missing)} not in the data")
        elif not table.num_rows:
            made = _failed(check, "there is no row to check")
        else:
            made = _EVALUATE[type(check)](table, check, classify, around)
    except Exception as err:
        why = str(err) if isinstance(err, MillraceError) else type(err).__name__  # others may quote values
        return CheckResult(_failed(check, f"could not be evaluated: {why}"), kind, {}, {}, why)
    return CheckResult(made, kind, {"column_list": columns} if columns else {}, {})


def _columns(check: Any) -> list[str]:
    if isinstance(check, UniqueAcross | Reference):
        return list(check.columns)
    if isinstance(check, Bias):
        return [check.column, *([check.label] if check.label else [])]
    return []


def _failed(check: Any, why: str) -> Check:
    about = check.says if isinstance(check, Rule) else check.type
    return Check(name=check.type, passed=False, message=f"{about}: {why}")


def _freshness(table: pa.Table, check: Freshness, classify: Callable[[str], str], around: Surroundings) -> Check:
    import pyarrow as pa
    import pyarrow.compute as pc

    if around.event_time is None or around.end is None:
        return _failed(check, "the data have no event time and partition to be fresh in")
    newest = pc.max(table[around.event_time].cast(pa.timestamp("us"), safe=False)).as_py()
    if newest is None:
        return _failed(check, f"no value of {around.event_time}")
    moment = newest.replace(tzinfo=UTC)
    wanted = check.max_age.before(around.end)
    shown = moment.isoformat().replace("+00:00", "Z") if classify(around.event_time) == "public" else "earlier"
    message = f"{words.subject([around.event_time])}: rows up to {check.max_age} before the partition's end expected"
    return Check(
        name=check.type,
        passed=moment >= wanted,
        message=f"{message}; the newest is {'late enough' if moment >= wanted else shown}",
        column=around.event_time,
    )


def _volume(table: pa.Table, check: Volume, classify: Callable[[str], str], around: Surroundings) -> Check:
    before = [item.rows for item in around.trailing[-check.partitions :]]
    if not before:
        return Check(name=check.type, passed=True, message="the table: nothing published yet to compare its rows with")
    usual = median(before)
    ratio = table.num_rows / usual if usual else float("inf")
    passed = (check.min_ratio is None or ratio >= check.min_ratio) and (
        check.max_ratio is None or ratio <= check.max_ratio
    )
    bounds = " and ".join(
        text for bound, text in ((check.min_ratio, f"at least {check.min_ratio}"),
                                 (check.max_ratio, f"at most {check.max_ratio}")) if bound is not None
    )  # fmt: skip
    return Check(
        name=check.type,
        passed=passed,
        message=f"the table: {bounds} times the median of the last {len(before)} expected ({usual:,.0f} rows); "
        f"{words.rows(table.num_rows)} are {ratio:.2f} times",
        total=table.num_rows,
    )


def _schema(table: pa.Table, check: Schema, classify: Callable[[str], str], around: Surroundings) -> Check:
    held = {field.name: str(field.type) for field in table.schema}
    gaps = [f"{column} is missing" for column in check.columns if column not in held]
    gaps += [f"{column} is not in the suite" for column in held if column not in check.columns]
    gaps += [
        f"{column} is {held[column]}, not {kind}"
        for column, kind in check.columns.items()
        if held.get(column, kind) != kind
    ]
    return Check(
        name=check.type,
        passed=not gaps,
        message=f"the table: the suite's {len(check.columns)} columns and types expected; "
        + ("; ".join(gaps[: words.EXAMPLES]) if gaps else "so they are"),
        unexpected=len(gaps),
    )


def _unique_across(table: pa.Table, check: UniqueAcross, classify: Callable[[str], str], around: Surroundings) -> Check:
    before = around.trailing[-check.partitions :]
    asked = f"{words.subject(check.columns)}: no key of an earlier partition expected"
    if not before:
        return Check(name=check.type, passed=True, message=f"{asked}; nothing published yet to compare with")
    found: dict[str, int] = {}
    with connection(Limits(threads=1)) as opened:
        opened.register("now", table.select(list(check.columns)))
        same = " AND ".join(f"now.{name(c)} = before.{name(c)}" for c in check.columns)
        for item in before:
            opened.register("before", _plain(item.read(check.columns)))
            found[item.partition] = opened.execute(
                f"SELECT count(*) FROM now WHERE EXISTS (SELECT 1 FROM before WHERE {same})"
            ).fetchall()[0][0]
            opened.unregister("before")
    total = sum(found.values())
    where = ", ".join(f"{words.count(n)} stand in {partition}" for partition, n in found.items() if n)
    return Check(
        name=check.type,
        passed=total == 0,
        message=f"{asked}; {where or f'none of {words.rows(table.num_rows)} does'}",
        unexpected=total,
        total=table.num_rows,
    )


def _reference(table: pa.Table, check: Reference, classify: Callable[[str], str], around: Surroundings) -> Check:
    if check.source not in around.sources:
        return _failed(check, f"source '{check.source}' has no published Snapshot to look into")
    theirs = _plain(around.sources[check.source](check.theirs))
    with connection(Limits(threads=1)) as opened:
        opened.register("mine", table.select(list(check.columns)))
        opened.register("theirs", theirs)
        same = " AND ".join(
            f"mine.{name(a)} = theirs.{name(b)}" for a, b in zip(check.columns, check.theirs, strict=True)
        )
        whole = " AND ".join(f"{name(c)} IS NOT NULL" for c in check.columns)
        rows, found = opened.execute(
            f"SELECT count(*), count(*) FILTER (WHERE EXISTS (SELECT 1 FROM theirs WHERE {same})) FROM mine "
            f"WHERE {whole}"
        ).fetchall()[0]
    return _share(check, f"{words.subject(check.columns)}: {_percent(check.min_share)} in source '{check.source}'",
                  found, rows, "are there")  # fmt: skip


def _rule(table: pa.Table, check: Rule, classify: Callable[[str], str], around: Surroundings) -> Check:
    with connection(Limits(threads=1)) as opened:
        opened.register("data", table)
        opened.execute("SET enable_external_access = false")
        rows, held = opened.execute(
            f"SELECT count(rule), count(*) FILTER (WHERE rule) FROM (SELECT ({check.sql})::BOOLEAN AS rule FROM data)"
        ).fetchall()[0]
    return _share(check, f"the rows: {_percent(check.min_share)} where {check.says}", held, rows, "are so")


def _share(check: Reference | Rule, asked: str, good: int, rows: int, what: str) -> Check:
    if not rows:
        return _failed(check, "there is no value to check")
    return Check(
        name=check.type,
        passed=good >= check.min_share * rows,
        message=f"{asked} expected; {words.count(good)} of {words.rows(rows)} {what}",
        unexpected=rows - good,
        total=rows,
    )


def _bias(table: pa.Table, check: Bias, classify: Callable[[str], str], around: Surroundings) -> Check:
    import pyarrow as pa

    groups = table[check.column].cast(pa.string()).to_pylist()
    counts = Counter(groups)
    gaps = [
        f"group {number} of {len(check.shares)}{_named(check.column, group, classify)}: "
        f"{counts[group] / len(groups):.1%} of the rows instead of {share:.1%}"
        for number, (group, share) in enumerate(check.shares.items(), start=1)
        if abs(counts[group] / len(groups) - share) > check.tolerance
    ]
    others = len(groups) - sum(counts[group] for group in check.shares)
    if others > check.tolerance * len(groups):
        gaps.append(f"{others / len(groups):.1%} of the rows are in no group of the reference")
    if check.label is not None and check.rate_tolerance is not None:
        gaps += _rates(table, check, groups, classify)
    rates = f" and rates of {check.label}" if check.label else ""
    return Check(
        name=check.type,
        passed=not gaps,
        message=f"{words.subject([check.column])}: shares of groups{rates} as in the reference expected; "
        + ("; ".join(gaps[: words.EXAMPLES]) if gaps else "so they are"),
        column=check.column,
        unexpected=len(gaps),
    )


def _rates(table: pa.Table, check: Bias, groups: list[Any], classify: Callable[[str], str]) -> list[str]:
    import pyarrow as pa

    assert check.label is not None and check.rate_tolerance is not None
    labels = table[check.label].cast(pa.float64()).to_pylist()
    sums: Counter[Any] = Counter()
    known: Counter[Any] = Counter()
    for group, label in zip(groups, labels, strict=True):
        if label is not None:
            sums[group] += label
            known[group] += 1
    return [
        f"group{_named(check.column, group, classify)}: {check.label} in {sums[group] / known[group]:.1%} "
        f"instead of {rate:.1%}"
        for group, rate in check.rates.items()
        if known[group] >= check.minimum_rows and abs(sums[group] / known[group] - rate) > check.rate_tolerance
    ]


def _named(column: str, group: str, classify: Callable[[str], str]) -> str:
    return f" ({words.shown(group)})" if classify(column) == "public" else ""


def _percent(share: float) -> str:
    return "all rows" if share == 1 else f"at least {share:.4g} of all rows"


_EVALUATE: dict[type, Callable[..., Check]] = {
    Freshness: _freshness,
    Volume: _volume,
    Schema: _schema,
    UniqueAcross: _unique_across,
    Reference: _reference,
    Rule: _rule,
    Bias: _bias,
}
