"""A request's rows become the values that the batch's columns become."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.core.errors import DataError
from millrace.models.encoding import Encoder
from millrace.rules.numbers import LARGEST
from millrace.serving.encoding import RowEncoder

INTEGERS = {f"{sign}int{bits}": (sign, bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}
KINDS: dict[str, Any] = {
    **{
        name: st.integers(0 if sign else -(2 ** (bits - 1)), 2 ** (bits - (not sign)) - 1)
        for name, (sign, bits) in INTEGERS.items()
    },
    "double": st.floats(-LARGEST, LARGEST) | st.just(math.nan),
    "float": st.floats(-LARGEST, LARGEST, width=32) | st.floats(-1e30, 1e30),
    "decimal": st.decimals(-99999, 99999, places=3),
    "string": st.sampled_from(["a", "b", "ä", "", "never seen", "true"]),
    "bool": st.booleans(),
}
TYPES = {"decimal": pa.decimal128(10, 3), "bool": pa.bool_(), "string": pa.string()}


@st.composite
def columns(draw: st.DrawFn) -> tuple[pa.Table, pa.Table]:
    """Training rows and rows of a request, of the same columns."""
    rows = draw(st.integers(1, 4))
    learned, sent = {}, {}
    for number, kind in enumerate(draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=5))):
        type_ = TYPES.get(kind) or getattr(pa, {"double": "float64", "float": "float32"}.get(kind, kind))()
        values = st.none() | KINDS[kind]
        learned[f"c{number}"] = pa.array(["a", "b", "ä"] if kind == "string" else [True, False, None]
                                         if kind == "bool" else [None] * 3, type_)  # fmt: skip
        sent[f"c{number}"] = pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), type_)
    return pa.table(learned), pa.table(sent)


@given(columns(), st.data())
def test_a_row_is_encoded_as_the_batch_encodes_it(given_, data):
    learned, sent = given_
    encoder = Encoder.learn(learned, learned.column_names)
    # as JSON has it, with its keys in any order
    rows = json.loads(json.dumps(sent.to_pylist(), default=float))
    rows = [dict(data.draw(st.permutations(list(row.items())))) for row in rows]

    here, there = RowEncoder(encoder).encode(rows), encoder.encode(sent)

    assert here.columns == there.columns
    assert here.values.tobytes() == np.where(np.isnan(there.values), math.nan, there.values).tobytes()


def test_a_number_that_has_more_digits_than_its_column_is_rounded_as_the_column_was():
    encoder = Encoder.learn(pa.table({"x": pa.array([1.5], pa.float32())}), ["x"])
    assert RowEncoder(encoder).encode([{"x": 0.1}]).values[0, 0] == float(np.float32(0.1)) != 0.1


def test_a_decimal_is_the_nearest_number_in_a_batch_as_in_a_request():
    texts = ["3.961", "0.1", "-99999.999", "1.005", "0.000"]
    column = pa.array([Decimal(text) for text in texts], pa.decimal128(10, 3))
    encoder = Encoder.learn(pa.table({"x": column}), ["x"])
    assert encoder.encode(pa.table({"x": column})).values[:, 0].tolist() == [float(text) for text in texts]
    assert RowEncoder(encoder).encode([{"x": 3.961}]).values[0, 0] == 3.961


TABLE = pa.table({"fare": [1.5], "seats": pa.array([3], pa.int8()), "carrier": ["AA"], "late": [True]})
ROW = {"fare": 2.5, "seats": 4, "carrier": "AA", "late": False}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fare": "2.5"}, "row 1: 'fare' cannot be this value.*'2.5'.*a number"),
        ({"fare": True}, "'fare' cannot be"),
        ({"fare": 1e39}, "'fare' cannot be"),
        ({"fare": math.inf}, "'fare' cannot be"),
        ({"fare": [1]}, "'fare' cannot be"),
        ({"fare": 10**400}, "'fare' cannot be"),
        ({"seats": 4.5}, "'seats' cannot be.*int8"),
        ({"seats": 128}, "'seats' cannot be"),
        ({"seats": math.nan}, "'seats' cannot be"),
        ({"carrier": 7}, "'carrier' cannot be.*text, or null"),
        ({"carrier": {"$ne": None}}, "'carrier' cannot be"),
        ({"late": "true"}, "'late' cannot be.*true, false"),
        ({"late": 1}, "'late' cannot be"),
        ({"carier": "AA"}, "does not know.*carier.*Did you mean 'carrier'"),
    ],
)
def test_what_cannot_be_is_refused_by_row_and_field(change, words):
    encoder = RowEncoder(Encoder.learn(TABLE, TABLE.column_names))
    with pytest.raises(DataError) as caught:
        encoder.encode([ROW, ROW | change])
    import re

    assert re.search(words, str(caught.value), re.S), str(caught.value)


def test_a_field_that_is_missing_is_named():
    encoder = RowEncoder(Encoder.learn(TABLE, TABLE.column_names))
    with pytest.raises(DataError, match="row 0 lacks 'carrier'"):
        encoder.encode([{k: v for k, v in ROW.items() if k != "carrier"}])


def test_whole_numbers_may_be_written_with_a_point():
    encoder = RowEncoder(Encoder.learn(TABLE, TABLE.column_names))
    assert encoder.encode([ROW | {"seats": 4.0, "fare": 2}]).values.tolist() == [[2.0, 4.0, 1.0, 0.0]]


def test_no_rows_are_an_empty_matrix():
    assert RowEncoder(Encoder.learn(TABLE, TABLE.column_names)).encode([]).values.shape == (0, 4)
