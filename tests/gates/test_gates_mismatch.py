"""A column that differs from a set says what it holds; a private one without any of its values."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from millrace.gates import mismatch
from millrace.gates.engine import validate
from millrace.gates.gx.suite import Entry

DAY = datetime(2024, 1, 1, tzinfo=UTC)
IN_SET = "expect_column_values_to_be_in_set"


def said(values: pa.Array, members: list[Any], public: bool, kind: str = IN_SET) -> str:
    item = {"type": kind, "kwargs": {"column": "c", "value_set": members}}
    suite = {"name": "s", "expectations": [item]}
    found = validate(pa.table({"c": values}), suite, "s", lambda column: "public" if public else "internal")
    assert not found.verdict.checks[-1].passed
    return found.verdict.checks[-1].message


def test_booleans_against_texts_are_called_so() -> None:
    values = pa.array([True] * 3 + [False, None])
    assert said(values, ["Yes", "No"], public=True) == (
        "column 'c': values in [Yes, No] expected; 4 of 5 rows hold another: the column holds true and false, "
        "the set texts; most frequent: True (3), False (1)"
    )
    private = said(values, ["Yes", "No"], public=False)
    assert private.endswith(
        "4 of 5 rows hold another: the column holds true and false, the set texts; most frequent: true and false (4); "
        "values are shown of a column that pipeline.yaml calls public"
    )


def test_a_private_column_tells_kinds_and_no_value() -> None:
    values = pa.array(["17", "18", "19", " secret", "", "Yes", "hunter2"])
    text = said(values, ["zzz"], public=False)
    assert "most frequent: texts of digits (3), empty texts (1), other texts (1)" in text
    assert not any(value in text for value in ("17", "secret", "hunter2", "zzz"))
    numbers = said(pa.array([17, 18]), [1], public=False, kind="expect_column_distinct_values_to_equal_set")
    assert "most frequent: whole numbers (2)" in numbers and "17" not in numbers


def test_a_public_column_of_the_same_kind_has_its_examples() -> None:
    assert said(pa.array(["a", "b"]), ["a"], public=True).endswith("1 of 2 rows holds another")


@pytest.mark.parametrize(
    ("kind", "members", "fits"),
    [
        ("text", [1, 2], False), ("text", [1, "a"], True), ("integer", ["1"], False), ("integer", [1.0], True),
        ("boolean", ["true"], False), ("boolean", [0, 1], True), ("number", [date(2024, 1, 1)], False),
        ("time", ["2024-01-01T00:00:00Z"], True), ("time", [1], False), ("time", [DAY], True),
        ("date", ["2024-01-01"], False), ("date", [date(2024, 1, 1)], True), ("date", [DAY], False),
        ("other", [1], True), ("text", [None], True),
    ],
)  # fmt: skip
def test_a_set_fits_a_column_of_its_kind(kind: str, members: list[Any], fits: bool) -> None:
    entry = Entry(IN_SET, {"column": "c", "value_set": members})
    assert (mismatch.set_of_another_kind(entry, kind) is None) is fits
