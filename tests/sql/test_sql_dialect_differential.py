"""Every construct that transform.sql may use on Spark, on the same rows in both engines: nulls, negative numbers, ties,
zeros, infinities, clocks that change."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from support import spark_pair

from millrace.sql.dialect.table import RULES

spark_session = spark_pair.spark_session

NAN, INF = float("nan"), float("inf")
HALVES = [n + 0.5 for n in range(-4, 5)]
DOUBLES = [None, 0.0, -0.0, 1.0, -1.0, 2.675, -2.675, 1e-7, 1e15, -1e15, 1e300, 0.49999999999999994, 1 / 3, *HALVES]
WHOLE = [None, 0, 1, -1, 7, -7, 100, -100, 2**31, -(2**31), 2**40 + 1, 3, 3, 5]
TEXTS = [
    None,
    "",
    "a",
    "abc",
    "  padded ",
    "straße",
    "İstanbul",
    "é€😀",
    "a%b",
    "a_b",
    "back\\slash",
    "quo'te",
    "AB",
    "ab",
]
MOMENTS = [
    None,
    *(datetime(2013, 3, 10, h, m, tzinfo=UTC) for h in (5, 6, 7, 8) for m in (0, 30)),  # New York loses an hour
    *(datetime(2013, 11, 3, h, m, tzinfo=UTC) for h in (4, 5, 6, 7) for m in (0, 30)),  # and has one twice
    datetime(2013, 4, 6, 15, 15, tzinfo=UTC),  # Lord Howe goes back half an hour
    datetime(2012, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2013, 1, 1, tzinfo=UTC),
    datetime(2012, 2, 29, 12, tzinfo=UTC),
    datetime(2013, 1, 31, 10, 11, 12, 500000, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 500000, tzinfo=UTC),
    datetime(1969, 7, 20, 20, 17, 40, tzinfo=UTC),
]


def numbers() -> pa.Table:
    """Every double beside every whole number, in two columns of each."""
    rows = [(a, b, x, y) for n, (a, b) in enumerate((a, b) for a in WHOLE for b in WHOLE[:7])
            for x, y in [(DOUBLES[n % len(DOUBLES)], DOUBLES[n * 7 % len(DOUBLES)])]]  # fmt: skip
    return pa.table({
        "n": pa.array(range(len(rows)), pa.int64()),
        "a": pa.array([r[0] for r in rows], pa.int64()), "b": pa.array([r[1] for r in rows], pa.int64()),
        "x": pa.array([r[2] for r in rows], pa.float64()), "y": pa.array([r[3] for r in rows], pa.float64()),
        "p": pa.array([None if n % 3 == 0 else n % 3 == 1 for n in range(len(rows))], pa.bool_()),
        "g": pa.array([None if n % 5 == 0 else f"g{n % 4}" for n in range(len(rows))]),
    })  # fmt: skip


def moments() -> pa.Table:
    """Moments, beside other ones, as TIMESTAMPTZ, TIMESTAMP (t on New York's clock) and DATE."""
    count, step = len(MOMENTS), 5
    other = [MOMENTS[(n * step) % count] for n in range(count)]
    return pa.table({
        "n": pa.array(range(count), pa.int64()),
        "z": pa.array(MOMENTS, pa.timestamp("us", "UTC")), "z2": pa.array(other, pa.timestamp("us", "UTC")),
        "t": pa.array([m and m.replace(tzinfo=None) - timedelta(hours=4) for m in MOMENTS], pa.timestamp("us")),
        "t2": pa.array([m and m.replace(tzinfo=None) for m in other], pa.timestamp("us")),
        "d": pa.array([m and m.date() for m in MOMENTS], pa.date32()),
        "d2": pa.array([m and m.date() for m in other], pa.date32()),
        "k": pa.array([n - 9 if n % 6 else None for n in range(count)], pa.int64()),
    })  # fmt: skip


@pytest.fixture(scope="module")
def engines(spark_session: Any) -> Any:
    return spark_pair.Pair(spark_session, tables())


def tables() -> dict[str, pa.Table]:
    clock = [datetime(2013, 11, 3) + timedelta(minutes=30 * n) for n in range(8)]
    spring = [datetime(2013, 3, 10) + timedelta(minutes=30 * n) for n in range(8)]
    lord_howe = [datetime(2013, 4, 7, 1) + timedelta(minutes=15 * n) for n in range(8)]
    series = [(n, f"k{n % 3}" if n % 7 else None, n // 4 * 10, (n * 37 % 11) / 4 if n % 5 else None) for n in range(60)]
    return {
        "numbers": numbers(),
        "moments": moments(),
        "clocks": pa.table({"t": pa.array([*clock, *spring, *lord_howe, None], pa.timestamp("us"))}),
        "texts": pa.table({"n": pa.array(range(len(TEXTS)), pa.int64()), "s": TEXTS, "u": TEXTS[3:] + TEXTS[:3]}),
        # `i` has ties, `v` has nulls, moments come in pairs
        "series": pa.table({
            "n": pa.array([r[0] for r in series], pa.int64()), "k": [r[1] for r in series],
            "i": pa.array([r[2] for r in series], pa.int64()), "v": pa.array([r[3] for r in series], pa.float64()),
            "z": pa.array([datetime(2013, 3, 10, tzinfo=UTC) + timedelta(minutes=45 * (r[0] // 2)) for r in series],
                          pa.timestamp("us", "UTC")),
            "t": pa.array([datetime(2013, 3, 10) + timedelta(minutes=45 * (r[0] // 2)) for r in series],
                          pa.timestamp("us")),
        }),
        "keys": pa.table({"k": ["k0", "k1", "k1", None], "w": pa.array([1, 2, 3, 4], pa.int64())}),
        "odd": pa.table({"n": pa.array(range(8), pa.int64()),
                         "x": pa.array([None, NAN, INF, -INF, 0.0, 1.0, -1.0, 1e300], pa.float64())}),
    }  # fmt: skip


EXPRESSIONS: dict[str, dict[str, list[str]]] = {
    "numbers": {
        "Literal": ["1 AS c", "0.5::DOUBLE AS c", "5000000000 AS c", "1e5 AS c", "'it''s \\n' AS c"],
        "Null": ["CAST(NULL AS DOUBLE) AS c"],
        "Boolean": ["TRUE AS c", "p = FALSE AS c"],
        "Column": ["a AS c, numbers.b AS e"],
        "Paren": ["(a + 1) * 2 AS c"],
        "Add": ["a + b AS c", "x + a AS c", "x + 0.5 AS c"],
        "Sub": ["a - b AS c", "x - y AS c"],
        "Mul": ["(a % 1000) * (b % 1000) AS c", "x * 0.25 AS c"],
        "Div": ["a / nullif(b, 0) AS c", "x / nullif(a, 0) AS c", "a / 3 AS c", "x / 0.5 AS c"],
        "IntDiv": ["a // nullif(b, 0) AS c", "a // 3 AS c", "a // -3 AS c"],
        "Mod": ["a % nullif(b, 0) AS c", "a % -3 AS c", "mod(x, 2) AS c"],
        "Neg": ["-a AS c", "- x AS c"],
        "EQ": ["a = b AS c", "x = y AS c", "x = a AS c"],
        "NEQ": ["a <> b AS c", "x != 0.5 AS c"],
        "LT": ["a < b AS c", "x < a AS c", "a < 0.5 AS c"],
        "LTE": ["a <= b AS c"],
        "GT": ["a > b AS c"],
        "GTE": ["a >= b AS c"],
        "NullSafeEQ": ["a IS NOT DISTINCT FROM b AS c"],
        "NullSafeNEQ": ["a IS DISTINCT FROM b AS c"],
        "And": ["p AND a > 0 AS c"],
        "Or": ["p OR a > 0 AS c"],
        "Not": ["NOT p AS c"],
        "Is": ["a IS NULL AS c", "p IS TRUE AS c", "p IS NOT FALSE AS c", "x IS NOT NULL AS c"],
        "Between": ["a BETWEEN -1 AND b AS c", "a NOT BETWEEN 0 AND 5 AS c"],
        "In": ["a IN (1, 7, NULL) AS c", "a NOT IN (1, 7) AS c", "g IN ('g1', 'g2') AS c"],
        "Case": ["CASE WHEN p THEN a WHEN a > b THEN 0 ELSE x END AS c",
                 "CASE a WHEN 7 THEN 'x' WHEN -7 THEN 'y' END AS c"],
        "If": ["if(p, a, b) AS c"],
        "Coalesce": ["coalesce(a, b, 0) AS c", "ifnull(x, y) AS c"],
        "Least": ["least(a, b) AS c", "least(x, y, 1) AS c"],
        "Greatest": ["greatest(a, b) AS c", "greatest(x, NULL) AS c"],
        "Nullif": ["nullif(a, b) AS c"],
        "Cast": [
            "CAST(CASE WHEN abs(x) < 1e15 THEN x END AS BIGINT) AS c", "CAST(p AS BIGINT) AS c", "a::BOOLEAN AS c",
            "CAST(a AS VARCHAR) AS c", "CAST(a AS DOUBLE) AS c", "CAST(a % 100 AS SMALLINT) AS c", "p::VARCHAR AS c",
        ],
        "TryCast": ["TRY_CAST(x AS BIGINT) AS c", "TRY_CAST(x AS INTEGER) AS c", "TRY_CAST(a AS INTEGER) AS c"],
        "Abs": ["abs(a) AS c", "abs(x) AS c"],
        "Sqrt": ["sqrt(x) AS c", "sqrt(a) AS c"],
        "Exp": ["exp(a % 10) AS c"],
        "Pow": ["pow(a % 10, 2) AS c", "(x % 3) ** 3 AS c", "pow(abs(x % 7), 0.5) AS c"],
        "Ln": ["ln(x) AS c", "ln(a) AS c"],
        "Log": ["log10(x) AS c", "log2(a) AS c", "log(x) AS c"],
        "Floor": ["floor(x) AS c", "floor(a) AS c"],
        "Ceil": ["ceil(x) AS c", "ceil(a) AS c"],
        "Round": ["round(x) AS c", "round(a) AS c"],
        "IsNan": ["isnan(x) AS c"],
    },
    "odd": {
        "Floor": ["floor(x) AS c, ceil(x) AS e, round(x) AS f"],
        "Ln": ["ln(x) AS c, log10(x) AS e, sqrt(x) AS f, abs(x) AS h"],
        "IsNan": ["isnan(x) AS c, x = x AS e, x > 1 AS f, greatest(x, 1) AS h, least(x, 1) AS i"],
        "TryCast": ["TRY_CAST(x AS BIGINT) AS c"],
        "Sum": ["max(x) AS c, min(x) AS e, count(x) AS f"],
    },
    "texts": {
        "DPipe": ["s || u AS c"],
        "Concat": ["concat(s, '-', u) AS c"],
        "ConcatWs": ["concat_ws('-', s, u, 'x') AS c"],
        "Pad": ["lpad(s, 5, '0') AS c, rpad(s, 4, 'xy') AS e, lpad(s, 0, 'é') AS f"],
        "Substring": [f"substr(s, {start}) AS c, substr(s, {start}, 2) AS e" for start in (-2, 0, 1, 3, 9)],
        "Left": ["left(s, 2) AS c"],
        "Right": ["right(s, 2) AS c, right(s, 0) AS e"],
        "Length": ["length(s) AS c"],
        "Trim": ["trim(s) AS c, ltrim(s) AS e, rtrim(s) AS f"],
        "Replace": ["replace(s, 'a', u) AS c, replace(s, '', 'x') AS e"],
        "StartsWith": ["starts_with(s, 'a') AS c, starts_with(s, u) AS e"],
        "EndsWith": ["ends_with(s, 'b') AS c"],
        "Contains": ["contains(s, 'b') AS c"],
        "Like": ["s LIKE 'a%' AS c, s LIKE 'a_b' AS e, s NOT LIKE '%''%' AS f"],
        "Min": ["min(s) AS c, max(s) AS e, count(DISTINCT s) AS f"],
        "LT": ["s < u AS c, s = u AS e"],
    },
    "moments": {
        "Add": [
            "z + INTERVAL 90 MINUTE AS c", "z + k * INTERVAL 1 HOUR AS c", "z + INTERVAL (k) DAY AS c",
            "z + INTERVAL 1 MONTH AS c", "t + k * INTERVAL '1 month' AS c",
            "d + k::INTEGER AS c", "d + INTERVAL 5 HOUR AS c",
            "d + INTERVAL 1 YEAR AS c", "INTERVAL 1 WEEK + t AS c", "z + INTERVAL 1500 MILLISECONDS AS c",
        ],
        "Sub": ["z - INTERVAL 1 MONTH AS c", "d - d2 AS c", "d - 40 AS c", "t - 3 * INTERVAL 1 DAY AS c"],
        "Extract": [
            f"extract({part} FROM z) AS c, extract({part} FROM t) AS e"
            for part in ("year", "quarter", "month", "day", "doy", "week", "dow", "isodow", "hour", "minute", "second",
                         "epoch")
        ] + ["extract(dow FROM d) AS c, extract(epoch FROM d) AS e"],
        **{node: [f"{name}(z) AS c, {name}(d) AS e"] for node, name in {
            "Year": "year", "Quarter": "quarter", "Month": "month", "Day": "day", "DayOfMonth": "dayofmonth",
            "DayOfYear": "dayofyear", "Week": "week", "WeekOfYear": "weekofyear", "DayOfWeek": "dayofweek",
            "DayOfWeekIso": "isodow"}.items()},
        "Hour": ["hour(z) AS c, hour(t) AS e"],
        "Minute": ["minute(z) AS c"],
        "Second": ["second(z) AS c"],
        "TimeToUnix": ["epoch(z) AS c, epoch(t) AS e, epoch(d) AS f"],
        "DateDiff": [
            *(f"date_diff('{unit}', z, z2) AS c, datediff('{unit}', t2, t) AS e"
              for unit in ("second", "minute", "hour", "day", "month", "year")),
            *(f"date_diff('{unit}', d, d2) AS c" for unit in ("day", "month", "year")),
        ],
        "TimestampTrunc": [
            f"date_trunc('{unit}', z) AS c, date_trunc('{unit}', t) AS e"
            for unit in ("second", "minute", "hour", "day", "week", "month", "quarter", "year")
        ] + ["date_trunc('month', d) AS c"],
        "DateFromParts": ["make_date(2012, 2, abs(k)) AS c FROM moments WHERE k <> 0"],
        "Cast": [
            "CAST(z AS DATE) AS c, CAST(t AS DATE) AS e", "CAST(z AS TIMESTAMP) AS c, t::TIMESTAMPTZ AS e",
            "CAST(d AS TIMESTAMP) AS c, d::TIMESTAMPTZ AS e, d::VARCHAR AS f",
            "TIMESTAMPTZ '2013-03-10 05:00:00+02:00' AS c, TIMESTAMP '2013-03-10' AS e, DATE '2013-03-10' AS f",
        ],
        "AtTimeZone": [
            *(f"z AT TIME ZONE '{zone}' AS c, t AT TIME ZONE '{zone}' AS e"
              for zone in ("UTC", "America/New_York", "Europe/Rome", "Asia/Kolkata", "Australia/Lord_Howe")),
            "t AS c, t AT TIME ZONE 'America/New_York' AS e FROM clocks",
            "t AS c, t AT TIME ZONE 'Australia/Lord_Howe' AS e FROM clocks",
        ],
        "LT": ["z < z2 AS c, t >= t2 AS e, d = d2 AS f, z BETWEEN z2 AND TIMESTAMPTZ '2013-06-01' AS h"],
    },
    "series": {
        "Sum": ["k, sum(v) AS c, sum(i) AS e FROM series GROUP BY k"],
        "Avg": ["k, avg(v) AS c, avg(i) AS e FROM series GROUP BY 1"],
        "Min": ["k, min(v) AS c, min(z) AS e, min(t) AS f FROM series GROUP BY ALL"],
        "Max": ["max(k) AS c, max(v) AS e", "max(v) AS c, count(*) AS e FROM series WHERE n < 0"],
        "Count": ["k, count(*) AS c, count(v) AS e, count(DISTINCT v) AS f FROM series GROUP BY k"],
        "CountIf": ["k, count_if(v > 1) AS c FROM series GROUP BY k"],
        "LogicalAnd": ["k, bool_and(v > 0.1) AS c FROM series GROUP BY k"],
        "LogicalOr": ["k, bool_or(v > 2) AS c FROM series GROUP BY k"],
        **{node: [f"k, i, {name}(v) AS c, {name}(i) AS e FROM series GROUP BY k, i"] for node, name in {
            "Stddev": "stddev", "StddevSamp": "stddev_samp", "StddevPop": "stddev_pop", "Variance": "variance",
            "VariancePop": "var_pop", "Median": "median"}.items()},
        "PercentileCont": ["k, quantile_cont(v, 0.9) AS c, quantile_cont(i, 0) AS e FROM series GROUP BY k"],
        "Filter": ["k, sum(v) FILTER (WHERE i > 50) AS c, "
                   "count(*) FILTER (WHERE v IS NULL) AS e FROM series GROUP BY k"],
        "RowNumber": ["n, row_number() OVER (PARTITION BY k ORDER BY n DESC) AS c"],
        "Rank": ["n, rank() OVER (PARTITION BY k ORDER BY v) AS c, rank() OVER (ORDER BY v DESC NULLS FIRST) AS e"],
        "DenseRank": ["n, dense_rank() OVER (ORDER BY i) AS c"],
        "Lag": ["n, lag(v) OVER (PARTITION BY k ORDER BY n) AS c, lag(v, 2, 0) OVER (PARTITION BY k ORDER BY n) AS e"],
        "Lead": ["n, lead(z, 1) OVER (PARTITION BY k ORDER BY n) AS c"],
        "FirstValue": ["n, first_value(v) OVER (PARTITION BY k ORDER BY n) AS c"],
        "LastValue": ["n, last_value(n) OVER (PARTITION BY k ORDER BY n ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING) "
                      "AS c"],
        "Window": [
            "n, sum(v) OVER (PARTITION BY k) AS c, avg(v) OVER (PARTITION BY k ORDER BY i) AS e",
            "n, sum(v) OVER (ORDER BY n ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING) AS c",
            "n, sum(i) OVER (PARTITION BY k ORDER BY i RANGE BETWEEN 10 PRECEDING AND CURRENT ROW) AS c",
            "n, max(v) OVER w AS c, count(*) OVER w AS e FROM series WINDOW w AS (PARTITION BY k ORDER BY z "
            "RANGE BETWEEN INTERVAL 2 HOUR PRECEDING AND INTERVAL 1 MINUTE PRECEDING)",
            "n, min(v) OVER (ORDER BY t RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND INTERVAL 90 MINUTE FOLLOWING) AS c",
            "n, count(v) OVER (ORDER BY v ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS c",
            "k, sum(sum(v)) OVER (ORDER BY k) AS c FROM series GROUP BY k",
        ],
    },
}  # fmt: skip
QUERIES = [
    "SELECT * FROM series",
    "SELECT s.*, 1 AS one FROM series AS s",
    "SELECT DISTINCT k, i FROM series",
    "SELECT n, k, w FROM series JOIN keys USING (k)",
    "SELECT s.n, keys.w FROM series AS s LEFT JOIN keys ON keys.k = s.k AND keys.w > 1",
    "SELECT s.n, keys.w FROM series AS s RIGHT JOIN keys ON keys.k = s.k",
    "SELECT s.n, keys.w FROM series AS s FULL JOIN keys ON keys.k = s.k AND s.n < 9",
    "SELECT s.n, keys.w FROM series AS s CROSS JOIN keys WHERE s.n < 5",
    "SELECT s.n, keys.w FROM series AS s, keys WHERE s.k = keys.k",
    "SELECT n FROM series SEMI JOIN keys ON series.k = keys.k",
    "SELECT n FROM series ANTI JOIN keys ON series.k = keys.k",
    "SELECT k, i FROM series UNION ALL SELECT 'x', n FROM series",
    "SELECT k FROM series UNION SELECT k FROM keys",
    "SELECT k, count(*) AS c FROM series GROUP BY k HAVING count(*) > 15",
    "SELECT n, k FROM series QUALIFY row_number() OVER (PARTITION BY k ORDER BY n) = 1 ORDER BY n",
    "WITH a AS MATERIALIZED (SELECT k, v FROM series), b (key, total) AS (SELECT k, sum(v) FROM a GROUP BY k) "
    "SELECT q.key, q.total * 2 AS twice FROM (SELECT * FROM b WHERE total > 1) AS q",
    "SELECT k, i % 20 AS i20, sum(v) AS c FROM series GROUP BY ALL",
    "SELECT k, i % 20 AS i20, sum(v) AS c FROM series GROUP BY 1, 2",
    "SELECT k, sum(v) AS c FROM series GROUP BY k ORDER BY sum(v) DESC",
]


@pytest.mark.parametrize("table", EXPRESSIONS)
def test_constructs_give_the_same_values(engines: Any, table: str) -> None:
    found = [(construct, text) for construct, texts in EXPRESSIONS[table].items() for text in texts]
    # All that read the table row by row in one query, on a row number; the others each in their own
    plain = [pair_ for pair_ in found if table != "series" and not _whole(pair_[1]) and not _AGGREGATE.match(pair_[1])]
    alone = [
        f"SELECT {text}" + ("" if _whole(text) else f" FROM {table}") for _, text in found if (_, text) not in plain
    ]
    if plain:
        columns = ", ".join(_numbered(n, text) for n, (_, text) in enumerate(plain))
        alone.append(f"SELECT n AS row, {columns} FROM {table}")
    wrong = [message for sql in alone if (message := differs(engines, sql))]
    assert not wrong, "\n".join(wrong)


_AGGREGATE = re.compile(r"(min|max|sum|count)\(")


def _numbered(n: int, text: str) -> str:
    """Aliases of its own for an expression: c and e become c7 and e7."""
    return re.sub(r" AS ([cefhi])\b", rf" AS \g<1>{n}", text)


def _whole(text: str) -> bool:
    """Whether it brings its own FROM, besides those of `extract` and `IS DISTINCT FROM`."""
    return any(f" FROM {table}" in text for table in ("moments", "clocks", "series", "keys"))


def differs(engines: Any, sql: str, zone: str = "UTC") -> str:
    """What is wrong with a query's rows, nothing when both engines make the same."""
    try:
        ours, theirs = engines.rows(sql, zone)
        assert ours, "no rows"
        spark_pair.assert_same(ours, theirs)
    except Exception as err:
        return f"{sql[:200]}\n    {type(err).__name__}: {str(err).splitlines()[0]}"
    return ""


def _long(text: str) -> bool:
    """Whether it asks for days of 23 or 25 hours, which are refused (test_sql_dialect)."""
    return bool(re.search(r"z [+-] INTERVAL (\(k\) DAY|1 MONTH)|'day', z", text))


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "Africa/Cairo"])
def test_clocks_are_those_of_the_zone_in_both(engines: Any, zone: str) -> None:
    """Over clocks that go forward and back, at night and at midnight."""
    found = [text for texts in EXPRESSIONS["moments"].values() for text in texts if not (_whole(text) or _long(text))]
    found += [
        "z::DATE::TIMESTAMPTZ AS c, z::TIMESTAMP::TIMESTAMPTZ AS e",
        "TIMESTAMPTZ '2013-11-03 01:30:00' AS c, TIMESTAMPTZ '2013-03-10 02:30:00' AS e",
        "z >= TIMESTAMPTZ '2013-11-03' AS c",
        "z + 24 * INTERVAL 1 HOUR AS c, z - INTERVAL 48 HOUR AS e",
        *(f"date_trunc('{unit}', {at} + k * INTERVAL 15 MINUTE) AS c, date_diff('{unit}', {at}, z) AS e"
          for unit in ("minute", "hour") for at in ("TIMESTAMPTZ '2013-11-03 05:45:00Z'", "z2")),
    ]  # fmt: skip
    columns = ", ".join(_numbered(n, text) for n, text in enumerate(found))
    rolling = (
        "n, max(v) OVER w AS c, count(*) OVER w AS e FROM series WINDOW w AS (PARTITION BY k ORDER BY z "
        "RANGE BETWEEN INTERVAL 24 HOUR PRECEDING AND INTERVAL 1 MINUTE PRECEDING)"
    )
    wrong = [differs(engines, sql, zone) for sql in (f"SELECT n AS row, {columns} FROM moments", f"SELECT {rolling}")]
    assert not any(wrong), "\n".join(wrong)


def test_queries_give_the_same_rows(engines: Any) -> None:
    wrong = [message for sql in QUERIES if (message := differs(engines, sql))]
    assert not wrong, "\n".join(wrong)


def test_no_construct_is_allowed_without_such_a_test() -> None:
    tested = {construct for constructs in EXPRESSIONS.values() for construct in constructs}
    assert {kind.__name__ for kind in RULES} - tested == {
        "Interval",
        "DateTrunc",
    }  # part of Add; an older parser's name
