from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from millrace.core.errors import DataError
from millrace.models.encoding import Encoder, labels


def learned(**columns: Any) -> Encoder:
    table = pa.table(columns)
    return Encoder.learn(table, table.column_names)


def test_numbers_stay_and_null_is_nan_is_missing() -> None:
    table = pa.table(
        {
            "i": pa.array([1, None, 3], pa.int32()),
            "f": pa.array([0.5, None, float("nan")]),
            "d": pa.array([Decimal("1.5"), None, Decimal("2.5")]),
        }
    )
    matrix = Encoder.learn(table, ["i", "f", "d"]).encode(table)
    np.testing.assert_array_equal(matrix.values, [[1, 0.5, 1.5], [np.nan, np.nan, np.nan], [3, np.nan, 2.5]])
    assert [c.kind for c in matrix.columns] == ["number"] * 3


def test_categories_are_sorted_codes_and_the_unknown_is_zero() -> None:
    encoder = learned(carrier=["WN", "AA", None, "UA"], rain=[True, False, None, True])
    new = pa.table({"carrier": ["AA", "UA", "WN", "ZZ", None], "rain": [False, True, None, True, False]})

    matrix = encoder.encode(new)

    assert matrix.values.tolist() == [[1, 1], [2, 2], [3, 0], [0, 2], [0, 1]]
    assert [(c.kind, c.levels) for c in matrix.columns] == [("category", 3), ("category", 2)]


def test_dictionary_and_large_strings_are_text() -> None:
    encoder = learned(a=pa.array(["x", "y"]).dictionary_encode(), b=pa.array(["x", "y"], pa.large_string()))
    plain = pa.table({"a": ["y", "x"], "b": pa.array(["y", "x"]).dictionary_encode()})
    assert encoder.encode(plain).values.tolist() == [[2, 2], [1, 1]]


def test_the_encoder_survives_json_and_keeps_column_order() -> None:
    encoder = learned(b=[1.0, 2.0], a=["x", "y"])
    again = Encoder.model_validate_json(encoder.model_dump_json())
    shuffled = pa.table({"a": ["y"], "other": [0], "b": [5]})
    assert again == encoder
    assert again.encode(shuffled).values.tolist() == [[5, 2]]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": ["x"]}, "'b' is missing"),
        ({"a": ["x"], "b": ["5"]}, "'b' was number (double) in training and is text now"),
        ({"a": [1], "b": [5.0]}, "'a' was text (string) in training and is number now"),
        ({"a": [True], "b": [5.0]}, "'a' was text (string) in training and is boolean now"),
        ({"a": ["x"], "b": [datetime(2013, 1, 1)]}, "'b' has type timestamp"),
    ],
)
def test_a_missing_or_changed_feature_is_named(columns: dict[str, list[Any]], words: str) -> None:
    encoder = learned(a=["x", "y"], b=[1.0, 2.0])
    with pytest.raises(DataError) as caught:
        encoder.encode(pa.table(columns))
    assert words in str(caught.value)


def test_an_integer_where_training_had_a_float_is_the_same_kind() -> None:
    assert learned(b=[1.0]).encode(pa.table({"b": [7]})).values.tolist() == [[7]]


def test_a_column_of_nulls_is_missing_values() -> None:
    nulls = pa.table({"a": pa.nulls(2), "b": pa.nulls(2)})
    values = learned(a=["x"], b=[1.0]).encode(nulls).values
    assert values[:, 0].tolist() == [0, 0]
    assert np.isnan(values[:, 1]).all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "column",
    [
        lambda sign: pa.array([1.0, sign * float("inf"), None, float("nan")]),
        lambda sign: pa.array([1.0, sign * 3.4028236e38, None, float("nan")]),
        lambda sign: pa.array([1.0, sign * float("inf"), None, 2.0], pa.float32()),
        lambda sign: pa.array([Decimal(1), sign * Decimal(10) ** 39, None, None], pa.decimal256(50, 0)),
    ],
    ids=["infinite", "beyond", "float32", "decimal"],
)
def test_a_number_that_is_infinite_to_a_learner_is_refused_by_its_column(sign: int, column: Any) -> None:
    encoder = learned(fare=[1.0, 2.0], hour=[1, 2])
    table = pa.table({"hour": [1, 2, 3, 4], "fare": column(sign)})
    with pytest.raises(DataError, match=r"feature 'fare' is infinite or beyond float32 in 1 of 4 rows.*NULL there"):
        encoder.encode(table)


def test_the_largest_number_of_float32_is_taken_and_is_no_less() -> None:
    largest = float(np.finfo(np.float32).max)
    assert learned(fare=[1.0]).encode(pa.table({"fare": [largest, -largest]})).values.tolist() == [
        [largest],
        [-largest],
    ]


@pytest.mark.parametrize("column", [[datetime(2013, 1, 1)], [b"x"], [[1, 2]]])
def test_learning_refuses_types_that_are_no_features(column: list[Any]) -> None:
    with pytest.raises(DataError, match="column 'when' has type .* which no learner takes"):
        learned(when=column)


def test_labels_are_numbers() -> None:
    table = pa.table({"late": [True, False], "delay": [1, -2]})
    assert labels(table, "late", "binary").tolist() == [1, 0]
    assert labels(table, "delay", "regression").tolist() == [1, -2]


@pytest.mark.parametrize(
    ("column", "task", "words"),
    [
        ([1, None, None], "binary", "null in 2 rows"),
        ([1.0, None, float("nan")], "binary", "null in 2 rows"),
        ([1.0, float("nan")], "regression", "null in 1 rows"),
        ([0, 4711], "binary", "something else in 1 of 2 rows.*allowed: 0, 1 or booleans"),
        ([-1, 1], "binary", "something else in 1 of 2 rows"),
        (["0", "1"], "binary", "is string"),
        (["4711", "b"], "regression", "is string"),
        ([4711.0, float("inf")], "regression", "something else in 1 of 2 rows"),
        ([4711.0, 1e308], "regression", "something else in 1 of 2 rows"),
        ([1.5, 4711.0], "multiclass", "is double"),
    ],
)
def test_a_wrong_label_is_refused_without_its_values(column: list[Any], task: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        labels(pa.table({"y": column}), "y", task)
    assert "4711" not in str(caught.value)
    with pytest.raises(DataError, match="the label is missing"):
        labels(pa.table({"y": column}), "z", task)
