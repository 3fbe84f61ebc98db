"""The task that registers a challenger, with Evidence put together from what is on record of its run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from millrace.airflow.runtime import decided
from millrace.airflow.runtime.notes import note
from millrace.airflow.runtime.run import outcome_of, pack
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks.online import PARITY
from millrace.airflow.tasks.training import claimed_of, model_of, training_set_of
from millrace.contract import JobResult
from millrace.ledger import Registered, Source, TrainingRun, quarantine_words

log = logging.getLogger(__name__)


def register(root: str, pipeline: str) -> dict[str, Any]:
    """Register the challenger in MLflow with its Evidence, put together from what is on record of this run.

    A model of the same bytes as one that was registered against the same champion is nothing new: the run ends here.
    What this run has registered stays as it is, when a try was killed after it: Evidence put together again may say
    something else of costs and parity, and would be another version.
    """
    site = Site.at(root, pipeline)
    claimed = claimed_of(site)
    data = training_set_of(site, claimed)
    model = model_of(site, data)
    judged = decided.done(site, "evaluate")
    if judged.took("training_set") != {None: data.digest} or judged.took("model") != {None: model.digest}:
        decided.deny(site, f"{pipeline}: 'evaluate' judged another model than this run trained. Clear it")
    if judged.passed is not True:
        decided.deny(site, f"{pipeline}: the model of this run did not pass its evaluation; nothing is registered")
    fought = judged.took("champion").get(None)
    for mine in site.ledger.versions(pipeline):
        if (mine.run, mine.model.digest, mine.fought) == (claimed.run, model.digest, fought):
            log.info("This run has registered version %s already", mine.version)
            return {"version": mine.version, "evidence": mine.evidence.digest}
    if (known := _registered_before(site, model.digest, fought)) is not None:
        if claimed.decision:
            site.ledger.finish(claimed.decision, "done")  # it trained; that nothing changed is no failure
        raise AirflowSkipException(note(_nothing_new(site, known)))
    if (bad := site.ledger.quarantined(pipeline, model.digest)) is not None:
        if claimed.decision:
            site.ledger.finish(claimed.decision, "done")  # it trained; that the bytes are known is no failure
        raise AirflowSkipException(note(f"No version is registered: {quarantine_words(bad)}"))
    results = {
        job: decided.result(site, decided.done(site, job)) for job in ("build_training_set", "train", "evaluate")
    }
    run_of_model = results["train"].observed.mlflow_run
    outcome_of_judging = results["evaluate"].outcome
    assert outcome_of_judging is not None and outcome_of_judging.verdict is not None
    duel = outcome_of_judging.facts.get("duel")
    artifacts = {"model": model, "training_set": data, "evaluation": judged.outputs["evaluation"]}
    evidence = {
        "evidence_version": 3,
        "pipeline": pipeline,
        **{role: pack(artifact) for role, artifact in artifacts.items()},
        "evaluation_outcome": judged.outcome,
        "evaluation_passed": judged.passed,
        "spec_digest": site.bundle.digest,
        "code_digest": site.request("register", scope=()).identity.code_digest,
        "gates": _gates(site, claimed),
        "duel": {**duel, "champion": fought} if duel else None,
        "decision": claimed.decision or "manual",
        "reason": claimed.reason,
        "trained_to": claimed.until,
        "partitions": list(claimed.partitions),
        "feature_service": site.spec.features.service,
        "mlflow_run": run_of_model,
        "requester": claimed.requester,
        "decided": _decided(site, claimed),
        "parity": _parity(site, claimed),
        "training": _training(site, claimed, results),
        "metrics": {name: metric.model_dump(mode="json") for name, metric in outcome_of_judging.metrics.items()},
        "checks": [
            check.model_dump(mode="json", include={"name", "passed", "message"})
            for check in outcome_of_judging.verdict.checks
        ],
        "cost": [_cost(job, result) for job, result in results.items()],
        "imported": None,
    }
    outcome, _ = outcome_of(
        site.request(
            "register",
            scope=claimed.partitions,
            inputs=[(role, artifact, None) for role, artifact in artifacts.items()],
            params={"mlflow_run": run_of_model, "evidence": evidence},
            context=get_current_context(),
        )
    )
    version, stored = int(outcome.facts["version"]), outcome.outputs["evidence"]
    site.ledger.record(
        Registered(
            pipeline=pipeline,
            version=version,
            model=model,
            evidence=stored,
            decision=claimed.decision,
            run=claimed.run,
            requester=claimed.requester,
            fought=fought,
        )
    )
    return {"version": version, "evidence": stored.digest}


def _registered_before(site: Site, model: str, fought: str | None) -> Registered | None:
    """An earlier run's version of the same bytes that was judged against the same champion, or is champion."""
    champion = site.ledger.champion(site.name)
    for version in reversed(site.ledger.versions(site.name)):
        if version.model.digest != model or version.run == decided.this_run():
            continue
        if version.fought == fought or (champion is not None and champion.version == version.version):
            return version
    return None


