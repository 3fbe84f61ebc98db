"""The model inventory: what it must say, and from when on it holds promotions up."""

from __future__ import annotations

from datetime import date

import pytest
from pydantic import ValidationError
from support.learning import spec

from millrace.spec.inventory import Inventory

GIVEN = {"tier": 2, "intended_use": "to warn staff", "review_by": "2024-02-29"}


@pytest.mark.parametrize(("today", "late"), [("2024-02-28", False), ("2024-02-29", False), ("2024-03-01", True)])
def test_a_review_is_overdue_from_the_day_after_it_was_due(today, late):
    why = Inventory.model_validate(GIVEN).overdue(date.fromisoformat(today))
    assert (why is not None) is late and (not late or "due on 2024-02-29" in why)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"tier": 4}, "tier"),
        ({"intended_use": ""}, "intended_use"),
        ({"review_by": "soon"}, "review_by"),
        ({"reviewer": "ann"}, "reviewer"),
        ({"review_by": None}, "review_by"),
    ],
)
def test_what_is_no_inventory_names_its_field(changes, where):
    with pytest.raises(ValidationError) as caught:
        Inventory.model_validate(GIVEN | changes)
    assert [error["loc"][0] for error in caught.value.errors()] == [where]


def test_a_spec_without_one_keeps_its_bytes():
    assert "inventory" not in spec()
    with_one = spec(inventory=GIVEN)
    assert with_one["inventory"]["review_by"] == "2024-02-29"
