"""Suites: what a gate expects, in GX's own names, read strictly and refused where it could not fail.

    name: flights_raw
    expectations:
      - type: expect_column_values_to_be_between
        kwargs: {column: distance, min_value: 0, max_value: 6000}
      - type: expect_column_values_to_be_in_set
        kwargs: {column: tail_note, value_set: [x]}
        meta: {millrace: {may_be_null: true}}

`may_be_null` says that what the expectation selects may hold nothing but nulls, or no row at all; without it a gate
fails on an all-null column and on a row condition that selects nothing. `expect_column_values_to_be_null` says the
same of its column. `severity` is a label for readers: every failed expectation fails the gate. What takes more than
the rows themselves stands under `checks` (`millrace.spec.gate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millrace.core.errors import SpecError
from millrace.gates import gx

NULL_TYPES = ("expect_column_values_to_be_null",)
"""Types that say that a column holds nothing but nulls."""
SUITE_KEYS = {"name", "expectations", "checks", "meta", "notes", "id"}
KEYS = {"type", "kwargs", "meta", "notes", "description", "severity", "id"}
OURS = {"id", "meta", "notes", "description", "severity", "result_format", "catch_exceptions", "rendered_content",
        "windows", "batch_id"}  # fmt: skip
"""Fields of a GX expectation that are not kwargs of a suite: Millrace decides what a result may hold."""
COLUMN_KEYS = ("column", "column_A", "column_B", "column_list", "column_set")
NONEMPTY = ("value_set", "regex_list", "regex", "like_pattern_list", "type_list", "column_set", "column_list",
            "value_pairs_set", "partition_object")  # fmt: skip
NEED_TWO = {"expect_select_column_values_to_be_unique_within_record", "expect_multicolumn_values_to_be_equal",
            "expect_column_pair_values_to_be_equal"}  # fmt: skip
# Least and most value that the quantity can have: a bound that says no more than this cannot fail.
NATURAL: dict[str, tuple[float, float | None]] = {
    "expect_table_row_count_to_be_between": (0, None),
    "expect_table_column_count_to_be_between": (0, None),
    "expect_column_unique_value_count_to_be_between": (0, None),
    "expect_column_value_lengths_to_be_between": (0, None),
    "expect_column_stdev_to_be_between": (0, None),
    "expect_column_proportion_of_unique_values_to_be_between": (0, 1),
    "expect_column_proportion_of_non_null_values_to_be_between": (0, 1),
}


@dataclass(frozen=True)
class Entry:
    """One expectation of a suite as written. `problem` says why it cannot be run, None when it can."""

    type: str
    kwargs: dict[str, Any]
    may_be_null: bool = False
    expectation: Any = None
    problem: SpecError | None = None

    @property
    def columns(self) -> list[str]:
        """Columns whose values the expectation reads, in order; those of its row condition left out."""
        if self.type.startswith("expect_table_"):
            return []
        return [c for key in COLUMN_KEYS for c in _listed(self.kwargs.get(key))]

    @property
    def named(self) -> list[str]:
        """Every column that the expectation names, also those of a table's column list."""
        listed = [c for key in COLUMN_KEYS for c in _listed(self.kwargs.get(key))]
        return [*listed, *_condition_columns(self.kwargs.get("row_condition"))]


def check_suite(suite: Mapping[str, Any], where: str) -> list[str]:
    """Return the columns that a suite names, sorted; for `millrace check`.

    Raises SpecError for a suite that is empty, has unknown keys, types or kwargs, needs an engine other than pandas,
    or holds an expectation that cannot fail.
    """
    entries = read(suite, where)
    for entry in entries:
        if entry.problem is not None:
            raise entry.problem
    if not entries:
        raise SpecError("the suite has no expectations: it would pass anything", where=where,
                        next_step="Write at least one under 'expectations:'")  # fmt: skip
    return sorted({column for entry in entries for column in entry.named})


def read(suite: Mapping[str, Any], where: str) -> list[Entry]:
    """Read a suite's expectations in order, each with its problem if it has one. Raises SpecError for a wrong frame."""
    if not isinstance(suite, Mapping):
        raise SpecError("a suite is a mapping with 'name' and 'expectations'", where=where)
    _known(suite, SUITE_KEYS, where)
    if not isinstance(suite.get("name"), str) or not suite["name"]:
        raise SpecError("a suite needs a 'name'", where=where)
    expectations = suite.get("expectations")
    if not isinstance(expectations, list):
        raise SpecError("a suite needs a list under 'expectations'", where=where)
    gx.load()
    with gx.quiet():
        return [_entry(item, f"{where}: expectations[{number}]") for number, item in enumerate(expectations)]


def _entry(item: Any, where: str) -> Entry:
    kind = item.get("type") if isinstance(item, Mapping) else None
    kwargs = item.get("kwargs") if isinstance(item, Mapping) else None
    entry = Entry(str(kind or "expectation"), dict(kwargs) if isinstance(kwargs, Mapping) else {})
    try:
        if not isinstance(item, Mapping) or not isinstance(kind, str):
            raise SpecError("an expectation is a mapping with 'type' and 'kwargs'", where=where)
        _known(item, KEYS, where)
        if kwargs is not None and not isinstance(kwargs, Mapping):
            raise SpecError("'kwargs' is a mapping", where=where)
        expectation = _build(kind, entry.kwargs, item.get("severity", "critical"), where)
        _can_fail(kind, entry.kwargs, expectation, where)
        return Entry(kind, entry.kwargs, _may_be_null(item.get("meta"), where), expectation)
    except SpecError as problem:
        return Entry(entry.type, entry.kwargs, problem=problem)


