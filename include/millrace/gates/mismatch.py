"""Why a column differs from a suite's set: kinds and frequent values in words, no value of a column that is private."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from millrace.gates import words

if TYPE_CHECKING:
    import pyarrow as pa

    from millrace.gates.gx.frame import Rows
    from millrace.gates.gx.suite import Entry

SETS = ("expect_column_values_to_be_in_set", "expect_column_values_to_not_be_in_set",
        "expect_column_distinct_values_to_be_in_set", "expect_column_distinct_values_to_contain_set",
        "expect_column_distinct_values_to_equal_set", "expect_column_most_common_value_to_be_in_set")  # fmt: skip
"""Types that compare a column's values with a set."""
COUNTED = 1_000_000
"""Up to so many rows the values of a column that differs from a set are counted for the message."""
_HOLDS = {"text": "texts", "integer": "whole numbers", "number": "numbers", "boolean": "true and false",
          "time": "times", "zoned": "times", "clock": "times", "date": "dates"}  # fmt: skip
# A column's kind -> kinds of a suite's values that can equal one of its. A time is compared with texts that say one.
_FITS = {
    "text": {"texts"},
    "integer": {"numbers", "true and false"},
    "number": {"numbers", "true and false"},
    "boolean": {"true and false", "numbers"},
    "time": {"times", "texts"},
    "zoned": {"times", "texts"},
    "clock": {"times", "dates", "texts"},
    "date": {"dates", "texts"},
}


def explained(entry: Entry, rows: Rows, public: bool) -> str:
    """What tells a person why a column differs from a set, where examples do not; empty where there is nothing."""
    if entry.type not in SETS:
        return ""
    column = entry.columns[0]
    kind = rows.kinds[column]
    other = set_of_another_kind(entry, kind)
    if public and other is None:
        return ""
    said = [other] if other else []
    if kind in _HOLDS and rows.num_rows <= COUNTED:
        said.append(f"most frequent: {most_frequent(rows.read([column])[column], kind, public) or 'nothing'}")
    if not public:
        said.append("values are shown of a column that pipeline.yaml calls public")
    return ": " + "; ".join(said)


def set_of_another_kind(entry: Entry, kind: str) -> str | None:
    """What a column of a kind (`frame.kind_of`) holds and the suite's set, where no member can equal a value of it."""
    members = entry.kwargs.get("value_set")
    if entry.type not in SETS or kind not in _FITS or not isinstance(members, list | tuple | set):
        return None
    given = kinds(members)
    by_row = entry.type.startswith("expect_column_values")  # there GX compares no date with a text
    if not given or set(given) & (_FITS[kind] - ({"texts"} if by_row and kind == "date" else set())):
        return None
    return f"the column holds {_HOLDS[kind]}, the set {' and '.join(given)}"


def kinds(members: Iterable[Any]) -> list[str]:
    """Kinds of a suite's values in words, the first one first."""
    return list(dict.fromkeys(_kind(member) for member in members if member is not None))


def most_frequent(values: pa.ChunkedArray, kind: str, public: bool) -> str:
    """The values that occur most often, or of a column that is not public their kinds."""
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    counts = Counter[str]()
    for item in values.drop_null().value_counts().to_pylist():
        value = words.plain(item["values"])
        shown = words.shown(value) if public else kind_of_text(str(value)) if kind == "text" else _HOLDS.get(kind, kind)
        counts[shown] += item["counts"]
    return frequent(counts)


def frequent(counts: Mapping[str, int]) -> str:
    """`texts of digits (700), empty texts (31)`: the three that occur most often."""
    most = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:3]
    return ", ".join(f"{kind} ({count:,})" for kind, count in most)


def kind_of_text(text: str) -> str:
    """What a text looks like, without a letter of it."""
    bare = text.strip()
    if not bare:
        return "empty texts"
    if bare != text:
        return "texts with space around them"
    if bare.lower() in ("true", "false", "yes", "no"):
        return "texts of yes or no"
    if bare.isdigit():
        return "texts of digits"
    return "other texts"


def _kind(member: Any) -> str:
    if isinstance(member, bool):
        return "true and false"
    if isinstance(member, str):
        return "texts"
    if isinstance(member, int | float):
        return "numbers"
    if isinstance(member, datetime):
        return "times"
    return "dates" if isinstance(member, date) else f"values of type {type(member).__name__}"
