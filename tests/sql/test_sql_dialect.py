"""What transform.sql may not say for Spark: each refused with its line and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from millrace.checks.sql import sql_columns
from millrace.core.errors import SpecError
from millrace.spec import PipelineSpec
from millrace.sql.dialect.translate import translate

SOURCE = {"kind": "files", "gate": "g.yaml", "location": "{year}.csv", "columns": ["id", "t", "n"]}
SPEC: dict[str, Any] = {
    "version": 1, "name": "shop", "owner": "me", "description": "test",
    "partition": {"grain": "month", "start": "2024-01"},
    "sources": {"sales": {**SOURCE, "location": "{year}-{month}.csv", "types": {"t": "timestamp", "n": "number"}}},
    "features": {"entity": ["id"], "service": "shop"},
}  # fmt: skip


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    made = duckdb.connect()
    made.execute("SET TimeZone = 'UTC'")
    made.execute(
        "CREATE TABLE t (a BIGINT, b BIGINT, x DOUBLE, s VARCHAR, z TIMESTAMPTZ, ts TIMESTAMP, d DATE, p BOOLEAN)"
    )
    made.execute("CREATE TABLE u (a BIGINT, w BIGINT, z TIMESTAMPTZ)")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("sql", "construct", "instead"),
    [
        ("SELECT a / b AS c FROM t", "/ by what may be zero", "nullif(y, 0)"),
        ("SELECT a / 0 AS c FROM t", "/ by what may be zero", "nullif(y, 0)"),
        ("SELECT a + 2.25 * 2 AS c FROM t", "* of type DECIMAL(", "AS DOUBLE"),
        ("SELECT upper(s) AS c FROM t", "upper()", "before the data are landed"),
        ("SELECT arg_max(a, x) AS c FROM t", "arg_max()", "row_number()"),
        ("SELECT first(a) AS c FROM t", "first()", "first_value"),
        ("SELECT any_value(a) AS c FROM t", "IGNORE NULLS", "WHERE"),
        ("SELECT t.a FROM t ASOF JOIN u ON t.a = u.a AND t.z >= u.z", "ASOF JOIN", "lead(time)"),
        ("SELECT t.a FROM t POSITIONAL JOIN u", "POSITIONAL JOIN", "JOIN .. ON"),
        ("SELECT a FROM t NATURAL JOIN u", "NATURAL JOIN", "JOIN .. ON"),
        ("SELECT a FROM t LIMIT 3", "LIMIT", "row_number()"),
        ("SELECT * EXCLUDE (a) FROM t", "* with exceptions", "Name the columns"),
        ("SELECT * FROM t JOIN u USING (a)", "* after USING", "Name the columns"),
        ("SELECT COLUMNS('a.*') FROM t", "without a name", "AS name"),
        ("SELECT DISTINCT ON (a) a FROM t", "DISTINCT ON", "row_number()"),
        ("SELECT a FROM t WHERE a IN (SELECT a FROM u)", "a query inside an expression", "SEMI JOIN"),
        ("SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u)", "a query inside an expression", "SEMI JOIN"),
        ("SELECT (SELECT max(a) FROM u) AS c FROM t", "SUBQUERY", "JOIN"),
        ("SELECT a FROM t EXCEPT SELECT a FROM u", "EXCEPT", "ANTI JOIN"),
        ("SELECT a FROM t UNION ALL BY NAME SELECT a FROM t", "BY_NAME", "docs/scale.md"),
        ("SELECT a, s FROM t UNION ALL SELECT a, 1 AS s FROM t", "of VARCHAR and number", "CAST"),
        ("SELECT date_diff('week', z, z) AS c FROM t", "date_diff() in weeks", "day"),
        ("SELECT z - z AS c FROM t", "- of TIMESTAMP", "epoch(a) - epoch(b)"),
        ("SELECT z + x * INTERVAL 1 DAY AS c FROM t", "an interval times a fraction", "INTERVAL 1 SECOND"),
        ("SELECT z + INTERVAL '1 day 2 hours' AS c FROM t", "an interval of several units", "INTERVAL 1 HOUR"),
        ("SELECT CAST(INTERVAL 1 DAY AS VARCHAR) AS c FROM t", "CAST of INTERVAL to VARCHAR", ""),
        ("SELECT CAST(s AS BIGINT) AS c FROM t", "CAST of VARCHAR to BIGINT", "in its source"),
        ("SELECT CAST(x AS VARCHAR) AS c FROM t", "CAST of DOUBLE to VARCHAR", ""),
        ("SELECT CAST(x AS FLOAT) AS c FROM t", "CAST of type FLOAT", "DOUBLE"),
        ("SELECT TIMESTAMPTZ '2013-01-01 10:00' AS c FROM t", "to TIMESTAMP WITH", "2024-01-31 12:00:00"),
        ("SELECT CASE WHEN p THEN 1 ELSE 'a' END AS c FROM t", "CASE of VARCHAR and number", "CAST"),
        ("SELECT z > '2013-01-01' AS c FROM t", "> of TIMESTAMP WITH TIME ZONE and VARCHAR", "CAST"),
        ("SELECT coalesce(d, ts) AS c FROM t", "coalesce() of DATE and TIMESTAMP", "CAST"),
        ("SELECT a AS q, q + 1 AS r FROM t", "whose type cannot be told", "Repeat it"),
        ("SELECT a % 2 AS q, count(*) AS n FROM t GROUP BY q", "GROUP BY an alias", "its number"),
        ("SELECT a FROM t GROUP BY ROLLUP (a)", "ROLLUP", ""),
        ("SELECT count(*) FROM t", "a column without a name", "AS name"),
        ("SELECT list(a) AS c FROM t", "array_agg()", "no lists"),
        ("SELECT [1] AS c FROM t", "[", ""),
        ("SELECT round(x, 2) AS c FROM t", "round() to a place after the point", "round(x)"),
        ("SELECT x // 2 AS c FROM t", "// of fractions", "floor"),
        ("SELECT s LIKE '\\%' AS c FROM t", "LIKE with a computed pattern or a backslash", ""),
        ("SELECT s ILIKE 'a' AS c FROM t", "ILIKE", "LIKE"),
        ("SELECT regexp_matches(s, 'a') AS c FROM t", "regexp_matches()", "LIKE"),
        ("SELECT strftime(z, '%Y') AS c FROM t", "strftime()", "extract"),
        ("SELECT substr(s, a) AS c FROM t", "substring() with a computed", "literal"),
        ("SELECT z AT TIME ZONE s AS c FROM t", "AT TIME ZONE with", "Europe/Rome"),
        ("SELECT z AT TIME ZONE 'EST' AS c FROM t", "AT TIME ZONE with", "Europe/Rome"),
        ("SELECT sum(a) FILTER (WHERE p) OVER () AS c FROM t", "FILTER in a window", "CASE WHEN"),
        ("SELECT row_number() OVER () AS c FROM t", "row_number() without an order", "ORDER BY"),
        ("SELECT lag(x IGNORE NULLS) OVER (ORDER BY a) AS c FROM t", "over a window", ""),
        ("SELECT sum(x) OVER (ORDER BY a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES) AS c FROM t",
         "EXCLUDE", "Subtract"),
        ("SELECT sum(x) OVER (ORDER BY x RANGE 1 PRECEDING) AS c FROM t", "a RANGE frame", "whole numbers"),
        ("SELECT sum(DISTINCT a) AS c FROM t", "DISTINCT", ""),
        ("SELECT a FROM range(3) AS q(a)", "a table function", "source"),
        ("SELECT a FROM (VALUES (1)) AS q(a)", "a table function", "source"),
        ("SELECT a FROM t TABLESAMPLE 10%", "SAMPLE", ""),
        ("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r",
         "WITH RECURSIVE", "window"),
        ("SELECT a & b AS c FROM t", "BITWISEAND", "docs/scale.md"),
        ("SELECT hash(a) AS c FROM t", "hash()", "docs/scale.md"),
    ],
)  # fmt: skip
def test_what_is_not_on_the_list_is_refused(
    connection: duckdb.DuckDBPyConnection, sql: str, construct: str, instead: str
) -> None:
    connection.execute("EXPLAIN " + sql)  # DuckDB takes it
    found = translate(connection, sql)
    assert [p for p in found.problems if construct in p.construct and instead in p.instead], found.problems
    with pytest.raises(SpecError, match=r"^transform\.sql:1: .* does not mean the same on Spark"):
        found.checked()


@pytest.mark.parametrize(
    ("expression", "instead"),
    [
        ("z + INTERVAL 1 DAY", "24 * INTERVAL 1 HOUR"),
        ("z - a * INTERVAL 2 WEEK", "AT TIME ZONE 'Europe/Rome'"),
        ("z + INTERVAL 1 MONTH", "AT TIME ZONE 'Europe/Rome'"),
        ("date_diff('day', z, z)", "date_diff('day', a::DATE, b::DATE)"),
        ("max(x) OVER (ORDER BY z RANGE INTERVAL 1 DAY PRECEDING)", "24 * INTERVAL 1 HOUR"),
    ],
)
def test_days_of_moments_are_refused_where_they_differ_in_length(
    connection: duckdb.DuckDBPyConnection, expression: str, instead: str
) -> None:
    sql = f"SELECT {expression} AS c FROM t"
    assert not translate(connection, sql).problems
    connection.execute("SET TimeZone = 'Europe/Rome'")
    try:
        (problem,) = translate(connection, sql).problems
        assert "Europe/Rome" in problem.construct and instead in problem.instead, problem
        for clock in ("ts + INTERVAL 1 DAY", "d + INTERVAL 1 MONTH", "z + INTERVAL 24 HOUR", "date_diff('day', d, d)"):
            assert not translate(connection, f"SELECT {clock} AS c FROM t").problems
    finally:
        connection.execute("SET TimeZone = 'UTC'")


def test_all_problems_are_told_each_on_its_line(connection: duckdb.DuckDBPyConnection) -> None:
    sql = "-- é\nWITH q AS (\n SELECT a,\n  a / b AS c\n FROM t\n)\nSELECT lower(s) AS e,\n x::VARCHAR AS f\nFROM t, q"
    found = translate(connection, sql).problems
    assert [(p.line, p.construct) for p in found] == [
        (4, "/ by what may be zero"), (7, "lower()"), (8, "CAST of DOUBLE to VARCHAR"),
    ]  # fmt: skip


def test_check_asks_only_pipelines_on_spark(tmp_path: Path) -> None:
    path = tmp_path / "transform.sql"
    path.write_text("SELECT id,\n       t AS event_timestamp,\n       round(n, 2) AS n\nFROM sales\nLIMIT 3\n")
    on_duckdb = PipelineSpec.model_validate(SPEC)
    assert list(sql_columns(path, on_duckdb)) == ["id", "event_timestamp", "n"]
    on_spark = PipelineSpec.model_validate({**SPEC, "features": {**SPEC["features"], "engine": "spark"}})
    with pytest.raises(SpecError) as caught:
        sql_columns(path, on_spark)
    lines = str(caught.value).splitlines()
    assert [line.partition(" ")[0] for line in lines] == [f"{path}:3:", f"{path}:5:"]
    path.write_text("SELECT id, t AS event_timestamp, round(n) AS n FROM sales")
    assert list(sql_columns(path, on_spark)) == ["id", "event_timestamp", "n"]


def test_the_engine_is_part_of_what_is_digested() -> None:
    from millrace.spec import Bundle

    def digest(**features: str) -> str:
        spec = PipelineSpec.model_validate({**SPEC, "features": {**SPEC["features"], **features}})
        return Bundle(spec=spec.model_dump(mode="json"), sql="SELECT 1", suites={}).digest

    assert digest() == digest(engine="duckdb") != digest(engine="spark")
