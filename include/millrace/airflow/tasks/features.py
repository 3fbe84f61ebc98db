"""Tasks of the features DAG after landing: gates, transform, publish, score."""

from __future__ import annotations

import logging
from graphlib import TopologicalSorter
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from millrace.airflow.runtime import decided
from millrace.airflow.runtime.assets import features_asset, scored_asset
from millrace.airflow.runtime.champion import champion_of
from millrace.airflow.runtime.gate import require
from millrace.airflow.runtime.notes import note
from millrace.airflow.runtime.run import Done, JobTask, outcome_of, pack, unpack
from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.tell import tell
from millrace.airflow.tasks.landing import STATIC
from millrace.airflow.tasks.partition import partition_of
from millrace.contract import Artifact, JobRequest, code_digest
from millrace.ledger import GateVerdict, Source
from millrace.spec.gate import gate_checks, references, trailing
from millrace.store import SnapshotStore

log = logging.getLogger(__name__)
Packed = dict[str, Any]


def gate_raw(landed: dict[str, list[Packed]], root: str, pipeline: str) -> dict[str, list[Packed]]:
    """Validate what was landed of every source, and move the raw Tables of those that passed, so that a lookback may
    read them. One that fails hides no other: all are judged, and then the task fails for good with every verdict.

    A source whose checks look into another is judged after it, and not at all where that one failed.
    """
    site = Site.at(root, pipeline)
    failed: dict[str, str] = {}
    for source in _in_order(site):
        if unjudged := sorted(set(_looks_into(site, source)) & set(failed)):
            failed[source] = f"{site.name}, raw.{source}: not judged, since its checks look into {', '.join(unjudged)}"
            continue
        try:
            _gate_source(site, source, landed[source])
        except AirflowFailException as err:
            failed[source] = str(err)
            log.error("%s", err)
    if failed:
        raise AirflowFailException("\n".join(failed.values()))
    return landed


def _gate_source(site: Site, source: str, landed: list[Packed]) -> None:
    """Judge what was landed now, and what stands in the Table without a verdict on record."""
    spec, dataset = site.spec.sources[source], f"raw.{source}"
    params = {"suite": spec.gate, "event_time": spec.event_time if spec.partitioned else None}
    for item in landed:
        artifact, partition = unpack(item["artifact"]), item["partition"]
        raw = Source(dataset=dataset, partition=partition, snapshot=artifact.digest)
        if item["fresh"] or not site.ledger.verdicts_on(site.name, [raw]):
            _gate(site, dataset, partition, artifact, params)
            move(site, dataset, partition, artifact)


def _in_order(site: Site) -> list[str]:
    """The sources, each after those that its checks look into."""
    return list(TopologicalSorter({name: _looks_into(site, name) for name in site.spec.sources}).static_order())


def _looks_into(site: Site, source: str) -> list[str]:
    suite = site.spec.sources[source].gate
    return sorted(set(references(gate_checks(site.bundle.suites[suite], suite))) - {source})


@JobTask
def transform(sources: dict[str, list[Packed]], root: str, pipeline: str) -> JobRequest:
    """Run transform.sql over the raw Snapshots, each of which the ledger says has passed its gate."""
    site = Site.at(root, pipeline)
    partition = partition_of(site)
    inputs: list[tuple[str, Artifact, str | None]] = [
        (source, unpack(item["artifact"]), str(item["partition"]))
        for source in sorted(sources)
        for item in sources[source]
    ]
    given, wanted = sorted((source, str(key)) for source, _, key in inputs), _wanted(site, partition)
    if given != wanted:
        decided.deny(
            site, f"{pipeline}: the transform of {partition} was given {given}, but reads {wanted}. Clear 'gate_raw'"
        )
    raw = [Source(dataset=f"raw.{name}", partition=str(key), snapshot=each.digest) for name, each, key in inputs]
    decided.passed(site, raw)
    return site.request("transform", scope=(partition,), inputs=inputs, context=get_current_context())


def _wanted(site: Site, partition: str) -> list[tuple[str, str]]:
    """Source and partition of every raw Snapshot that the transform of a partition reads, sorted."""
    found = []
    for name, source in site.spec.sources.items():
        if not source.partitioned:
            found.append((name, STATIC))
            continue
        before = site.partitioning.lookback(partition, source.lookback, site.spec.partition.start)
        found += [(name, key) for key in (*before, partition)]
    return sorted(found)


@transform.then
def _transformed(done: Done, sources: dict[str, list[Packed]], root: str, pipeline: str) -> Packed:
    return pack(done.outcome.outputs["data"])


def gate_features(root: str, pipeline: str) -> str:
    """Validate the features Snapshot that this run's transform made; the verdict is on record with what it is made of,
    for the Evidence of models trained on it."""
    site = Site.at(root, pipeline)
    spec, made = site.spec.features, decided.done(site, "transform")
    artifact = made.outputs["data"]
    made_of = tuple(
        Source(dataset=f"raw.{each.role}", partition=str(each.partition), snapshot=each.digest) for each in made.inputs
    )
    params = {"suite": spec.gate, "event_time": spec.event_time}
    _gate(site, "features", partition_of(site), artifact, params, made_of=made_of)
    return artifact.digest


