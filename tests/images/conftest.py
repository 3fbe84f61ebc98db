"""All of these tests need an engine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "compose"))
from docker_engine import missing
from support.left_out import leave_out


@pytest.hookimpl(trylast=True)  # after -m and -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave them out where there is none."""
    leave_out(config, items, Path(__file__).parent, missing())
