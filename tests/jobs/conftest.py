"""A registry for each test, from one database."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.registry import Registry

from millrace.mlflow.registry import ensure_database


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables: making one takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    ensure_database(f"sqlite:///{path}")
    return path


@pytest.fixture
def registry(tmp_path: Path, database: Path) -> Registry:
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    return Registry(tmp_path, mlflow=f"sqlite:///{tmp_path / 'mlflow.db'}")