def publish(root: str, pipeline: str) -> Packed:
    """Move the features Table's pointer to what passed its gate, and emit the partitioned Asset."""
    site, context = Site.at(root, pipeline), get_current_context()
    partition, made = partition_of(site), decided.done(site, "transform")
    features = made.outputs["data"]
    decided.passed(site, decided.features_of([(partition, features.digest)]))
    outcome = decided.result(site, made).outcome
    assert outcome is not None
    move(site, "features", partition, features, recipe=outcome.facts.get("recipe"))
    # A run made by hand has no partition key of its own; naming it here makes all four ways of starting alike.
    context["outlet_events"][features_asset(site)].add_partitions(partition)
    return pack(features)


@JobTask
def score(root: str, pipeline: str) -> JobRequest | None:
    """Score the partition with the champion of record, before its labels are used; emits the scored Asset.

    Not in a rebuild: what was scored and judged when the partition came stays.
    """
    site, context = Site.at(root, pipeline), get_current_context()
    partition = partition_of(site)
    if context["params"].get("rebuild"):
        raise AirflowSkipException(f"{partition} is only made anew: neither scored nor monitored again")
    champion = champion_of(site)
    if champion is None:
        log.info("%s partition %s: no champion yet, nothing scored", pipeline, partition)
        return None
    features = decided.done(site, "transform").outputs["data"]
    decided.passed(site, decided.features_of([(partition, features.digest)]))
    return site.request(
        "score",
        scope=(partition,),
        inputs=[("features", features, partition), ("model", champion.trained.model, None)],
        params={"version": str(champion.version)},
        context=context,
    )


@score.then
def _scored(done: Done | None, root: str, pipeline: str) -> dict[str, Any]:
    site = Site.at(root, pipeline)
    partition = partition_of(site)
    facts: dict[str, Any] = {"partition": partition, "version": None}
    if done is not None:
        data, version = done.outcome.outputs["data"], int(done.request.identity.params["version"])
        keep_predictions(site, partition, version, data)
        facts |= {"version": version, "rows": data.rows}
    get_current_context()["outlet_events"][scored_asset(site)].add_partitions(partition)
    return facts


def keep_predictions(site: Site, partition: str, version: int, data: Artifact) -> None:
    """Keep what a version predicted for a partition in a Table of its own; the Table `predictions` takes it only where
    it has none yet: what was predicted first, before outcomes were known, is what performance is measured on."""
    move(site, "predictions", partition, data, table=f"predictions.v{version}")
    first = site.tables.get(f"{site.name}/predictions", partition)
    if first is None:
        move(site, "predictions", partition, data)
    elif first.current.snapshot != data.digest:
        log.info(
            "%s %s: scored before; version %s's predictions are kept beside those made first",
            site.name, partition, version,
        )  # fmt: skip


def move(
    site: Site, dataset: str, partition: str, data: Artifact, *, recipe: str | None = None, table: str | None = None
) -> None:
    """Point a Table's partition at a Snapshot of this dataset, whose name the Table has; no move if it is there.

    What is said of the Snapshot is not believed beyond its digest: the manifest says where it lies. Raises
    NotFound for one that the dataset does not have.
    """
    snapshot = SnapshotStore(site.objects).artifact(site.name, dataset, data.digest)
    code, name = code_digest() if recipe else None, f"{site.name}/{table or dataset}"
    pointer, moved = site.tables.move(name, partition, snapshot, recipe=recipe, code=code)
    unchanged = "" if moved else " (unchanged)"
    log.info("%s %s: generation %s%s", name.replace("/", " "), partition, pointer.generation, unchanged)


def _gate(
    site: Site,
    dataset: str,
    partition: str,
    artifact: Artifact,
    params: dict[str, Any],
    made_of: tuple[Source, ...] | None = None,
) -> None:
    """Run validate, put its verdict on record whatever it is, and fail the task where it is fail."""
    checks = gate_checks(site.bundle.suites[params["suite"]], params["suite"])
    request = site.request(
        "validate",
        scope=(partition,),
        inputs=[("data", artifact, partition), *_looked_at(site, dataset, partition, checks)],
        params=params,
        context=get_current_context(),
    )
    outcome, ended = outcome_of(request)
    site.ledger.record(
        GateVerdict(
            pipeline=site.name,
            dataset=dataset,
            partition=partition,
            snapshot=artifact.digest,
            outcome=str(ended.outcome_digest),
            passed=outcome.verdict is not None and outcome.verdict.passed,
            made_of=made_of,
        )
    )
    try:
        require(site, outcome, partition, dataset)
    except AirflowFailException as err:
        note(str(err).splitlines()[0])
        tell(site, "failed_gate", f"{site.name} {partition}: {dataset} failed its gate", str(err))
        raise


def _looked_at(site: Site, dataset: str, partition: str, checks: list[Any]) -> list[tuple[str, Artifact, str | None]]:
    """The published Snapshots that a suite's checks look at: trailing partitions, and other sources."""
    table = f"{site.name}/{dataset}"
    if partition == STATIC:
        keys = [STATIC] if trailing(checks) else []
    else:
        before = [
            key
            for key in site.tables.partitions(table)
            if site.partitioning.start(key) < site.partitioning.start(partition)
        ]
        keys = sorted(before, key=site.partitioning.start)[len(before) - min(trailing(checks), len(before)) :]
    wanted = [("trailing", table, key) for key in keys]
    for source in references(checks):
        partitioned = site.spec.sources[source].partitioned
        wanted.append((f"reference.{source}", f"{site.name}/raw.{source}", partition if partitioned else STATIC))
    found: list[tuple[str, Artifact, str | None]] = []
    for role, name, key in wanted:
        pointer = site.tables.get(name, key)
        if pointer is not None:
            found.append((role, pointer.current.artifact, key))
    return found
