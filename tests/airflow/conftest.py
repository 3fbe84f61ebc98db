"""Jobs of tasks run in the tests' own process."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_child_for_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the tests has run XGBoost and torch, and in a fork of such a one they hang."""
    from millrace.jobs import guard, runner

    monkeypatch.setattr(guard, "run", runner.run)
