"""The SQL engine: one SELECT that is the same at every run, shut off, and silent about values."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from millrace.core.errors import DataError, MillraceError, SpecError
from millrace.sql.select import connect, select


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    made = connect(str(tmp_path), "UTC")
    people = pa.table({"id": [1, 2], "name": ["hunter2", "x"], "t": pa.array([1, 2], pa.timestamp("us", "UTC"))})
    made.register("people", people)
    yield made
    made.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM people",
        "-- a word\nWITH a AS MATERIALIZED (SELECT id FROM people) SELECT * FROM a; -- another\n",
        "FROM people SELECT id",
        "SELECT id FROM people USING SAMPLE reservoir(2 ROWS) REPEATABLE (7) ORDER BY id",
        "SELECT id FROM people WHERE age(t, t) = INTERVAL 0 DAY",
    ],
)
def test_a_select_runs(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert select(connection, sql).to_pydict() == {"id": [1, 2]}


@pytest.mark.parametrize(
    ("sql", "given"),
    [
        ("", "nothing"),
        ("-- nothing but a word", "nothing"),
        ("SELECT 1; SELECT 2", "SELECT, SELECT"),
        ("CREATE TABLE a AS SELECT 1", "CREATE"),
        ("COPY people TO 'people.csv'", "COPY"),
        ("INSTALL httpfs", "LOAD"),
        ("SET threads = 4", "SET"),
        ("PIVOT people ON name USING sum(id)", "MULTI"),
    ],
)
def test_anything_but_one_select_is_refused(connection: duckdb.DuckDBPyConnection, sql: str, given: str) -> None:
    with pytest.raises(SpecError, match="one SELECT") as caught:
        select(connection, sql)
    assert f"(given: '{given}')" in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("now()", "now"),
        ("NOW()", "now"),
        ("current_timestamp", "current_timestamp"),
        ("CURRENT_DATE", "current_date"),
        ("localtimestamp", "localtimestamp"),
        ("today()", "today"),
        ("age(t)", "age"),
        ("ago(INTERVAL 1 DAY)", "ago"),
        ("random()", "random"),
        ("uuid()", "uuid"),
        ("list_transform([1], x -> x + random())", "random"),
        ("(SELECT max(random()) FROM people)", "random"),
        ("row_number() OVER (ORDER BY random())", "random"),
        ("reservoir_quantile(id, 0.5) OVER ()", "reservoir_quantile"),
        ("current_setting('threads')", "current_setting"),
    ],
)
def test_what_changes_from_run_to_run_is_refused(
    connection: duckdb.DuckDBPyConnection, expression: str, name: str
) -> None:
    with pytest.raises(SpecError, match=rf"^transform\.sql:4: '{name}' gives something else at each run"):
        select(connection, f"-- é\nSELECT id,\n\n{expression} FROM people")


@pytest.mark.parametrize(
    "sql", ["FROM people USING SAMPLE 1 ROWS", "FROM people TABLESAMPLE 10%", "FROM query('FROM people')"]
)
def test_samples_and_hidden_sql_are_refused(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(SpecError, match="at each run"):
        select(connection, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_csv('{file}')",
        "FROM '{file}'",
        "FROM glob('/*')",
        "SELECT content FROM read_text('{file}')",
        "FROM sqlite_scan('{file}', 'a')",
    ],
)
def test_files_and_extensions_cannot_be_reached(
    connection: duckdb.DuckDBPyConnection, tmp_path_factory: pytest.TempPathFactory, sql: str
) -> None:
    file = tmp_path_factory.mktemp("outside") / "secret.csv"
    file.write_text("a\nhunter2\n")
    with pytest.raises(SpecError) as caught:
        select(connection, sql.format(file=file))
    assert "hunter2" not in str(caught.value)


def test_the_programs_own_variables_cannot_be_read(connection: duckdb.DuckDBPyConnection) -> None:
    secret = pa.table({"a": ["hunter2"]})
    assert secret.num_rows
    with pytest.raises(SpecError, match="secret does not exist"):
        select(connection, "FROM secret")


@pytest.mark.parametrize(
    "expression",
    [
        "CAST(name AS INTEGER)",
        "strptime(name, '%Y')",
        "error(name)",
        "id * 9223372036854775807",
        "CAST(name AS DATE)",
        "json_extract(name, '$.a')",
        "CAST(name AS ENUM ('a'))",
    ],
)
def test_an_error_on_a_row_is_the_datas_and_shows_no_value(
    connection: duckdb.DuckDBPyConnection, expression: str
) -> None:
    with pytest.raises(DataError, match=r"^transform\.sql") as caught:
        select(connection, f"SELECT {expression} FROM people WHERE id < 3 ORDER BY 1")
    shown = "".join(traceback.format_exception(caught.value))
    assert "Could not" not in shown and "9223372036854775807)" not in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT id,\n  nome\nFROM people", 'transform.sql:2: Binder Error: Referenced column "nome" not found'),
        ("SELECT id\nFROM persons", "transform.sql:2: Catalog Error: Table with name persons does not exist"),
        ("SELECT id\nFORM people", "transform.sql:2: Parser Error"),
        ("SELECT nothing(id) FROM people", "transform.sql:1: Catalog Error: Scalar Function with name nothing"),
    ],
)
def test_wrong_sql_is_named_by_line(connection: duckdb.DuckDBPyConnection, sql: str, message: str) -> None:
    with pytest.raises(MillraceError) as caught:
        select(connection, sql)
    assert isinstance(caught.value, SpecError)
    assert str(caught.value).startswith(message), caught.value


def test_one_thread_in_utc_whatever_the_machine(connection: duckdb.DuckDBPyConnection) -> None:
    settings = dict(connection.execute("SELECT name, value FROM duckdb_settings()").fetchall())
    assert settings["threads"] == "1"
    assert settings["TimeZone"] == "UTC"
    assert settings["autoinstall_known_extensions"] == settings["autoload_known_extensions"] == "false"
    assert settings["enable_external_access"] == "false"
    assert settings["lock_configuration"] == "true"


def test_too_little_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = duckdb.connect()
    made.execute("SET memory_limit = '10MB'; SET temp_directory = ''")
    with pytest.raises(MemoryError, match="needs more memory"):
        select(made, "SELECT list(range) FROM range(20000000)")
