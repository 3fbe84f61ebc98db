"""At any time a pipeline has at most one champion, and 'champion at T' has one answer."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from support.ledger import asked, digest, evidence, promoted, said, trained

from millrace.core.errors import Conflict, LedgerError
from millrace.ledger import Champion, Ledger, mirror


def carry_out(ledger: Ledger, request: str, version: int, **changes: bool) -> Champion:
    return ledger.promote("flights", request, evidence(version), trained(version), **{"approval": False, **changes})


def test_nobody_is_champion_before_the_first_promotion(ledger):
    assert ledger.champion("flights") is None
    assert ledger.champions("flights") == []


def test_promotions_follow_one_another(ledger):
    first, second = promoted(ledger, 1), promoted(ledger, 2, trained_to="2013-05")

    assert (first.generation, second.generation) == (1, 2)
    assert ledger.champion("flights") == second
    assert ledger.champions("flights") == [first, second]
    assert (second.model_digest, second.evidence_digest) == (digest(2), digest(102))
    assert (second.trained.trained_to, second.reason) == ("2013-05", "a test")
    assert ledger.champion("trains") is None
    assert [e.kind for e in ledger.entries()] == ["approval", "approval", "promoted", "approval"] * 2


def test_pipelines_have_their_own_generations(ledger):
    promoted(ledger, 1), promoted(ledger, 2), promoted(ledger, 1, pipeline="trains")

    assert ledger.champion("trains").generation == 1


def test_who_comes_late_loses(ledger):
    promoted(ledger, 1)
    late = asked(ledger, 3)
    ledger.answer("flights", late.id, said())
    promoted(ledger, 4)

    with pytest.raises(Conflict, match=r"generation 2 .*version 4.*not the expected 1"):
        carry_out(ledger, late.id, 3)

    assert ledger.champion("flights").version == 4


def test_carrying_out_again_changes_nothing_whatever_happened_meanwhile(ledger):
    request = asked(ledger, 1)
    first = carry_out(ledger, request.id, 1)

    assert carry_out(ledger, request.id, 1) == first
    promoted(ledger, 2)
    assert carry_out(ledger, request.id, 1) == first
    assert [e.body["version"] for e in ledger.entries(kind="promoted")] == [1, 2]


def test_a_release_of_other_evidence_than_was_asked_is_refused(ledger):
    request = asked(ledger, 1)

    with pytest.raises(LedgerError, match="other Evidence"):
        ledger.promote("flights", request.id, evidence(2), trained(1), approval=False)

    assert ledger.champion("flights") is None


def test_the_present_champion_is_not_asked_again(ledger):
    promoted(ledger, 1)

    with pytest.raises(Conflict, match="version 1 is champion already"):
        asked(ledger, 1, run_id="another")


def test_a_version_comes_back_as_a_generation_of_its_own(ledger):
    first, _ = promoted(ledger, 1), promoted(ledger, 2)

    back = promoted(ledger, 1)

    assert (back.generation, back.version, back.trained) == (3, 1, first.trained)
    assert back.release != first.release


def test_champion_at_a_time_has_one_answer(ledger):
    champions = [promoted(ledger, version) for version in (1, 2, 3)]
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
    promoted(ledger, 1)
    alias: list[int] = []

    def set_alias(champion: Champion) -> None:
        if champion.version == 1:
            promoted(ledger, 2)
            alias.append(2)  # its own promoter sets the alias first
        alias.append(champion.version)

    # when
    shown = mirror(lambda: ledger.champion("flights"), set_alias)

    # then
    assert shown is not None and shown.version == 2
    assert alias == [2, 1, 2]


def test_there_is_nothing_to_mirror_without_a_champion(ledger):
    assert mirror(lambda: ledger.champion("flights"), lambda champion: pytest.fail("set")) is None
