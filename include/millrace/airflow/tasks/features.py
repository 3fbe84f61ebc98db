"""Tasks of the features DAG."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from millrace.airflow.runtime.assets import features_asset, scored_asset
from millrace.airflow.runtime.champion import champion_of
from millrace.airflow.runtime.gate import require
from millrace.airflow.runtime.retry import InfrastructureError, NotYet, may_retry
from millrace.airflow.runtime.run import Steps, outcome_of, pack, run_job, unpack
from millrace.airflow.runtime.site import Site
from millrace.contract import Artifact, JobResult, code_digest
from millrace.core.errors import SpecError
from millrace.ledger import GateVerdict
from millrace.spec.gate import gate_checks, references, trailing
from millrace.store import SnapshotStore

log = logging.getLogger(__name__)
STATIC = "static"
Packed = dict[str, Any]


def resolve_partition(root: str, pipeline: str) -> str:
    """The partition of this run: Airflow's partition key, or the form's `partition`. Fails at once without one."""
    site, context = Site.at(root, pipeline), get_current_context()
    spec = site.spec.partition
    key = context["dag_run"].partition_key or context["params"].get("partition")
    example = f'airflow dags trigger {context["ti"].dag_id} --conf \'{{"partition": "{spec.start}"}}\''
    if not key:
        raise AirflowFailException(
            f"This run does not say which {spec.grain} it is for. Trigger it with the field 'partition' "
            f"(for example: {example}), through REST with a partition_key, by backfill, or let the schedule run it."
        )
    try:
        site.cut.check(str(key))
    except SpecError as err:
        raise AirflowFailException(f"{err}. For example: {example}") from err
    if site.cut.start(key) < site.cut.start(spec.start) or (
        spec.end and site.cut.start(key) > site.cut.start(spec.end)
    ):
        raise AirflowFailException(
            f"Partition {key} lies outside the pipeline's {spec.start} to {spec.end or 'now'} "
            f"(partition.start and partition.end in include/pipelines/{pipeline}/pipeline.yaml)"
        )
    return str(key)


def land(partition: str, source: str, root: str, pipeline: str) -> list[Packed]:
    """Land this partition of a source, and earlier ones that the lookback needs and nobody landed yet.

    Returns all raw Snapshots that the transform reads: {partition, artifact, fresh}; fresh ones go to the gate.
    """
    site, spec = Site.at(root, pipeline), Site.at(root, pipeline).spec.sources[source]
    if not spec.partitioned:
        return [_land_one(site, source, STATIC, partition)]
    found: list[Packed] = []
    for key in site.cut.lookback(partition, spec.lookback, site.spec.partition.start):
        landed = _landed(site, source, key)
        if landed is None:
            log.info(
                "%s: earlier partition %s is needed for the lookback and was never landed; landing it", source, key
            )
        found.append(landed or _land_one(site, source, key, key))
    return [*found, _land_one(site, source, partition, partition)]


def _landed(site: Site, source: str, key: str) -> Packed | None:
    """What passed its gate earlier, if anything did."""
    pointer = site.tables.get(f"{site.name}/raw.{source}", key)
    if pointer is None:
        return None
    current = pointer.current
    artifact = Artifact(uri=current.uri, digest=current.snapshot, kind="snapshot", rows=current.rows)
    return {"partition": key, "artifact": pack(artifact), "fresh": False}


def _land_one(site: Site, source: str, key: str, of: str) -> Packed:
    request = site.request("land", scope=(key,), params={"source": source}, context=get_current_context())
    # What the source holds is no part of the request's identity, so an earlier result says nothing about it now.
    request = request.model_copy(update={"place": request.place.model_copy(update={"result": None})})
    result = run_job(request)
    if result.outcome is not None:
        return {"partition": key, "artifact": pack(result.outcome.outputs["data"]), "fresh": True}
    assert result.error is not None
    if result.error.type != "SourceMissing":
        if may_retry(result.error.retry):
            raise InfrastructureError(result.error.message)
        raise AirflowFailException(result.error.message)
    if get_current_context()["params"].get("rebuild") and (landed := _landed(site, source, key)):
        log.info("%s: %s has no file any more; its features are made anew from what was landed", source, key)
        return landed
    missing = site.spec.partition
    if datetime.now(UTC) < missing.missing_after.after(site.cut.end(of)):
        raise NotYet(f"{result.error.message}. The partition ends or ended only just; trying again later")
    if missing.missing == "skip":
        raise AirflowSkipException(f"{result.error.message}. The pipeline says: skip a missing partition")
    raise AirflowFailException(result.error.message)


def gate_raw(partition: str, source: str, landed: list[Packed], root: str, pipeline: str) -> list[Packed]:
    """Validate what was landed; then, and only then, move the raw Table's pointer, so that a lookback may read it."""
    site = Site.at(root, pipeline)
    spec = site.spec.sources[source]
    for item in landed:
        if not item["fresh"]:
            continue
        artifact = unpack(item["artifact"])
        params = {"suite": spec.gate, "event_time": spec.event_time if spec.partitioned else None}
        gated = _gate(site, f"raw.{source}", item["partition"], artifact, params)
        move(site, f"raw.{source}", item["partition"], artifact)
        item["gate"] = gated
    return landed


def transform(partition: str, sources: dict[str, list[Packed]], root: str, pipeline: str) -> Steps:
    """Run transform.sql over the raw Snapshots; returns the features Snapshot, and which request made it."""
    site = Site.at(root, pipeline)
    inputs = [
        (source, unpack(item["artifact"]), item["partition"]) for source in sorted(sources) for item in sources[source]
    ]
    request = site.request("transform", scope=(partition,), inputs=inputs, context=get_current_context())
    outcome, result = yield request
    return {**pack(outcome.outputs["data"]), "request": result.request_digest}