def _build(kind: str, kwargs: dict[str, Any], severity: Any, where: str) -> Any:
    """Build GX's own object, which validates the kwargs."""
    if kind not in (known := gx.types()):
        raise SpecError("no such expectation", where=where, given=kind, allowed=_near(kind, known))
    from great_expectations.compatibility.pydantic import ValidationError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.registry import get_expectation_impl

    fields = set(get_expectation_impl(kind).__fields__) - OURS
    for key, value in kwargs.items():
        if key not in fields:
            raise SpecError(f"{kind} does not take this", where=where, given=key, allowed=sorted(fields))
        if isinstance(value, Mapping) and "$PARAMETER" in value:
            raise SpecError(f"{kind}, {key}: a suite of a gate has no parameters; write the value", where=where)
    try:
        expectation = ExpectationConfiguration(type=kind, kwargs=dict(kwargs), severity=severity).to_domain_obj()
    except ValidationError as err:
        first = err.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part != "__root__")
        raise SpecError(f"{kind}{f', {key}' if key else ''}: {first['msg']}", where=where) from err
    except Exception as err:
        raise SpecError(f"{kind}: {err}", where=where) from err
    if gx.needs_sql(expectation):
        raise SpecError("this expectation needs an SQL engine; a gate runs in pandas", where=where, given=kind)
    return expectation


def _can_fail(kind: str, kwargs: dict[str, Any], expectation: Any, where: str) -> None:
    """Refuse an expectation that would pass whatever the data are."""
    fields = type(expectation).__fields__
    for key in NONEMPTY:
        if key in fields and not kwargs.get(key):
            raise SpecError(f"{kind} cannot fail without a '{key}' that holds something", where=where)
    mostly = kwargs.get("mostly")
    if mostly is not None and not mostly > 0:
        raise SpecError(f"{kind} cannot fail with 'mostly: 0'", where=where, allowed="above 0, at most 1")
    if kind in NEED_TWO and len({c for key in COLUMN_KEYS for c in _listed(kwargs.get(key))}) < 2:
        raise SpecError(f"{kind} cannot fail on one column", where=where)
    if kind == "expect_column_kl_divergence_to_be_less_than" and kwargs.get("threshold") is None:
        raise SpecError(f"{kind} cannot fail without a 'threshold'", where=where)
    if kind == "expect_column_quantile_values_to_be_between":
        ranges = kwargs.get("quantile_ranges")
        pairs = ranges.get("value_ranges") if isinstance(ranges, Mapping) else None
        if not isinstance(pairs, list) or all(bound is None for pair in pairs for bound in _items(pair)):
            raise SpecError(f"{kind} cannot fail without a bound in 'value_ranges'", where=where)
    if kind.endswith("_to_be_between") and "min_value" in fields:
        low, high = kwargs.get("min_value"), kwargs.get("max_value")
        least, most = NATURAL.get(kind, (None, None))
        binds_low = low is not None and (least is None or low > least or kwargs.get("strict_min"))
        binds_high = high is not None and (most is None or high < most or kwargs.get("strict_max"))
        if not binds_low and not binds_high:
            raise SpecError(f"{kind} cannot fail with these bounds", where=where,
                            next_step="Give a min_value or max_value that says more")  # fmt: skip


def _may_be_null(meta: Any, where: str) -> bool:
    ours = meta.get("millrace", {}) if isinstance(meta, Mapping) else {}
    if not isinstance(ours, Mapping):
        raise SpecError("'meta.millrace' is a mapping", where=where)
    _known(ours, {"may_be_null"}, f"{where}, meta.millrace")
    value = ours.get("may_be_null", False)
    if not isinstance(value, bool):
        raise SpecError("'meta.millrace.may_be_null' is true or false", where=where)
    return value


def _known(item: Mapping[str, Any], allowed: set[str], where: str) -> None:
    for key in item:
        if key not in allowed:
            raise SpecError("unknown key", where=where, given=str(key), allowed=sorted(allowed))


def _near(kind: str, known: list[str]) -> list[str]:
    """The few closest names: the whole list would fill the screen."""
    import difflib

    return difflib.get_close_matches(kind, known, n=3, cutoff=0.5) or known[:3]


def _listed(value: Any) -> list[str]:
    return [c for c in _items(value) if isinstance(c, str)]


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _condition_columns(condition: Any) -> list[str]:
    """Columns in GX's structured row conditions; one written as a string is read by pandas alone."""
    if isinstance(condition, Mapping):
        column = condition.get("column")
        own = [column["name"]] if isinstance(column, Mapping) and isinstance(column.get("name"), str) else []
        return own + [c for value in condition.values() for c in _condition_columns(value)]
    if isinstance(condition, list):
        return [c for part in condition for c in _condition_columns(part)]
    return []
