"""Tasks of the training DAG."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from pydantic import ValidationError

from millrace.airflow.runtime import decided
from millrace.airflow.runtime.form import known_fields
from millrace.airflow.runtime.gate import require
from millrace.airflow.runtime.notes import note
from millrace.airflow.runtime.run import Done, JobTask, pack
from millrace.airflow.runtime.site import Site
from millrace.contract import Artifact, JobRequest
from millrace.core.errors import SpecError
from millrace.ledger import RetrainDecision, TrainingRun
from millrace.rules.labels import all_known
from millrace.spec import Duration
from millrace.spec.learner import LEARNERS
from millrace.spec.recipe import Recipe, listed, short

log = logging.getLogger(__name__)
Packed = dict[str, Any]


def claim(root: str, pipeline: str) -> dict[str, Any]:
    """Take up the decision (exit if a newer one superseded it); put on record what this run trains on, and for whom.

    The Snapshots are pinned here, so that a retry of any later task reads the same bytes although a Table moved on.
    All are of one recipe, or of recipes that the spec declares compatible, and each has passed its gate. What a
    decision asks for is read from the ledger, whatever the form says.
    """
    site, context = Site.at(root, pipeline), get_current_context()
    training = site.spec.training
    assert training is not None and site.spec.label is not None
    known_fields(site)
    params = context["params"]
    decision = _decision(site, params.get("decision"))
    if decision is not None and not site.ledger.start(decision.id, context["ti"].run_id):
        raise AirflowSkipException(note(f"Decision {decision.id} was superseded by a newer one; nothing is trained"))
    reason, message = _asked(site, params)
    published = site.tables.partitions(f"{pipeline}/features")
    if not published:
        missing = f"No partition of {pipeline} is published yet"
        if context["dag_run"].run_type == "scheduled":  # the clock asks from the first day on, before there is data
            raise AirflowSkipException(f"{missing}; nothing is trained")
        raise AirflowFailException(f"{missing}. Run the DAG {pipeline}__features for some partitions first")
    if decision is None and _plain(site, params):
        decision = _taken(site, reason, message, published[-1])
    until = _until(site, decision.partition if decision else params.get("until"), published)
    window = Duration(params.get("window") or str(training.window))
    partitions = [key for key in site.partitioning.window(until, window) if key in set(published)]
    if not partitions:
        raise AirflowFailException(f"No published partition lies in the {window} up to {until}")
    found = {key: site.tables.resolve(f"{pipeline}/features", key) for key in partitions}
    if refused := _stale(site, {key: current.recipe for key, current in found.items()}):
        raise AirflowFailException(refused)
    decided.passed(site, decided.features_of((key, current.snapshot) for key, current in found.items()))
    claimed = TrainingRun(
        pipeline=pipeline,
        run=decided.this_run(),
        requester=decided.requester(),
        decision=decision.id if decision else None,
        reason=decision.why if decision else f"{reason}: {message}",
        until=until,
        inputs=tuple((key, current.artifact) for key, current in found.items()),
        learner=_learner(site, params.get("learner") or {}),
        half_life=decision.half_life if decision else None,
        as_of=all_known(site.partitioning.end(until), site.spec.label.known_after).isoformat(),
    )
    site.ledger.record(claimed)
    log.info(
        "%s: trains on %s to %s (%d partitions), asked for by %s: %s",
        pipeline, partitions[0], until, len(partitions), claimed.requester or "no person", claimed.reason,
    )  # fmt: skip
    return {"until": until, "partitions": len(partitions), "decision": claimed.decision, "reason": claimed.reason}


@JobTask
def training_set(root: str, pipeline: str) -> JobRequest:
    """Join labels and features point in time, over the pinned Snapshots, each of which has passed its gate."""
    site = Site.at(root, pipeline)
    claimed = claimed_of(site)
    decided.passed(site, decided.features_of((key, features.digest) for key, features in claimed.inputs))
    return site.request(
        "build_training_set",
        scope=claimed.partitions,
        inputs=[("features", features, key) for key, features in claimed.inputs],
        params={"as_of": claimed.as_of},
        context=get_current_context(),
    )


@training_set.then
def _joined(done: Done, root: str, pipeline: str) -> Packed:
    log.info("%s: training set: %s", pipeline, done.outcome.facts)
    return pack(done.outcome.outputs["data"])


@JobTask
def train(root: str, pipeline: str) -> JobRequest:
    """Train the challenger; one MLflow run per attempt."""
    site = Site.at(root, pipeline)
    claimed = claimed_of(site)
    return site.request(
        "train",
        scope=claimed.partitions,
        inputs=[("training_set", training_set_of(site, claimed), None)],
        params={"learner": claimed.learner, "half_life": claimed.half_life},
        context=get_current_context(),
    )


@train.then
def _trained(done: Done, root: str, pipeline: str) -> dict[str, Any]:
    return {"model": pack(done.outcome.outputs["model"]), "mlflow_run": done.result.observed.mlflow_run}


@JobTask
def evaluate(root: str, pipeline: str) -> JobRequest:
    """Judge the challenger by the model checks, and against the champion on the same frozen rows. A fail ends the
    run."""
    site = Site.at(root, pipeline)
    claimed, champion = claimed_of(site), site.ledger.champion(pipeline)
    data = training_set_of(site, claimed)
    model = model_of(site, data)
    inputs: list[tuple[str, Artifact, str | None]] = [("training_set", data, None), ("model", model, None)]
    if champion is not None and champion.model_digest != model.digest:
        trained = champion.trained
        inputs += [("champion", trained.model, None), ("champion_training_set", trained.training_set, None)]
    return site.request("evaluate", scope=claimed.partitions, inputs=inputs, context=get_current_context())


@evaluate.then
def _judged(done: Done, root: str, pipeline: str) -> dict[str, Any]:
    outcome = done.outcome
    require(Site.at(root, pipeline), outcome, done.request.identity.scope[-1], "evaluation")
    return {"evaluation": pack(outcome.outputs["evaluation"]), "outcome": done.result.outcome_digest}


def settle(root: str, pipeline: str) -> str:
    """Write the end of the decision into the ledger, however the run went, so that the next one may start.

    Whether this run took the decision up, and whether it registered a version, is read from the ledger.
    """
    site, context = Site.at(root, pipeline), get_current_context()
    decision = next((d for d in site.ledger.retrains(pipeline) if d.run_id == context["ti"].run_id), None)
    if decision is None:
        return "no decision to settle"
    done = any(each.decision == decision.id for each in site.ledger.versions(pipeline))
    return f"decision {decision.id}: {site.ledger.finish(decision.id, 'done' if done else 'failed').state}"


def _stale(site: Site, recipes: dict[str, str | None]) -> str | None:
    """Why these partitions make no training set, None where they do."""
    recipe = Recipe.of(site.bundle)
    stale = [key for key, made_by in recipes.items() if not recipe.takes(made_by)]
    if not stale:
        return None
    others = sorted({short(recipes[key]) for key in stale})
    return (
        f"{len(stale)} of {len(recipes)} partitions hold features that another recipe made ({listed(stale)}): "
        f"{', '.join(others)}, now it is {short(recipe.digest)}. The SQL, the sources or the features of the spec have "
        f"changed since, so one model would learn from two meanings. Make them anew with 'millrace rebuild {site.name} "
        f"--from {stale[0]} --to {stale[-1]}' and clear this task; or, where both mean the same, add the earlier ones "
        f"to features.compatible in include/pipelines/{site.name}/pipeline.yaml"
    )


def claimed_of(site: Site) -> TrainingRun:
    """What this run took up, as its first task put it on record."""
    found = site.ledger.training_of(site.name, decided.this_run())
    if found is None:
        decided.deny(site, f"{site.name}: this run has claimed nothing to train on. Clear its task 'claim'")
    return found


def training_set_of(site: Site, claimed: TrainingRun) -> Artifact:
    """The training set that this run made of just what it claimed."""
    made = decided.done(site, "build_training_set")
    if made.took("features") != {key: features.digest for key, features in claimed.inputs}:
        decided.deny(site, f"{site.name}: 'training_set' was made of other Snapshots than this run claimed. Clear it")
    return made.outputs["data"]


def model_of(site: Site, data: Artifact) -> Artifact:
    """The model that this run trained on that training set."""
    made = decided.done(site, "train")
    if made.took("training_set") != {None: data.digest}:
        decided.deny(site, f"{site.name}: 'train' has trained on another training set than this run made. Clear it")
    return made.outputs["model"]


def _decision(site: Site, name: str | None) -> RetrainDecision | None:
    if not name:
        return None
    found = next((each for each in site.ledger.retrains(site.name) if each.id == name), None)
    if found is None:
        decided.deny(
            site, f"{site.name}: no decision {name} is on record. Leave 'decision' empty when you train by hand"
        )
    return found


def _asked(site: Site, params: Any) -> tuple[str, str]:
    """Why this run was asked for: by the clock, by another system that says who it is, or by a person."""
    if get_current_context()["dag_run"].run_type == "scheduled":
        training = site.spec.training
        return "schedule", f"by the clock ({training.schedule if training else None})"
    reason, source = str(params.get("reason") or ""), str(params.get("source") or "").strip()
    return ("external", f"{source}: {reason}") if source else ("manual", reason)


def _plain(site: Site, params: Any) -> bool:
    """Whether a run asks for the training that monitoring would ask for, so that one answers both; not for a window or
    a learner of its own, whose model is another one."""
    training = site.spec.training
    assert training is not None
    window = params.get("window") or str(training.window)
    return not params.get("until") and not params.get("learner") and window == str(training.window)


def _taken(site: Site, reason: str, message: str, newest: str) -> RetrainDecision:
    """The decision of a run that was asked for; the run ends where a training that began after it was asked for, while
    it waited for its turn, has answered it."""
    context = get_current_context()
    run_id, since = context["ti"].run_id, context["dag_run"].run_after
    decision = site.ledger.take(site.name, newest, reason, message, run_id=run_id, since=since)
    if decision is None:
        raise AirflowSkipException(
            note("A training that began after this one was asked for has answered it; nothing is trained. Its decision "
                 "names this reason too")
        )  # fmt: skip
    return decision


def _until(site: Site, given: str | None, published: list[str]) -> str:
    """The last partition of the window: the newest published one where none is given."""
    if not given:
        return published[-1]
    try:
        until = site.partitioning.check(str(given))
    except SpecError as err:
        raise AirflowFailException(f"Field 'until': {err}") from err
    if site.partitioning.start(until) > site.partitioning.start(published[-1]):
        raise AirflowFailException(
            f"Field 'until': {until} is not published yet; the last published partition is {published[-1]}. "
            f"Leave the field empty to train up to that one, or run {site.name}__features for {until} first"
        )
    return until


def _learner(site: Site, overrides: dict[str, Any]) -> dict[str, Any] | None:
    training = site.spec.training
    assert training is not None
    if not overrides:
        return None
    mine = training.learner.kind
    if (kind := overrides.get("kind", mine)) != mine:
        raise AirflowFailException(
            f"Field 'learner': this pipeline trains with '{mine}', and its parameters are not those of '{kind}'. "
            "Another learner is another spec: change training.learner in pipeline.yaml"
        )
    merged = {**training.learner.model_dump(mode="json"), **overrides}
    try:
        return LEARNERS.resolve(merged["kind"]).model_validate(merged).model_dump(mode="json")
    except ValidationError as err:
        first = err.errors()[0]
        allowed = ", ".join(sorted(type(training.learner).model_fields))
        raise AirflowFailException(
            f"Learner parameter {'.'.join(str(p) for p in first['loc'])}: {first['msg']} (allowed: {allowed})"
        ) from err
