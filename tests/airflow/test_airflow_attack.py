"""The product of what somebody can do who may edit runs: mark tasks as done, paste XComs, clear what comes after, start
runs with any conf. Whatever the mix, nothing ungated is published or scored, nothing unjudged is registered, and what
nobody approved is no champion. `test_loop_attack.py` does the named ones on a real Airflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain, combinations, product
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowSkipException, TaskAwaitingInput
from support.ledger import automatically, promoted, verdict
from support.project import DAYS, PIPELINE, features, snapshot, stored
from support.releases import House, said
from support.task import asked, running
from support.trainings import FORM, here

from millrace.airflow.runtime.run import pack
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import features as feature_tasks
from millrace.airflow.tasks import registration
from millrace.airflow.tasks import training as training_tasks
from millrace.contract import Check, Outcome, Verdict
from millrace.ledger import Source

DAY = DAYS[4]
GARBAGE: tuple[Any, ...] = (None, {}, {"visits": [{"partition": DAY}]})
REFUSED = (AirflowException, AirflowSkipException, TaskAwaitingInput)


def subsets(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(names, count) for count in range(len(names) + 1))


def tried(function: Callable[[], Any]) -> Any:
    """What a task returns, None where it refuses or cannot make anything of what it was given. A task that fails is no
    end: whoever attacks clears the next one."""
    try:
        return function()
    except REFUSED:
        return None
    except (TypeError, KeyError, ValueError, AttributeError):  # an XCom of another shape
        return None


def raw(site: Site, rows: int, passed: bool | None) -> Any:
    """A raw Snapshot with a verdict, or with none, as an XCom names it."""
    import pyarrow as pa

    made = snapshot(site, pa.table({"visit_id": [str(n) for n in range(rows)]}), "raw.visits", DAY)
    if passed is not None:
        site.ledger.record(
            verdict(pipeline=PIPELINE, dataset="raw.visits", partition=DAY, snapshot=made.digest, passed=passed)
        )
    return [{"partition": DAY, "artifact": pack(made), "fresh": True}]


MARKED = ("gate_raw", "transform", "gate_features", "publish")


def test_no_mix_of_marked_tasks_and_pasted_xcoms_publishes_or_scores_what_did_not_pass(site, monkeypatch):
    promoted(site.ledger, 3, pipeline=PIPELINE, model=stored(site, "model", "m"))
    data = {"passed": raw(site, 3, True), "failed": raw(site, 4, False), "unjudged": raw(site, 5, None)}
    other_day = [{**data["passed"][0], "partition": DAYS[3]}]
    pasted = [*({"visits": each} for each in (*data.values(), other_day)), *GARBAGE]

    def judge(site: Site, dataset: str, partition: str, artifact: Any, *_: Any, **more: Any) -> None:
        """As the gate would: only what is on record as passed passes."""
        asked = Source(dataset=dataset, partition=partition, snapshot=artifact.digest)
        found = site.ledger.verdicts_on(site.name, [asked])
        if not (asked in found and found[asked].passed):
            raise AirflowException("failed")

    monkeypatch.setattr(feature_tasks, "_gate", judge)
    number = 0
    for sources, marked in product(pasted, subsets(MARKED)):
        number += 1
        with running(run_id=f"attack {number}", partition_key=DAY):
            bad = features(site, DAY, rows=100 + number)

            def transform(sources: Any = sources, made: Any = bad) -> Any:
                work = asked(feature_tasks.transform, sources=sources, **here(site))
                return work.answered(Outcome(outputs={"data": made}))

            def score() -> Any:
                return asked(feature_tasks.score, **here(site)).answered(
                    Outcome(outputs={"data": features(site, DAY, dataset="predictions")})
                )

            steps: dict[str, Callable[[], Any]] = {
                "gate_raw": lambda sources=sources: feature_tasks.gate_raw(sources, **here(site)),
                "transform": transform,
                "gate_features": lambda: feature_tasks.gate_features(**here(site)),
                "publish": lambda: feature_tasks.publish(**here(site)),
                "score": score,
            }
            for name, step in steps.items():
                if name not in marked:
                    tried(step)
    # None of these features met a gate that passed them, so none of them is anywhere
    assert number == len(pasted) * 16
    assert site.tables.partitions(f"{PIPELINE}/features") == list(DAYS[:3])
    assert site.tables.partitions(f"{PIPELINE}/predictions") == []
    denied = [entry.event for entry in site.ledger.entries(PIPELINE, "denied")]
    assert {each.task for each in denied} == {"task"} and len(denied) > number / 2
    # and only what passed was ever transformed
    read = {
        d.digest for e in site.ledger.entries(PIPELINE, "job") if e.event.job == "transform" for d in e.event.inputs
    }
    assert read == {data["passed"][0]["artifact"]["digest"]}


@pytest.mark.parametrize("well", [True, False])
def test_no_mix_of_marked_tasks_registers_what_was_not_judged_to_pass(site, monkeypatch, well):
    registered: list[str] = []
    monkeypatch.setattr(registration, "outcome_of", lambda request: registered.append(request.run.run_id) or 1 / 0)
    judged = Verdict(passed=well, checks=(Check(name="log_loss", passed=well, message="so"),))
    names = ("claim", "training_set", "train", "evaluate")
    for number, marked in enumerate(subsets(names)):
        run = {"run_id": f"attack {number}", "params": FORM}
        with running(f"{PIPELINE}__training", **run):
            outputs = {
                "training_set": {"data": features(site, DAYS[0], rows=50 + number, dataset="training_set")},
                "train": {"model": stored(site, "model", f"{number} {well}")},
                "evaluate": {"evaluation": stored(site, "evaluation", f"{number}")},
            }

            def job(name: str, outputs: Any = outputs) -> Any:
                work = asked(getattr(training_tasks, name), **here(site))
                verdict = judged if name == "evaluate" else None
                return work.answered(Outcome(outputs=outputs[name], verdict=verdict), mlflow_run="r")

            for name in names:
                if name not in marked:
                    tried(lambda name=name: training_tasks.claim(**here(site)) if name == "claim" else job(name))
            try:
                tried(lambda: registration.register(**here(site)))
            except ZeroDivisionError:
                assert well and not marked, f"{marked} were marked as done, and a version is registered"
    assert registered == (["attack 0"] if well else [])


@pytest.mark.parametrize(
    "stands", ["nothing", "waiting", "rejected", "expired", "void", "refused", "approved by itself"]
)
def test_no_mix_of_marked_tasks_xcoms_and_confs_makes_a_champion_that_nobody_approved(guarded: House, stands):
    guarded.register(1), guarded.register(2)
    if stands != "nothing":
        guarded.open(1)
        request = guarded.ledger.release_of(PIPELINE, "release__v1")
    if stands == "rejected":
        tried(lambda: guarded.answer(1, approved=False))
    elif stands == "expired":
        guarded.ledger.look(PIPELINE, request.id, datetime.now(UTC) + timedelta(days=9))
    elif stands == "void":
        guarded.open(2)
    elif stands == "refused":
        guarded.ledger.refuse(PIPELINE, request.id, "no duel")
    elif stands == "approved by the environment":
        guarded.ledger.answer(PIPELINE, request.id, automatically())
    before = guarded.states().get(1)
    ceo = {"chosen_options": ["Approve"], "responded_by_user": {"id": "1", "name": "the-ceo"}}
    xcoms: tuple[Any, ...] = ({}, {"approve": ceo, "open": "fine"})
    versions = (1, 2, 99, "one")
    slices = (None, said(approved=True, by=None), said(approved=False, by=None))
    for number, (pasted, version, slice_, marked) in enumerate(product(xcoms, versions, slices, subsets(("open",)))):
        if stands == "void" and version == 2:
            continue
        # The cleared run itself, or another one by hand
        for run_id in ("release__v1", f"by hand {number}"):
            if "open" not in marked:
                tried(lambda v=version, r=run_id, p=pasted: guarded.open(v, run_id=r, xcoms=p, reason="mine"))
            tried(lambda r=run_id, s=slice_, p=pasted: guarded.approve(1, s, run_id=r, xcoms=p))
            tried(lambda v=version, r=run_id, p=pasted: guarded.promote(v, run_id=r, xcoms=p))
    assert guarded.champion() is None and guarded.alias == []
    if before is not None and before != "waiting":
        mine = guarded.ledger.release_of(PIPELINE, "release__v1")
        # What an environment approved by itself is refused where persons must
        assert mine is not None and mine.state == ("refused" if before == "approved" else before)
    assert guarded.ledger.entries(PIPELINE, "denied")
