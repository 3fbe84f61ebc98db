"""The task that registers a challenger: what is nothing new, and what its Evidence is put together from."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from support.ledger import digest, promoted, verdict
from support.project import DAYS, PIPELINE, stored
from support.trainings import again, at, here, version

from millrace.airflow.tasks import registration
from millrace.ledger import Source


@pytest.mark.parametrize("by", ["a decision", "hand"])
@pytest.mark.parametrize("known", ["champion", "waiting"])
def test_the_same_bytes_as_a_known_version_are_nothing_new(site, known, by):
    # given: a version of a model, which is champion or was judged without one
    model = stored(site, "model", "m")
    site.ledger.record(version(1, None).model_copy(update={"model": model}))
    if known == "champion":
        promoted(site.ledger, 1, pipeline=PIPELINE, model=model)
    # when: a later run trains the same bytes, and passes its evaluation
    decision = site.ledger.claim(PIPELINE, DAYS[2], "drift").id if by == "a decision" else None
    again(site, model, decision)
    # then: it ends green, in words, and without a release that cannot succeed
    with at("register"), pytest.raises(AirflowSkipException, match="Nothing new: .* same bytes as version 1") as end:
        registration.register(**here(site))
    assert ("which is champion" if known == "champion" else "start orders__release with it") in str(end.value)
    assert [v.version for v in site.ledger.versions(PIPELINE)] == [1]
    assert [d.state for d in site.ledger.retrains(PIPELINE)] == ["done"]


def test_the_same_bytes_that_met_another_champion_are_a_version_of_their_own(site, monkeypatch):
    """Its Evidence holds another duel: the earlier one cannot be released any more."""
    model = stored(site, "model", "m")
    site.ledger.record(version(1, None).model_copy(update={"model": model}))
    promoted(site.ledger, 2, pipeline=PIPELINE, model=stored(site, "model", "champion"))
    again(site, model, None)
    sent: list[Any] = []
    monkeypatch.setattr(registration, "outcome_of", lambda request: sent.append(request) or sys.exit())
    with at("register"), pytest.raises(SystemExit):
        registration.register(**here(site))
    assert sent[0].identity.job == "register"


def test_what_a_killed_try_has_registered_stays_though_evidence_would_be_another_now(site, monkeypatch):
    # given: a run whose try was killed when its version was on record
    model = stored(site, "model", "m")
    again(site, model, None)
    registered = version(1, None).model_copy(update={"model": model, "run": f"{PIPELINE}__training/manual__1"})
    site.ledger.record(registered)
    # and a verdict on parity that came since
    first = site.tables.resolve(f"{PIPELINE}/features", DAYS[0]).snapshot
    site.ledger.record(verdict(pipeline=PIPELINE, dataset="parity", partition=DAYS[0], snapshot=first))
    monkeypatch.setattr(registration, "outcome_of", lambda request: pytest.fail("registered again"))
    # then
    with at("register"):
        assert registration.register(**here(site)) == {"version": 1, "evidence": registered.evidence.digest}


def test_evidence_is_put_together_from_what_is_on_record_with_the_raw_verdicts_behind_it(site, monkeypatch):
    raw = Source(dataset="raw.visits", partition=DAYS[0], snapshot=digest(7))
    site.ledger.record(verdict(7, pipeline=PIPELINE, dataset="raw.visits", partition=DAYS[0]))
    first = site.tables.resolve(f"{PIPELINE}/features", DAYS[0]).snapshot
    site.ledger.record(verdict(pipeline=PIPELINE, partition=DAYS[0], snapshot=first, made_of=(raw,)))
    again(site, stored(site, "model", "m"), None)
    sent: list[Any] = []
    monkeypatch.setattr(registration, "outcome_of", lambda request: sent.append(request) or sys.exit())
    with at("register"), pytest.raises(SystemExit):
        registration.register(**here(site))
    evidence = sent[0].identity.params["evidence"]
    assert [(g["dataset"], g["partition"]) for g in evidence["gates"]] == [
        *(("features", day) for day in DAYS[:3]), ("raw.visits", DAYS[0]),
    ]  # fmt: skip
    assert (evidence["mlflow_run"], evidence["trained_to"], evidence["reason"]) == ("r", DAYS[2], "manual: by hand")
    # and where a raw verdict behind it has become a fail, nothing is registered
    site.ledger.record(verdict(7, pipeline=PIPELINE, dataset="raw.visits", partition=DAYS[0], passed=False))
    with at("register"), pytest.raises(AirflowFailException, match=r"raw.visits of .* failed its gate"):
        registration.register(**here(site))


def test_the_bytes_of_a_model_in_quarantine_are_not_registered_again(site):
    # given: a version that was rolled back
    model = stored(site, "model", "m")
    site.ledger.record(version(1, None).model_copy(update={"model": model}))
    promoted(site.ledger, 1, pipeline=PIPELINE, model=model)
    site.ledger.roll_back(PIPELINE, 1, why="units met errors", by="server-1", how="guard", approval=False)
    # when: it is trained again for a decision, against another champion
    promoted(site.ledger, 2, pipeline=PIPELINE, model=stored(site, "model", "other"))
    decision = site.ledger.claim(PIPELINE, DAYS[2], "drift").id
    again(site, model, decision)

    with (
        at("register"),
        pytest.raises(AirflowSkipException, match="rolled back by server-1 and is in quarantine: units"),
    ):
        registration.register(**here(site))
    assert [v.version for v in site.ledger.versions(PIPELINE)] == [1]
    assert [d.state for d in site.ledger.retrains(PIPELINE)] == ["done"]
