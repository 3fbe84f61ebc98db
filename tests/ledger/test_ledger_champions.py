"""At any time a pipeline has at most one champion, and 'champion at T' has one answer."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from millrace.errors import Conflict, LedgerError
from millrace.ledger import Champion, Ledger, mirror


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def promote(ledger: Ledger, version: int, expected: int, pipeline: str = "flights", evidence: int = 0) -> Champion:
    return ledger.promote(
        pipeline, version=version, model_digest=digest(version), evidence_digest=digest(100 + version + evidence),
        expected_generation=expected, body={"trained_to": f"2013-0{version}"},
    )  # fmt: skip


def test_nobody_is_champion_before_the_first_promotion(ledger):
    assert ledger.champion("flights") is None


def test_promotions_follow_one_another(ledger):
    first, second = promote(ledger, 1, 0), promote(ledger, 2, 1)

    assert (first.generation, second.generation) == (1, 2)
    assert ledger.champion("flights") == second
    assert second.body == {"trained_to": "2013-02"}
    assert ledger.champion("trains") is None
    assert ledger.verify() == 2


def test_pipelines_have_their_own_generations(ledger):
    promote(ledger, 1, 0), promote(ledger, 2, 1), promote(ledger, 1, 0, "trains")

    assert ledger.champion("trains").generation == 1


def test_who_comes_late_loses(ledger):
    promote(ledger, 1, 0), promote(ledger, 2, 1)

    with pytest.raises(Conflict, match="generation 2"):
        promote(ledger, 3, 1)

    assert ledger.champion("flights").version == 2
    assert ledger.verify() == 2


@pytest.mark.parametrize("expected", [0, 1])
def test_asking_again_changes_nothing_whatever_was_read_meanwhile(ledger, expected):
    first = promote(ledger, 1, 0)

    assert promote(ledger, 1, expected) == first
    assert len(ledger.entries(kind="promoted")) == 1


def test_the_same_version_with_other_evidence_is_another_promotion(ledger):
    promote(ledger, 1, 0)

    with pytest.raises(Conflict):
        promote(ledger, 1, 0, evidence=7)


def test_a_version_may_come_back(ledger):
    promote(ledger, 1, 0), promote(ledger, 2, 1)

    assert promote(ledger, 1, 2).generation == 3


def test_champion_at_a_time_has_one_answer(ledger):
    champions = [promote(ledger, version, version - 1) for version in (1, 2, 3)]
    instant = timedelta(microseconds=1)

    assert ledger.champion("flights", champions[0].since - instant) is None
    for champion, following in zip(champions, champions[1:], strict=False):
        assert champion.since < following.since
        assert ledger.champion("flights", champion.since) == champion
        assert ledger.champion("flights", following.since - instant) == champion
    assert ledger.champion("flights", champions[2].since + timedelta(days=1)) == champions[2]


def test_a_moment_without_a_zone_is_refused(ledger):
    with pytest.raises(LedgerError, match="time zone"):
        ledger.champion("flights", datetime(2013, 5, 1))


def test_the_mirror_follows_a_champion_that_came_while_the_alias_was_set(ledger):
    # given: version 2 is promoted while the promoter of version 1 is on its way to the alias
    promote(ledger, 1, 0)
    alias: list[int] = []

    def set_alias(champion: Champion) -> None:
        if champion.version == 1:
            promote(ledger, 2, 1)
            alias.append(2)  # its own promoter sets the alias first
        alias.append(champion.version)

    # when
    shown = mirror(lambda: ledger.champion("flights"), set_alias)

    # then
    assert shown is not None and shown.version == 2
    assert alias == [2, 1, 2]


def test_there_is_nothing_to_mirror_without_a_champion(ledger):
    assert mirror(lambda: ledger.champion("flights"), lambda champion: pytest.fail("set")) is None
