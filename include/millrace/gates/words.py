"""Plain words: what an expectation asks and what was found, without values where a column is not public."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

EXAMPLES = 5
LENGTH = 60
# type -> (what is expected, with the suite's values; the same without them; what the rest of the rows do)
PHRASES: dict[str, tuple[str, str, str]] = {
    "expect_column_values_to_be_between": ("values {range}", "values within the suite's bounds", "are outside"),
    "expect_column_values_to_be_in_set": ("values in {value_set}", "values in the suite's set", "hold another"),
    "expect_column_values_to_not_be_in_set": ("no value in {value_set}", "no value in the suite's set", "hold one"),
    "expect_column_values_to_not_be_null": ("values that are not null", "", "are null"),
    "expect_column_values_to_be_null": ("nothing but nulls", "", "are not null"),
    "expect_column_values_to_be_unique": ("values that occur once", "", "are repeated"),
    "expect_compound_columns_to_be_unique": ("combinations that occur once", "", "are repeated"),
    "expect_column_values_to_match_regex": ("values like {regex}", "values like the suite's pattern", "do not match"),
    "expect_column_values_to_not_match_regex": ("no value like {regex}", "no value like the suite's pattern", "match"),
    "expect_column_values_to_be_of_type": ("values of type {type_}", "", "have another"),
    "expect_column_type_to_be": ("type {type_}", "", "have another"),
    "expect_column_values_to_be_in_type_list": ("one of the types {type_list}", "", "have another"),
    "expect_column_value_lengths_to_be_between": ("lengths {range}", "lengths within the suite's bounds", "are not"),
    "expect_column_value_lengths_to_equal": ("a length of {value}", "the suite's length", "have another"),
    "expect_column_values_to_match_strftime_format": ("times like {strftime_format}", "times like the suite's format",
                                                      "do not match"),
    "expect_column_to_exist": ("that it is there", "", ""),
    "expect_column_distinct_values_to_be_in_set": ("only values in {value_set}", "only values in the suite's set", ""),
    "expect_column_distinct_values_to_contain_set": ("each value in {value_set}", "each value in the suite's set", ""),
    "expect_column_distinct_values_to_equal_set": ("exactly the values {value_set}", "exactly the suite's set", ""),
    "expect_column_most_common_value_to_be_in_set": ("its most common value in {value_set}",
                                                     "its most common value in the suite's set", ""),
    "expect_column_unique_value_count_to_be_between": ("a number of distinct values {range}",
                                                       "a number of distinct values within the suite's bounds", ""),
    "expect_column_proportion_of_unique_values_to_be_between": ("a share of distinct values {range}",
                                                                "a share of distinct values in the suite's bounds", ""),
    "expect_column_proportion_of_non_null_values_to_be_between": ("a share of values that are not null {range}", "",
                                                                  ""),
    "expect_column_pair_values_to_be_equal": ("the first equal to the second", "", "differ"),
    "expect_column_pair_values_a_to_be_greater_than_b": ("the first greater than the second", "", "are not"),
    "expect_table_row_count_to_be_between": ("a number of rows {range}", "", ""),
    "expect_table_row_count_to_equal": ("{value} rows", "", ""),
    "expect_table_column_count_to_be_between": ("a number of columns {range}", "", ""),
    "expect_table_column_count_to_equal": ("{value} columns", "", ""),
    "expect_table_columns_to_match_set": ("columns {column_set}", "", ""),
    "expect_table_columns_to_match_ordered_list": ("the columns {column_list} in this order", "", ""),
} | {f"expect_column_{what}_to_be_between": (f"a {name} {{range}}", f"a {name} within the suite's bounds", "")
     for what, name in {"min": "smallest value", "max": "largest value", "mean": "mean", "median": "median",
                        "stdev": "standard deviation", "sum": "sum"}.items()}  # fmt: skip
NOT_VALUES = {
    "expect_column_unique_value_count_to_be_between",
    "expect_column_proportion_of_unique_values_to_be_between",
    "expect_column_proportion_of_non_null_values_to_be_between",
    "expect_column_values_to_be_of_type",
    "expect_column_type_to_be",
    "expect_column_values_to_be_in_type_list",
}
"""Types whose observed value is a count, a share or a type: no value of the column, whatever its classification."""
SHAPE = ("mostly", "row_condition", "condition_parser", "ignore_row_if", "strict_min", "strict_max")


def subject(columns: Iterable[str]) -> str:
    """Name the columns: `column 'a'`, `columns 'a', 'b'`, or `the table`."""
    names = [f"'{shown(c)}'" for c in columns]
    return "the table" if not names else f"column{'s' if len(names) > 1 else ''} {', '.join(names)}"


def expected(kind: str, kwargs: Mapping[str, Any], public: bool) -> str:
    """What an expectation asks, such as `values between 0 and 6000`; without the suite's values unless public."""
    rest = {k: v for k, v in kwargs.items() if v is not None and k not in SHAPE and not k.startswith("column")}
    if kind not in PHRASES:
        name = kind.removeprefix("expect_").replace("_", " ")
        return f"{name} ({shown(rest, 200)})" if public and rest else name
    with_values, without, _ = PHRASES[kind]
    if not public and without:
        text = without
    else:
        words = {key: shown(value, 200) for key, value in kwargs.items()} | {"range": _range(kwargs)}
        text = with_values.format_map(words)
    if (mostly := kwargs.get("mostly")) is not None and mostly != 1:
        text += f" in at least {number(100 * mostly)} % of rows"
    return ("where the row condition holds, " if kwargs.get("row_condition") else "") + text


