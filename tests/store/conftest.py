"""Stores to test against: a folder, and a bucket of a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.store import ObjectStore, open_store


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Root of an empty store of each kind."""
    if request.param == "folder":
        return str(tmp_path / "store")
    return f"s3://{request.getfixturevalue('bucket')}/some/prefix"


@pytest.fixture
def objects(root: str) -> ObjectStore:
    """An empty store of each kind."""
    return open_store(root)
