"""What a gate must never pass is tried on both engines: in pandas, as small tables are, and in SQL, as large ones."""

from __future__ import annotations

import pytest

from millrace.gates import engine

ON_BOTH = {"test_gates_engine", "test_gates_private", "test_gates_vacuous"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in ON_BOTH:
        metafunc.fixturenames.append("sql_rows")
        metafunc.parametrize("sql_rows", [10**9, 0], ids=["pandas", "sql"], indirect=True)


@pytest.fixture
def sql_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SQL_ROWS", request.param)
