"""No value of a column that is not public leaves a gate: not in messages, the result, the page, or a log."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from millrace.gates import page
from millrace.gates.checks.builtin import Within
from millrace.gates.engine import validate
from millrace.gates.result import GateResult

SECRETS = ["Xq7-alpha", "Xq7-beta", "Xq7-gamma"]
AMOUNTS = [918273.5, 645546.25, 77712377.0]
TABLE = pa.table(
    {
        "public": [1, 2, 3],
        "name": SECRETS,
        "amount": AMOUNTS,
        "born": [datetime(1971, 3, d, tzinfo=UTC) for d in (17, 18, 19)],
        "mixed": pa.array([["Xq7-list"], None, None]),
    }
)
TRACES = ["Xq7", "918273", "918,273", "645546", "645,546", "77712377", "77,712,377", "7.77", "1971"]


def classify(column: str) -> str:
    return "public" if column == "public" else "personal"


def expect(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": kwargs, "description": "written of Xq7", "notes": "Xq7", "meta": {"a": "Xq7"}}


EVERY = [
    expect("expect_column_values_to_be_in_set", column="name", value_set=SECRETS[:1]),
    expect("expect_column_values_to_not_be_in_set", column="name", value_set=SECRETS[:1]),
    expect("expect_column_values_to_match_regex", column="name", regex="^Xq7-a"),
    expect("expect_column_values_to_match_regex_list", column="name", regex_list=["^Xq7-a"]),
    expect("expect_column_values_to_match_json_schema", column="name", json_schema={"enum": ["Xq7"]}),
    expect("expect_column_values_to_be_json_parseable", column="name"),
    expect("expect_column_values_to_match_strftime_format", column="name", strftime_format="%Y"),
    expect("expect_column_values_to_be_dateutil_parseable", column="name"),
    expect("expect_column_distinct_values_to_equal_set", column="name", value_set=SECRETS[:1]),
    expect("expect_column_distinct_values_to_contain_set", column="name", value_set=["Xq7-delta"]),
    expect("expect_column_most_common_value_to_be_in_set", column="name", value_set=["Xq7-delta"]),
    expect("expect_column_values_to_be_between", column="amount", max_value=918273.5),
    expect("expect_column_values_to_be_between", column="born", max_value="1971-03-17T00:00:00Z"),
    expect("expect_column_max_to_be_between", column="amount", max_value=918273.5),
    expect("expect_column_min_to_be_between", column="born", min_value="1971-04-01T00:00:00Z"),
    expect("expect_column_mean_to_be_between", column="amount", max_value=1),
    expect("expect_column_quantile_values_to_be_between", column="amount",
           quantile_ranges={"quantiles": [0.5], "value_ranges": [[918273.5, 918273.5]]}),
    expect("expect_column_kl_divergence_to_be_less_than", column="name", threshold=0.1,
           partition_object={"values": SECRETS, "weights": [0.9, 0.05, 0.05]}),
    expect("expect_column_mean_to_be_between", column="name", min_value=1),
    expect("expect_column_values_to_be_between", column="name", min_value=645546.25),
    expect("expect_column_values_to_be_between", column="public", min_value=9, row_condition="name == 'Xq7-alpha'"),
    expect("expect_column_values_to_be_between", column="public", min_value=9, row_condition="nope == 'Xq7-alpha'"),
    expect("expect_column_values_to_be_between", column="public", min_value=9, row_condition={
        "type": "comparison", "column": {"name": "name"}, "operator": "==", "parameter": "Xq7-alpha"}),
    expect("expect_column_values_to_be_between", column="public", min_value=9, row_condition="name == Xq7"),
    expect("expect_table_row_count_to_equal", value=9, row_condition="name == Xq7"),
    expect("expect_table_row_count_to_equal", value=9, row_condition="amount == 918273.5"),
    expect("expect_column_pair_values_to_be_equal", column_A="public", column_B="amount"),
    expect("expect_column_pair_values_to_be_in_set", column_A="public", column_B="name", value_pairs_set=[[1, "Xq7"]]),
    expect("expect_multicolumn_sum_to_equal", column_list=["public", "amount"], sum_total=918273.5),
    expect("expect_compound_columns_to_be_unique", column_list=["public", "name"]),
    expect("expect_column_values_to_be_unique", column="mixed"),
    expect("expect_column_values_to_be_in_type_list", column="name", type_list=["int64"]),
    expect("expect_column_values_to_be_in_set", column="name", value_set="Xq7-alpha"),
    expect("expect_column_values_to_be_in_set", column="name", value_set=["Xq7"], mostly="Xq7"),
    expect("expect_column_values_to_be_in_set", column="name", value_set=[{"$PARAMETER": "Xq7"}]),
    expect("expect_column_values_to_be_in_sett", column="name", value_set=["Xq7"]),
    expect("expect_column_values_to_be_in_set", columm="name", value_set=["Xq7"]),
]  # fmt: skip


def gate(*expectations: dict[str, Any]) -> GateResult:
    within = Within("born", "2013-01", datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 2, 1, tzinfo=UTC))
    suite = {"name": "raw", "expectations": list(expectations), "notes": "Xq7"}
    return validate(TABLE, suite, "suites/raw.yaml", classify, within)


def assert_clean(text: str) -> None:
    for trace in TRACES:
        assert trace not in text, text[max(0, text.index(trace) - 200) : text.index(trace) + 50]


def test_no_value_of_a_private_column_leaves_the_gate(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    with caplog.at_level(logging.DEBUG):
        result = gate(*EVERY)
        html = page.render(result, "raw").decode()
    assert len(result.results) == 6 + len(EVERY)
    assert sum(not c.passed for c in result.verdict.checks) > 25
    assert_clean(result.verdict.model_dump_json())
    assert_clean(json.dumps(result.to_json()))
    assert_clean(html)
    assert [r.getMessage() for r in caplog.records if r.name.startswith("great_expectations")] == []
    assert_clean(caplog.text)
    out = capfd.readouterr()
    assert_clean(out.out + out.err)
    assert_clean(" ".join(str(w.message) for w in recwarn))


@pytest.mark.parametrize("item", EVERY, ids=lambda item: item["type"])
def test_a_check_that_touches_a_private_column_shows_no_examples(item: dict[str, Any]) -> None:
    check = gate(item).verdict.checks[-1]
    assert check.examples == ()
    assert_clean(check.message)


def test_the_same_checks_on_public_columns_do_show_values() -> None:
    suite = {"name": "raw", "expectations": EVERY}
    result = validate(TABLE, suite, "suites/raw.yaml", lambda column: "public")
    text = result.verdict.model_dump_json() + json.dumps(result.to_json()) + page.render(result, "raw").decode()
    for trace in ("Xq7-beta", "645,546", "77712377", "1971"):
        assert trace in text


def test_counts_of_private_columns_are_told() -> None:
    check = gate(EVERY[0]).verdict.checks[-1]
    assert check.message == (
        "column 'name': values in the suite's set expected; 2 of 3 rows hold another: most frequent: other texts (3); "
        "values are shown of a column that pipeline.yaml calls public"
    )
    assert (check.unexpected, check.total) == (2, 3)
