"""On-demand features of a batch: each row's are those of the row alone, and columns have Feast's types first."""

from __future__ import annotations

import pyarrow as pa
import pytest

from millrace.core.errors import CodeError, DataError
from millrace.models.on_demand import with_on_demand
from millrace.online.on_demand import MADE_FROM, OnDemandView, computed

TEXT = """\
def paced(given):
    if given["tip"] == 13:
        raise ValueError("secret")
    return {"pace": None if given["speed"] is None else given["speed"] / 3 + (given["tip"] or 0), "n": given["n"]}
"""
VIEW = OnDemandView.model_validate({
    "name": "paced", "file": "feature_repo/trips.py", "function": "paced", "line": 1, "text": TEXT, "singleton": True,
    "inputs": [{"name": "speed", "type": "DOUBLE", "view": "trips"}, {"name": "n", "type": "INT64", "view": "trips"}],
    "request": [{"name": "tip", "type": "DOUBLE"}],
    "features": [{"name": "pace", "type": "DOUBLE"}, {"name": "n2", "type": "INT64"}],
}).model_copy(update={"text": TEXT.replace('"n":', '"n2":')})  # fmt: skip
ROWS = pa.table({
    "speed": pa.array([1.1, None, 2.3]),
    "n": pa.array([1, None, 2**53 + 1]), "tip": pa.array([0.1, 0.2, float("nan")]), "pace": ["stale"] * 3,
})  # fmt: skip


def test_a_batch_has_what_each_row_alone_gives_whatever_stood_there() -> None:
    made = with_on_demand(ROWS, [VIEW])
    alone = [computed([VIEW], {"speed": s, "n": n, "tip": t})
             for s, n, t in ((1.1, 1, 0.1), (None, None, 0.2), (2.3, 2**53 + 1, None))]  # fmt: skip
    assert made.select(["pace", "n2"]).to_pylist() == alone and made.column_names == [*ROWS.column_names, "n2"]
    assert with_on_demand(ROWS, ()) is ROWS


def test_what_a_training_set_kept_goes_before_a_column_of_the_name() -> None:
    kept = ROWS.append_column(MADE_FROM.format("n"), pa.array([7, 8, 9]))
    assert with_on_demand(kept, [VIEW])["n2"].to_pylist() == [7, 8, 9]


def test_what_is_missing_or_of_another_type_is_named_without_a_value() -> None:
    with pytest.raises(DataError, match="need a column that is not there.*'tip'"):
        with_on_demand(ROWS.drop_columns(["tip"]), [VIEW])
    with pytest.raises(DataError, match="another type") as said:
        with_on_demand(ROWS.set_column(1, "n", pa.array([1.5, 2, 3])), [VIEW])
    assert said.value.where == "n" and "1.5" not in str(said.value)
    with pytest.raises(DataError, match="is given for 'tip' what is no DOUBLE"):
        with_on_demand(ROWS.set_column(2, "tip", pa.array([float("inf"), 2, 3])), [VIEW])
    with pytest.raises(CodeError, match="raised ValueError") as raised:
        with_on_demand(ROWS.set_column(2, "tip", pa.array([13.0, 2, 3])), [VIEW])
    assert "secret" not in str(raised.value)
