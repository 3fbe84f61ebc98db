"""What a message offers in place of a word that is not there."""

from __future__ import annotations

import pytest

from millrace.core.errors import nearest


@pytest.mark.parametrize(
    ("given", "allowed", "offered"),
    [
        ("temp", ["system", "season", "temperature", "humidity"], "temperature"),
        ("temp", ["air_temp_c", "system"], "air_temp_c"),
        ("temp", ["temperature", "temps"], "temps"),
        ("lable", ["lab", "label"], "label"),
        ("amuont", ["amount", "account"], "amount"),
        ("Amount", ["id", "amount"], "amount"),
        ("temperature_c", ["temperature", "time"], "temperature"),
        ("id", ["weekday", "wind_speed"], None),
        ("zzz", ["amount"], None),
        ("x", [], None),
    ],
)
def test_a_beginning_or_part_comes_before_what_is_spelt_alike(
    given: str, allowed: list[str], offered: str | None
) -> None:
    assert nearest(given, allowed) == offered
