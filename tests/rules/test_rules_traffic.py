"""Assignment of units to versions: sticky, even, and independent of who computes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.rules.traffic import meets_new, point


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5])
def test_a_share_of_the_units_is_met(share: float) -> None:
    met = sum(meets_new("salt", f"unit-{n}", share) for n in range(40_000))
    assert abs(met / 40_000 - share) < 4 * (share * (1 - share) / 40_000) ** 0.5


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_who_met_the_new_version_stays_with_it_as_its_share_grows(unit: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert not meets_new("salt", unit, low) or meets_new("salt", unit, high)


def test_another_rollout_draws_anew() -> None:
    both = sum(meets_new("a", f"{n}", 0.5) and meets_new("b", f"{n}", 0.5) for n in range(20_000))
    assert abs(both / 20_000 - 0.25) < 0.02


def test_a_point_is_the_same_for_ever() -> None:
    """Servers of two versions of Millrace answer side by side: to change this is to move everybody."""
    assert point("salt", "unit") == 0.6233435070571407