def gate_features(partition: str, features: Packed, root: str, pipeline: str) -> Packed:
    """Validate the features Snapshot, and record the verdict for the Evidence of models trained on it."""
    site = Site.at(root, pipeline)
    spec = site.spec.features
    artifact = unpack(features)
    digest = _gate(site, "features", partition, artifact, {"suite": spec.gate, "event_time": spec.event_time})
    site.ledger.record(
        GateVerdict(
            pipeline=pipeline,
            dataset="features",
            partition=partition,
            snapshot=artifact.digest,
            outcome=digest,
            passed=True,
        )
    )
    return features


def publish(partition: str, features: Packed, root: str, pipeline: str) -> Packed:
    """Move the features Table's pointer and emit the partitioned Asset."""
    site, context = Site.at(root, pipeline), get_current_context()
    move(site, "features", partition, unpack(features), recipe=_recipe(site, features))
    # A run made by hand has no partition key of its own; naming it here makes all four ways of starting alike.
    context["outlet_events"][features_asset(site)].add_partitions(partition)
    return features


def score(partition: str, features: Packed, root: str, pipeline: str) -> Steps:
    """Score the partition with the champion of record, before its labels are used; emits the scored Asset.

    Not in a rebuild: what was scored and judged when the partition came stays.
    """
    site, context = Site.at(root, pipeline), get_current_context()
    if context["params"].get("rebuild"):
        raise AirflowSkipException(f"{partition} is only made anew: neither scored nor monitored again")
    champion = champion_of(site)
    facts: dict[str, Any] = {"partition": partition, "version": None}
    if champion is None:
        log.info("%s partition %s: no champion yet, nothing scored", pipeline, partition)
    else:
        outcome, _ = yield (
            site.request(
                "score",
                scope=(partition,),
                inputs=[("features", unpack(features), partition), ("model", champion.trained.model, None)],
                params={"version": str(champion.version)},
                context=context,
            )
        )
        data = outcome.outputs["data"]
        move(site, "predictions", partition, data)
        facts = {"partition": partition, "version": champion.version, "rows": data.rows}
    context["outlet_events"][scored_asset(site)].add_partitions(partition)
    return facts


def move(site: Site, dataset: str, partition: str, data: Artifact, recipe: str | None = None) -> None:
    """Point the Table's partition at a Snapshot of this dataset; no move if it is there.

    What an XCom says of the Snapshot is not believed beyond its digest: the manifest says where it lies. Raises
    NotFound for one that the dataset does not have.
    """
    snapshot = SnapshotStore(site.objects).artifact(site.name, dataset, data.digest)
    code = code_digest() if recipe else None
    pointer, moved = site.tables.move(f"{site.name}/{dataset}", partition, snapshot, recipe=recipe, code=code)
    unchanged = "" if moved else " (unchanged)"
    log.info("%s %s %s: generation %s%s", site.name, dataset, partition, pointer.generation, unchanged)


def _recipe(site: Site, features: Packed) -> str | None:
    """What the transform said of the recipe when it made just this Snapshot: read from its stored result, of which the
    XCom says no more than where it lies. None for a run that began under an earlier version, which kept none."""
    request = str(features.get("request", "")).removeprefix("sha256:")
    if not request:
        return None
    result = JobResult.parse(site.objects.get(f"results/{site.name}/transform/{request}.json"))
    made = result.outcome
    if made is None or made.outputs["data"].digest != features["digest"]:
        raise AirflowFailException("The transform's result speaks of another Snapshot. Clear the task 'transform'")
    return made.facts.get("recipe")


def _gate(site: Site, dataset: str, partition: str, artifact: Artifact, params: dict[str, Any]) -> str:
    """Run validate, fail the task where the verdict is fail, and return the outcome's digest."""
    checks = gate_checks(site.bundle.suites[params["suite"]], params["suite"])
    request = site.request(
        "validate",
        scope=(partition,),
        inputs=[("data", artifact, partition), *_looked_at(site, dataset, partition, checks)],
        params=params,
        context=get_current_context(),
    )
    outcome, result = outcome_of(request)
    require(site, outcome, partition, dataset)
    return str(result.outcome_digest)


def _looked_at(site: Site, dataset: str, partition: str, checks: list[Any]) -> list[tuple[str, Artifact, str | None]]:
    """The published Snapshots that a suite's checks look at: trailing partitions, and other sources."""
    table = f"{site.name}/{dataset}"
    if partition == STATIC:
        keys = [STATIC] if trailing(checks) else []
    else:
        before = [key for key in site.tables.partitions(table) if site.cut.start(key) < site.cut.start(partition)]
        keys = sorted(before, key=site.cut.start)[len(before) - min(trailing(checks), len(before)) :]
    wanted = [("trailing", table, key) for key in keys]
    for source in references(checks):
        partitioned = site.spec.sources[source].partitioned
        wanted.append((f"reference.{source}", f"{site.name}/raw.{source}", partition if partitioned else STATIC))
    found: list[tuple[str, Artifact, str | None]] = []
    for role, name, key in wanted:
        pointer = site.tables.get(name, key)
        if pointer is not None:
            now = pointer.current
            found.append((role, Artifact(uri=now.uri, digest=now.snapshot, kind="snapshot", rows=now.rows), key))
    return found
