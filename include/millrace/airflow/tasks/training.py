"""Tasks of the training DAG."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from pydantic import ValidationError

from millrace.airflow.runtime.gate import require
from millrace.airflow.runtime.run import Done, JobTask, outcome_of, pack, unpack
from millrace.airflow.runtime.site import Site
from millrace.contract import Artifact, JobRequest
from millrace.ledger import Registered
from millrace.rules.labels import all_known
from millrace.spec import Duration
from millrace.spec.learner import LEARNERS
from millrace.spec.recipe import Recipe, listed, short

log = logging.getLogger(__name__)
Packed = dict[str, Any]


def claim(root: str, pipeline: str) -> dict[str, Any]:
    """Take up the decision (exit if a newer one superseded it), and fix what this run trains on.

    The Snapshots are pinned here, so that a retry of any later task reads the same bytes although a Table moved on.
    All are of one recipe, or of recipes that the spec declares compatible.
    """
    site, context = Site.at(root, pipeline), get_current_context()
    params, training = context["params"], site.spec.training
    assert training is not None and site.spec.label is not None
    decision = params.get("decision")
    if decision and not site.ledger.start(decision, context["ti"].run_id):
        raise AirflowSkipException(f"Decision {decision} was superseded by a newer one; nothing is trained")
    published = site.tables.partitions(f"{pipeline}/features")
    if not published:
        missing = f"No partition of {pipeline} is published yet"
        if context["dag_run"].run_type == "scheduled":  # the clock asks from the first day on, before there is data
            raise AirflowSkipException(f"{missing}; nothing is trained")
        raise AirflowFailException(f"{missing}. Run the DAG {pipeline}__features for some partitions first")
    until = site.partitioning.check(params.get("until") or published[-1])
    window = Duration(params.get("window") or str(training.window))
    partitions = [key for key in site.partitioning.window(until, window) if key in set(published)]
    if not partitions:
        raise AirflowFailException(f"No published partition lies in the {window} up to {until}")
    found = {key: site.tables.resolve(f"{pipeline}/features", key) for key in partitions}
    if refused := _stale(site, {key: current.recipe for key, current in found.items()}):
        raise AirflowFailException(refused)
    pinned = [{"partition": key, "artifact": pack(current.artifact)} for key, current in found.items()]
    log.info(
        "%s: trains on %s to %s (%d partitions): %s", pipeline, partitions[0], until, len(partitions), params["reason"]
    )
    return {
        "decision": decision,
        "reason": params["reason"],
        "until": until,
        "inputs": pinned,
        "learner": _learner(site, params.get("learner") or {}),
        "as_of": all_known(site.partitioning.end(until), site.spec.label.known_after).isoformat(),
    }


@JobTask
def training_set(claimed: dict[str, Any], root: str, pipeline: str) -> JobRequest:
    """Join labels and features point in time, over the pinned Snapshots."""
    return Site.at(root, pipeline).request(
        "build_training_set",
        scope=_scope(claimed),
        inputs=[("features", unpack(i["artifact"]), i["partition"]) for i in claimed["inputs"]],
        params={"as_of": claimed["as_of"]},
        context=get_current_context(),
    )


@training_set.then
def _joined(done: Done, claimed: dict[str, Any], root: str, pipeline: str) -> Packed:
    log.info("%s: training set: %s", pipeline, done.outcome.facts)
    return pack(done.outcome.outputs["data"])


@JobTask
def train(claimed: dict[str, Any], data: Packed, root: str, pipeline: str) -> JobRequest:
    """Train the challenger; one MLflow run per attempt."""
    return Site.at(root, pipeline).request(
        "train",
        scope=_scope(claimed),
        inputs=[("training_set", unpack(data), None)],
        params={"learner": claimed["learner"]},
        context=get_current_context(),
    )


@train.then
def _trained(done: Done, claimed: dict[str, Any], data: Packed, root: str, pipeline: str) -> dict[str, Any]:
    return {"model": pack(done.outcome.outputs["model"]), "mlflow_run": done.result.observed.mlflow_run}


@JobTask
def evaluate(claimed: dict[str, Any], data: Packed, model: dict[str, Any], root: str, pipeline: str) -> JobRequest:
    """Judge the challenger by thresholds, and against the champion on the same frozen rows. A fail ends the run."""
    site = Site.at(root, pipeline)
    champion = site.ledger.champion(pipeline)
    inputs: list[tuple[str, Artifact, str | None]] = [
        ("training_set", unpack(data), None),
        ("model", unpack(model["model"]), None),
    ]
    if champion is not None and champion.model_digest != unpack(model["model"]).digest:
        inputs.append(("champion", champion.trained.model, None))
    return site.request("evaluate", scope=_scope(claimed), inputs=inputs, context=get_current_context())


@evaluate.then
def _judged(
    done: Done, claimed: dict[str, Any], data: Packed, model: dict[str, Any], root: str, pipeline: str
) -> dict[str, Any]:
    outcome = done.outcome
    require(Site.at(root, pipeline), outcome, claimed["until"], "evaluation")
    duel = outcome.facts.get("duel")
    return {
        "evaluation": pack(outcome.outputs["evaluation"]),
        "outcome": done.result.outcome_digest,
        "duel": {**duel, "champion": outcome.facts["champion"]} if duel else None,
    }


def register(
    claimed: dict[str, Any], data: Packed, model: dict[str, Any], judged: dict[str, Any], root: str, pipeline: str
) -> dict[str, Any]:
    """Register the challenger in MLflow with its Evidence."""
    site = Site.at(root, pipeline)
    spec = site.spec
    artifacts = {
        name: unpack(value)
        for name, value in {"model": model["model"], "training_set": data, "evaluation": judged["evaluation"]}.items()
    }
    evidence = {
        "pipeline": pipeline,
        **{role: pack(artifact) for role, artifact in artifacts.items()},
        "evaluation_outcome": judged["outcome"],
        "evaluation_passed": True,
        "spec_digest": site.bundle.digest,
        "code_digest": site.request("register", scope=()).identity.code_digest,
        "gates": [_gate_of(site, i["partition"], i["artifact"]["digest"]) for i in claimed["inputs"]],
        "duel": judged["duel"],
        "decision": claimed["decision"] or "manual",
        "reason": claimed["reason"],
        "trained_to": claimed["until"],
        "partitions": list(_scope(claimed)),
        "feature_service": spec.features.service,
        "mlflow_run": model["mlflow_run"],
    }
    outcome, _ = outcome_of(
        site.request(
            "register",
            scope=_scope(claimed),
            inputs=[(role, artifact, None) for role, artifact in artifacts.items()],
            params={"mlflow_run": model["mlflow_run"], "evidence": evidence},
            context=get_current_context(),
        )
    )
    version, stored = int(outcome.facts["version"]), outcome.outputs["evidence"]
    site.ledger.record(
        Registered(
            pipeline=pipeline,
            version=version,
            model=artifacts["model"],
            evidence=stored,
            decision=claimed["decision"],
        )
    )
    return {"version": version, "evidence": stored.digest}


def settle(root: str, pipeline: str) -> str:
    """Write the end of the decision into the ledger, however the run went, so that the next one may start.

    Whether this run took the decision up, and whether it registered a version, is read from the ledger.
    """
    site, context = Site.at(root, pipeline), get_current_context()
    name = context["params"].get("decision")
    decision = next((d for d in site.ledger.retrains(pipeline) if d.id == name), None)
    if decision is None or decision.run_id != context["ti"].run_id:
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


def _scope(claimed: dict[str, Any]) -> tuple[str, ...]:
    return tuple(item["partition"] for item in claimed["inputs"])


def _learner(site: Site, overrides: dict[str, Any]) -> dict[str, Any] | None:
    training = site.spec.training
    assert training is not None
    if not overrides:
        return None
    merged = {**training.learner.model_dump(mode="json"), **overrides}
    try:
        return LEARNERS.resolve(merged["kind"]).model_validate(merged).model_dump(mode="json")
    except ValidationError as err:
        first = err.errors()[0]
        allowed = ", ".join(sorted(type(training.learner).model_fields))
        raise AirflowFailException(
            f"Learner parameter {'.'.join(str(p) for p in first['loc'])}: {first['msg']} (allowed: {allowed})"
        ) from err


def _gate_of(site: Site, partition: str, snapshot: str) -> dict[str, Any]:
    """The recorded verdict on exactly this Snapshot. Raises AirflowFailException when there is none."""
    verdict = site.ledger.verdict(site.name, "features", partition, snapshot)
    if verdict is not None:
        return verdict.model_dump(mode="json", exclude={"pipeline"})
    raise AirflowFailException(
        f"The ledger has no passed gate for the features of {partition} ({snapshot[:19]}). "
        f"Run {site.name}__features for this partition again"
    )
