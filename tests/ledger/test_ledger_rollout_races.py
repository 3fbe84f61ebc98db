"""Several processes begin, advance, abort and roll back at once: one decision each, and no plan names a bad version."""

from __future__ import annotations

from collections import Counter

import pytest
from support.ledger import digest
from support.ledger_cluster import together
from support.rollouts import PIPELINE, SERVING, STEPS, approved, arm, begun, promote, roll_back, serving, step, traffic

from millrace.core.errors import Conflict, LedgerError
from millrace.ledger import Ledger


def rolls_back(url, name, go):
    ledger = Ledger.open(url)
    go()
    return roll_back(ledger, 2, by=name).quarantined.by


def begins(url, name, go):
    ledger = Ledger.open(url)
    request = ledger.release_of(PIPELINE, f"release__v{name}")
    go()
    try:
        return ledger.begin_rollout(
            PIPELINE, request.id, arm(int(name)), serving=SERVING, shadow=1.0, steps=STEPS
        ).state
    except Conflict:
        return "lost"


def disturbs(url, name, go):
    """Whatever may come to a rollout at once."""
    ledger = Ledger.open(url)
    rollout = ledger.rollout(PIPELINE)
    go()
    try:
        match name.split("#")[0]:
            case "advance":
                step(ledger, rollout, 2)
            case "promote":
                promote(ledger, rollout)
            case "abort":
                ledger.steer(PIPELINE, "abort", by="ann", reason="no", rollout_id=rollout.id)
            case "pause":
                ledger.steer(PIPELINE, "pause", by="ann", reason="wait", rollout_id=rollout.id)
            case "stop":
                ledger.toggle(PIPELINE, by="ann", reason="x", stopped=True)
            case "roll back":
                roll_back(ledger, 2, by=name)
    except (Conflict, LedgerError) as err:
        return type(err).__name__
    return "done"


@pytest.mark.parametrize("champion", [True, False])
def test_eight_who_roll_back_make_one_decision(ledger, url, champion):
    serving(ledger, 1)
    rollout = begun(ledger, 2, steps=())
    if champion:
        promote(ledger, rollout)
    plans = len(ledger.entries(PIPELINE, "plan"))

    assert len(set(together(rolls_back, url, [f"server-{n}" for n in range(8)]))) == 1

    assert len(ledger.entries(PIPELINE, "quarantine")) == 1
    assert len(ledger.entries(PIPELINE, "plan")) == plans + 1
    assert traffic(ledger.plan(PIPELINE)) == ({1: 1.0}, None, None)
    asked = [e.event for e in ledger.entries(PIPELINE, "approval") if e.event.rollback and e.event.state == "approved"]
    assert len(asked) == champion


def test_of_rollouts_that_begin_at_once_one_is_open_and_its_version_alone_is_planned(ledger, url):
    serving(ledger, 1)
    names = [str(n) for n in range(2, 8)]
    for name in names:
        approved(ledger, int(name))

    answers = Counter(together(begins, url, names))

    states = Counter(e.state for e in {e.subject: e.event for e in ledger.entries(PIPELINE, "rollout")}.values())
    assert states["shadow"] == 1 and answers["shadow"] == states["shadow"] + states["superseded"]
    assert traffic(ledger.plan(PIPELINE)) == ({1: 1.0}, 7, None), "the newest one"
    generations = [e.event.generation for e in ledger.entries(PIPELINE, "plan")]
    assert generations == list(range(1, len(generations) + 1))


@pytest.mark.parametrize("round_", range(5))
def test_a_rollback_wins_over_whatever_comes_with_it(ledger, url, round_):
    serving(ledger, 1)
    step(ledger, begun(ledger, 2), 1)

    together(disturbs, url, ["roll back#1", "advance", "pause", "stop", "abort", "promote", "roll back#2", "advance#2"])
    try:
        roll_back(ledger, 2)
    except LedgerError:  # it was aborted before
        assert ledger.quarantined(PIPELINE, digest(2)) is None
    assert {each.version for each in ledger.plan(PIPELINE).versions} == {1}
    generations = [e.event.generation for e in ledger.entries(PIPELINE, "plan")]
    assert generations == list(range(1, len(generations) + 1))
    assert ledger.verify() == len(ledger.entries())
