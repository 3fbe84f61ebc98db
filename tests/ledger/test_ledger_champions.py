"""At any time a pipeline has at most one champion, and 'champion at T' has one answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support.ledger import asked, digest, evidence, promoted, said, trained, unanchored

from millrace.core.errors import Conflict, LedgerError
from millrace.ledger import Anchor, Champion, Ledger, mirror


def carry_out(ledger: Ledger, request: str, version: int, anchor: Anchor = unanchored) -> Champion:
    return ledger.promote("flights", request, evidence(version), trained(version), approval=False, anchor=anchor)


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
    assert [e.kind for e in ledger.entries()] == ["approval", "approval", "promoted", "approval", "anchored"] * 2


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
        ledger.promote("flights", request.id, evidence(2), trained(1), approval=False, anchor=unanchored)

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


class Killed(Exception):
    """Stands for the end of a process at this place."""


class Anchored(dict[tuple[str, int], str]):
    """Anchors that can be put once each, and in which a promotion can be killed, before the put or after it."""

    killed: str = ""

    def put(self, pipeline: str, number: int, entry_hash: str) -> None:
        if self.killed == "before":
            raise Killed
        if self.setdefault((pipeline, number), entry_hash) != entry_hash:
            raise LedgerError("another entry was anchored")
        if self.killed == "after":
            raise Killed


@pytest.mark.parametrize("killed", ["before", "after"])
@pytest.mark.parametrize("heals", ["the same again", "settle", "another promotion"])
def test_a_promotion_counts_when_it_is_anchored_whoever_was_killed_in_between(ledger, killed, heals):
    # given: a promotion that is killed around its anchor
    anchors = Anchored()
    first, second = promoted(ledger, 1, anchor=anchors.put), asked(ledger, 2)
    anchors.killed = killed
    with pytest.raises(Killed):
        carry_out(ledger, second.id, 2, anchors.put)
    begun = datetime.now(UTC)
    assert ledger.champion("flights") == first and ledger.champions("flights") == [first]

    # when
    anchors.killed = ""
    if heals == "the same again":
        assert carry_out(ledger, second.id, 2, anchors.put).version == 2
    elif heals == "settle":
        ledger.settle("flights", anchors.put)
    else:
        promoted(ledger, 3, anchor=anchors.put)

    # then: it counts from now on, once, and its entry is anchored
    ledger.settle("flights", anchors.put)
    champions = ledger.champions("flights")
    assert [c.version for c in champions][:2] == [1, 2] and champions[1].since > begun
    assert ledger.champion("flights", begun) == first
    assert {(e.pipeline, e.number): e.hash for e in ledger.entries(kind="promoted")} == anchors
    assert len(ledger.entries(kind="anchored")) == len(champions)
    assert ledger.verify({"flights": {number: value for (_, number), value in anchors.items()}})


def test_the_next_promotion_waits_for_an_anchor_that_cannot_be_put(ledger):
    anchors = Anchored()
    anchors.killed = "before"
    with pytest.raises(Killed):
        promoted(ledger, 1, anchor=anchors.put)
    with pytest.raises(Killed):
        promoted(ledger, 2, anchor=anchors.put)

    assert ledger.champion("flights") is None
    assert [e.body["version"] for e in ledger.entries(kind="promoted")] == [1]


def test_who_did_not_see_that_a_promotion_has_begun_loses(ledger, monkeypatch):
    late = asked(ledger, 1)
    ledger.answer("flights", late.id, said())
    anchors = Anchored()
    anchors.killed = "before"
    with pytest.raises(Killed):
        promoted(ledger, 2, anchor=anchors.put)
    monkeypatch.setattr(ledger, "settle", lambda pipeline, anchor: None)  # it began after this one had looked

    with pytest.raises(Conflict, match="version 2.*not the expected 0"):
        carry_out(ledger, late.id, 1)


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
