"""Gate: a GX suite run on a Snapshot's table, failing closed, one expectation at a time.

Each expectation runs by itself: GX takes the whole validation down with one that raises outside its own nets. Small
tables run in its pandas engine, large ones in its SQL engine on DuckDB (`gates.sql`), or in Spark where the pipeline's
engine is Spark, with the same verdict. What GX returns is judged again, since it passes what it had nothing to look at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from millrace.contract import Check, Verdict
from millrace.core.errors import SpecError
from millrace.gates import gx, mismatch, words
from millrace.gates.checks import builtin
from millrace.gates.gx.frame import Frame, Rows
from millrace.gates.gx.suite import COLUMN_KEYS, NULL_TYPES, Entry, read
from millrace.gates.result import CheckResult, GateResult

if TYPE_CHECKING:
    import pyarrow as pa

SQL_ROWS = 100_000
"""From so many rows on a gate runs in DuckDB; below it pandas costs less (`python -m bench gates`)."""
SAMPLE = 20
"""Unexpected values that GX returns for a public check."""
COUNTS = ("element_count", "unexpected_count", "unexpected_percent", "missing_count", "missing_percent",
          "unexpected_percent_total", "unexpected_percent_nonmissing")  # fmt: skip
# These look at nulls themselves, so a column without values is something to check.
LOOK_AT_NULLS = {*NULL_TYPES, "expect_column_values_to_not_be_null",
                 "expect_column_proportion_of_non_null_values_to_be_between"}  # fmt: skip
# These read the column's type or presence, not its rows.
NO_ROWS = {"expect_column_to_exist", "expect_column_type_to_be"}


@dataclass(frozen=True)
class Spark:
    """Where Spark runs (its master URL), and the Parquet file of the rows as its executors find it."""

    master: str
    place: str


def validate(
    table: pa.Table,
    suite: Mapping[str, Any],
    where: str,
    classify: Callable[[str], str],
    within: builtin.Within | None = None,
    spark: Spark | None = None,
) -> GateResult:
    """Run a suite on a table; `classify` gives a column's classification, `within` the partition's bounds.

    `spark` is where Spark runs and finds the same rows, None for the engines of this process. The verdict passes only
    if every check passes: the built-in ones (columns, rows, suite, all-null columns, infinite numbers, times within the
    partition) and one per expectation. Never raises for what the data or the suite hold; Unavailable where Spark fails.
    """
    if spark is not None and table.num_rows >= SQL_ROWS:
        gx.load(spark=True)  # before the suite is read: GX looks for pyspark when it is imported
    return judge(lambda entries: _rows(table, entries, spark), table, suite, where, classify, within)


def judge(
    opened: Callable[[list[Entry]], Rows],
    table: Any,
    suite: Mapping[str, Any],
    where: str,
    classify: Callable[[str], str],
    within: builtin.Within | None = None,
) -> GateResult:
    """`validate` for rows that lie anywhere: `opened` gives them to a list of expectations.

    `table` has their `column_names` and `num_rows`; they are opened only if the names are distinct.
    """
    try:
        entries, problem = read(suite, where), None
    except SpecError as err:
        entries, problem = [], err
    checks = [builtin.columns(table), builtin.row_floor(table), builtin.suite(entries, problem)]
    if checks[0].passed:
        with gx.quiet(), closing(opened(entries)) as rows:
            gate = _Gate(rows, entries, classify)
            checks += builtin.null_columns(table, rows.nulls, gate.waived)
            checks += builtin.finite(table, rows.infinite)
            if within is not None:
                columns = [within.column] if within.column in table.column_names else []
                checks.append(builtin.within(rows.read(columns), within, classify))
            found = [gate.run(entry) for entry in entries]
    else:
        found = [_not_run(entry, "not evaluated: the table has no usable columns") for entry in entries]
    ours = [CheckResult(c, f"millrace_{c.name}", {"column": c.column} if c.column else {}, {}) for c in checks]
    all_found = (*ours, *found)
    verdict = Verdict(passed=all(f.check.passed for f in all_found), checks=tuple(f.check for f in all_found))
    name = suite.get("name") if isinstance(suite, Mapping) else None
    return GateResult(words.shown(name) if isinstance(name, str) else where, verdict, all_found)


def _rows(table: pa.Table, entries: list[Entry], spark: Spark | None = None) -> Rows:
    """The engine by size. Its choice depends on the rows, suite and spec alone: an Outcome is the same everywhere."""
    if table.num_rows < SQL_ROWS:
        return Frame(table)
    from millrace.gates.sql import rows

    if not rows.holds(table.column_names):
        return Frame(table)
    if spark is None:
        return rows.DuckDBRows(table, entries)
    from millrace.gates.sql.spark import SparkRows

    return SparkRows(table, spark.place, spark.master, entries)


class _Gate:
    """Rows against their expectations."""

    def __init__(self, rows: Rows, entries: list[Entry], classify: Callable[[str], str]) -> None:
        self.rows = rows
        self.columns = rows.column_names
        self.classify = classify
        self.waived = {
            column
            for entry in entries
            if (entry.may_be_null or entry.type in NULL_TYPES) and not entry.kwargs.get("row_condition")
            for column in entry.columns
        }

    def public(self, entry: Entry) -> bool:
        """Whether every column that an expectation touches is public, its row condition included."""
        touched = set(entry.columns)
        if entry.problem is not None and not touched:
            return entry.type.startswith("expect_table_")  # else the word 'column' itself may be misspelt
        if condition := entry.kwargs.get("row_condition"):
            # A condition is text that pandas reads: every column whose name occurs in it may be meant.
            text = str(condition)
            mentioned = {c for c in self.columns if c in text}
            if not mentioned:
                return False
            touched |= mentioned
        return all(self.classify(column) == "public" for column in touched)

    def run(self, entry: Entry) -> CheckResult:
        """Evaluate one expectation; whatever it does, the answer is one CheckResult."""
        public = self.public(entry)
        if entry.problem is not None:
            return _not_run(
                entry,
                f"cannot be run: {entry.problem.message}"
                if public
                else "cannot be run as written; `millrace check` says why",
            )
        missing = [c for c in dict.fromkeys(entry.columns) if c not in self.columns]
        if missing:
            return _not_run(entry, f"{words.subject(missing)} not in the data", expected=self.expected(entry, public))
        try:
            empty = self._nothing_to_check(entry)
            answer = self.rows.validate(entry, SAMPLE if public else 0)
            error = _error(answer.exception_info, public)
            result = dict(answer.result or {})
        except Exception as err:
            return _not_run(entry, f"could not be evaluated: {_described(err, public)}", _described(err, public),
                            self.expected(entry, public))  # fmt: skip
        if error is not None:
            return _not_run(entry, f"could not be evaluated: {error}", error, self.expected(entry, public))
        observed = result.get("observed_value")
        if isinstance(observed, float) and math.isnan(observed):
            empty = empty or "it cannot be computed from these values"
        passed = (answer.success is True or str(answer.success) == "True") and empty is None
        return self._result(entry, public, passed, result, empty)

    def expected(self, entry: Entry, public: bool) -> str:
        """What the expectation asks, in words."""
        return words.expected(entry.type, entry.kwargs, public)

    def _nothing_to_check(self, entry: Entry) -> str | None:
        """Why an expectation has nothing to look at, None when it has; GX passes most of these."""
        if not entry.columns or entry.type in NO_ROWS:
            return None
        if entry.type == "expect_column_values_to_not_be_in_set" and self._other_kind(entry):
            return "no member of the set is of the column's type, so none could be found"
        if not entry.kwargs.get("row_condition"):
            one = entry.columns[0] if len(entry.columns) == 1 else None
            if entry.may_be_null or (one in self.waived and self.rows.num_rows):
                return None
            if one is not None:
                values = self.rows.num_rows - (0 if entry.type in LOOK_AT_NULLS else self.rows.nulls[one])
                return None if values else "there is no value to check"
        elif entry.may_be_null:
            return None
        selected, any_value = self.rows.selected(entry)
        if not selected:
            return "no row is selected for it"
        if entry.type in LOOK_AT_NULLS or any_value:
            return None
        return "there is no value to check"

    def _other_kind(self, entry: Entry) -> bool:
        """Whether a column could hold no member of a set: texts against numbers or dates, or the other way round."""
        column = entry.columns[0]
        texts = [isinstance(member, str) for member in entry.kwargs.get("value_set") or []]
        # pandas reads texts as times where a column holds times, but not as dates.
        return not any(texts) if self.rows.kinds[column] in ("text", "time", "zoned", "clock") else all(texts)

    def _result(
        self, entry: Entry, public: bool, passed: bool, result: dict[str, Any], empty: str | None
    ) -> CheckResult:
        total = result.get("element_count")
        unexpected = result.get("unexpected_count") if total is not None else None
        observed = words.plain(result.get("observed_value"))
        show = public or entry.type in words.NOT_VALUES
        sample = words.plain(result.get("partial_unexpected_list") or []) if public else []
        if empty is not None:
            outcome = empty
        elif total is not None and unexpected is not None:
            outcome = f"{words.count(unexpected)} of {words.rows(total)} {words.otherwise(entry.type, unexpected)}"
        elif observed is not None and show:
            outcome = f"found {words.shown(observed, 200)}"
        elif not passed and (gaps := words.gaps(result)):
            outcome = gaps
        else:
            outcome = "so it is" if passed else "so it is not"
        if not passed:
            outcome += mismatch.explained(entry, self.rows, public)
        check = Check(
            name=entry.type,
            passed=passed,
            message=f"{words.subject(entry.columns)}: {self.expected(entry, public)} expected; {outcome}",
            column=entry.columns[0] if len(entry.columns) == 1 else None,
            unexpected=unexpected,
            total=total,
            examples=tuple(dict.fromkeys(words.shown(v) for v in sample if v is not None))[: words.EXAMPLES],
        )
        kept = {key: words.plain(result[key]) for key in COUNTS if result.get(key) is not None}
        if show and observed is not None:
            kept["observed_value"] = observed
        if sample:
            kept["partial_unexpected_list"] = sample
        return CheckResult(check, entry.type, _kwargs(entry, public), kept)


def _kwargs(entry: Entry, public: bool) -> dict[str, Any]:
    """Kwargs as far as they may be shown: of a check on a non-public column its columns and `mostly` alone."""
    share = isinstance(entry.kwargs.get("mostly"), int | float)
    kept = {k: v for k, v in entry.kwargs.items() if public or k in COLUMN_KEYS or (k == "mostly" and share)}
    return {key: words.plain(value) for key, value in kept.items()}


def _not_run(entry: Entry, why: str, error: str | None = None, expected: str | None = None) -> CheckResult:
    asked = f"{expected} expected; " if expected else ""
    check = Check(
        name=entry.type,
        passed=False,
        message=f"{words.subject(entry.columns)}: {asked}{why}" if expected else f"{entry.type}: {why}",
        column=entry.columns[0] if len(entry.columns) == 1 else None,
    )
    return CheckResult(check, entry.type, _kwargs(entry, False), {}, error)


def _error(info: Mapping[str, Any] | None, public: bool) -> str | None:
    """GX's own account of an exception, None when there was none. Its text can quote values."""
    if not info:
        return None
    nets = [info] if "raised_exception" in info else list(info.values())
    for net in nets:
        if net.get("raised_exception"):
            message = str(net.get("exception_message") or "")
            return _hint(message) or (words.shown(message, 200) if public else "an error inside the check")
    return None


def _described(err: Exception, public: bool) -> str:
    name = type(err).__name__
    return _hint(str(err)) or (f"{name}: {words.shown(str(err), 200)}" if public else name)


def _hint(message: str) -> str | None:
    if "NA is ambiguous" in message:
        return "a null met a comparison; set ignore_row_if to leave out rows with nulls"
    return None
