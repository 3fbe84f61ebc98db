"""Online stores for the tests: SQLite, and PostgreSQL and Redis where their servers are installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.online_kept import Kept
from support.online_servers import online, postgres_place, redis_place

__all__ = ["kept", "online", "postgres_place", "redis_place"]


@pytest.fixture
def kept(tmp_path: Path, online: tuple[str, str] | None) -> Kept:
    """Each kind of online store, with no rows in it."""
    return Kept.at(tmp_path / "p", online)
