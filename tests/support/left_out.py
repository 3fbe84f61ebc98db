"""Tests that this machine has not what they need for: left out, and named in one line for each reason."""

from __future__ import annotations

from pathlib import Path

import pytest

counts: dict[tuple[str, str], int] = {}


def leave_out(
    config: pytest.Config, items: list[pytest.Item], folder: Path, why: str | None, fixture: str | None = None
) -> None:
    """Leave out a folder's tests, or those that use a fixture, where there is a reason."""
    mine = [i for i in items if i.path.parent == folder and (not fixture or fixture in getattr(i, "fixturenames", ()))]
    if why and mine:
        counts[folder.name, why] = len(mine)
        items[:] = [i for i in items if i not in mine]
        config.hook.pytest_deselected(items=mine)
