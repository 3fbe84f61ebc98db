"""A few whole rollouts by `bench.rollouts`, whose measurement runs a thousand of each kind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))

from bench.rollouts import EQUAL, HARM, runs

BY_NAME = {kind.name: kind for kind in HARM}


@pytest.mark.parametrize("first", [0, 3])
def test_versions_that_are_equal_are_not_stopped(first: int):
    """One with itself, to a fleet that comes again; and one with another as good."""
    (run,) = runs(EQUAL, 1, first=first)

    assert run.stopped is None and run.units > 300


@pytest.mark.parametrize(
    ("name", "guard", "requests"),
    [
        ("dead", "errors", 300),
        ("NaN for a tenth of the requests", "errors", 4000),
        ("slow for half of the requests", "slow", 700),
        ("shuffled labels, in shadow", "predictions", 500),
    ],
)
def test_harm_is_stopped_by_its_guard(name: str, guard: str, requests: int):
    for run in runs(BY_NAME[name], 4):
        assert run.stopped == guard and run.requests <= requests
