"""A part of the mutation campaign: what must be caught is, at the latest by the stage named here.

`python tests/gates/campaign` runs the whole, and trains models on what passes; docs/gates.md has its tables.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "campaign"))
from judge import Campaign
from mutators import mutants
from seed import SEED

STAGES = ["land", "gate", "transform", "features"]
LATEST = {
    "dropped column": "land", "renamed column": "land", "retyped column": "land", "null column": "gate",
    "unit change": "gate", "shifted clock": "gate", "swapped columns": None, "truncated": "gate",
    "empty file": "land", "wrong time": "gate", "flipped sign": "gate", "colliding keys": "gate",
}  # fmt: skip
"""Family -> the stage that stops each of its mutants at the latest; None: some of them do no harm and pass."""
CHOSEN = [m for family in LATEST for m in [m for m in mutants(SEED) if m.family == family][:2]]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign(tmp_path_factory.mktemp("campaign"))


def test_the_campaign_is_large_and_repeatable() -> None:
    drawn = mutants(SEED)
    assert len(drawn) >= 200
    assert [(m.family, m.name) for m in drawn] == [(m.family, m.name) for m in mutants(SEED)]
    assert len({(m.family, m.name) for m in drawn}) == len(drawn)


@pytest.mark.parametrize("mutant", CHOSEN, ids=lambda m: f"{m.family}: {m.name}")
def test_a_mutant_is_caught_in_time(campaign: Campaign, mutant) -> None:
    caught = campaign.judge(mutant)
    latest = LATEST[mutant.family]
    if latest is None:
        assert caught.by is not None or campaign.harm(caught.features) is None
    else:
        assert caught.by is not None and STAGES.index(caught.by) <= STAGES.index(latest), caught


def test_the_clean_month_passes(campaign: Campaign) -> None:
    """Given files written anew from the clean ones, then nothing stops them and the features are the same bytes."""
    from mutators import Mutant

    untouched = Mutant("none", "none", lambda months: {s: frame.copy() for s, frame in months["now"].items()})
    caught = campaign.judge(untouched)
    assert caught.by is None and caught.features is not None
    assert campaign.harm(caught.features) is None