def _nothing_new(site: Site, known: Registered) -> str:
    champion = site.ledger.champion(site.name)
    is_champion = champion is not None and champion.version == known.version
    then = "which is champion" if is_champion else f"to release that one, start {site.name}__release with it"
    return (
        f"Nothing new: the same data, spec and code gave the same bytes as version {known.version}, {then}. "
        "No version is registered"
    )


def _gates(site: Site, claimed: TrainingRun) -> list[dict[str, Any]]:
    """The verdicts behind a training: on the features, and on the raw Snapshots that those were made of."""
    features = decided.passed(site, decided.features_of((key, each.digest) for key, each in claimed.inputs))
    raw = decided.passed(site, list(dict.fromkeys(source for verdict in features for source in verdict.made_of or ())))
    found = sorted((*features, *raw), key=lambda verdict: (verdict.dataset, verdict.partition, verdict.snapshot))
    return [
        verdict.model_dump(mode="json", exclude={"pipeline"} if verdict.made_of else {"pipeline", "made_of"})
        for verdict in found
    ]


def _parity(site: Site, claimed: TrainingRun) -> list[dict[str, Any]]:
    """The newest verdicts on online against offline features, of the Snapshots that have one."""
    asked = [Source(dataset=PARITY, partition=key, snapshot=each.digest) for key, each in claimed.inputs]
    found = site.ledger.verdicts_on(site.name, asked)
    return [verdict.model_dump(mode="json", exclude={"pipeline", "made_of"}) for verdict in found.values()]


def _decided(site: Site, claimed: TrainingRun) -> dict[str, Any] | None:
    for each in site.ledger.retrains(site.name) if claimed.decision else ():
        if each.id == claimed.decision:
            return {"id": each.id, "partition": each.partition, "reason": each.reason, "words": each.why}
    return None


def _training(site: Site, claimed: TrainingRun, results: Mapping[str, JobResult]) -> dict[str, Any]:
    """All that a training of the same bytes needs beside the Snapshots, and where this one ran."""
    spec = site.spec.training
    assert spec is not None
    seen = results["train"].observed
    return {
        "learner": claimed.learner or spec.learner.model_dump(mode="json"),
        "half_life": claimed.half_life,
        "seed": spec.seed,
        "threads": spec.threads,
        "as_of": claimed.as_of,
        "training_set_outcome": results["build_training_set"].outcome_digest,
        "outcome": results["train"].outcome_digest,
        **{name: getattr(seen, name) for name in ("lock", "image", "architecture", "device")},
    }


def _cost(job: str, result: JobResult) -> dict[str, Any]:
    seen = result.observed
    return {"job": job, **{name: getattr(seen, name) for name in ("seconds", "cpu_seconds", "peak_memory_mb")}}