def otherwise(kind: str, unexpected: int) -> str:
    """What the unexpected rows do: `are outside`, of one row `is outside`."""
    text = PHRASES[kind][2] if kind in PHRASES and PHRASES[kind][2] else "do not meet this"
    if unexpected != 1:
        return text
    verb, _, rest = text.partition(" ")
    one = {"are": "is", "have": "has", "do": "does"}.get(verb, verb + ("es" if verb.endswith("ch") else "s"))
    return f"{one} {rest}".rstrip()


def gaps(result: Mapping[str, Any]) -> str:
    """How a column's distinct values differ from a set: `2 other values, 1 missing`; empty when not told."""
    other, missing = result.get("unexpected_count"), result.get("missing_count")
    parts = [f"{count(other)} other value{'' if other == 1 else 's'}"] if other else []
    return ", ".join([*parts, *([f"{count(missing)} missing"] if missing else [])])


def count(value: int) -> str:
    """`27,004`."""
    return f"{value:,}"


def rows(value: int) -> str:
    """`1 row`, `27,004 rows`."""
    return f"{value:,} row{'' if value == 1 else 's'}"


def number(value: float) -> str:
    """A number with as many digits as a person reads."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def shown(value: Any, length: int = LENGTH) -> str:
    """A value as text for a log: one line, nothing unprintable, shortened."""
    if isinstance(value, bool | str):
        text = str(value)
    elif isinstance(value, int | float):
        text = number(value)
    elif isinstance(value, list | tuple | set):
        text = f"[{', '.join(shown(v, length) for v in value)}]"
    elif isinstance(value, Mapping):
        text = f"{{{', '.join(f'{k}: {shown(v, length)}' for k, v in value.items())}}}"
    else:
        text = str(plain(value))
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= length else text[: length - 1] + "…"


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numbers to 12 digits (the last ones differ between processors), NaN as null."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(v) for v in value), key=str)
    if isinstance(value, float | Decimal):
        return float(f"{value:.12g}") if math.isfinite(value) else None if math.isnan(value) else str(float(value))
    if isinstance(value, datetime | date):
        return None if value != value else value.isoformat()  # NaT is a datetime that is not equal to itself
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return plain(value.tolist())
    return None if type(value).__name__ == "NAType" else str(value)


def _range(kwargs: Mapping[str, Any]) -> str:
    low, high = (None if kwargs.get(k) is None else shown(kwargs[k]) for k in ("min_value", "max_value"))
    strict_low, strict_high = kwargs.get("strict_min"), kwargs.get("strict_max")
    if low is not None and high is not None and not strict_low and not strict_high:
        return f"between {low} and {high}"
    parts = []
    if low is not None:
        parts.append(f"above {low}" if strict_low else f"at least {low}")
    if high is not None:
        parts.append(f"below {high}" if strict_high else f"at most {high}")
    return " and ".join(parts)
