"""Tasks of the features DAG that keep the online store: write what is due, and hold it against what is offline."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import get_current_context

from millrace.airflow.runtime.gate import require
from millrace.airflow.runtime.run import outcome_of, pack, unstored
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks.partition import partition_of
from millrace.contract import Artifact
from millrace.ledger import GateVerdict, MaterializedWindow

log = logging.getLogger(__name__)
PARITY = "parity"
"""What the ledger calls the dataset of a verdict on online against offline features."""
Packed = dict[str, Any]


def materialize(root: str, pipeline: str) -> Packed:
    """Write the partition's newest values to the online store, and those of other partitions that are due; then read
    sampled entities online and offline, and fail where they differ.

    Due is what passed its gate and is not online: a run that was killed in between, or a corrected partition. Each
    written Snapshot is kept in the ledger; the order does not matter, since no write goes back in time.
    """
    site = Site.at(root, pipeline)
    partition = partition_of(site)
    verdicts = site.ledger.verdicts(pipeline, "features")
    gated = {verdict.partition: verdict.snapshot for verdict in verdicts if verdict.passed}
    for due in site.ledger.stale(pipeline, "features", gated):
        if due != partition and site.tables.get(f"{pipeline}/features", due) is not None:
            log.info("%s partition %s is not online yet: materialized too", pipeline, due)
            _materialize(site, due)
    written = _materialize(site, partition)
    parity(site, partition, written)
    return pack(written)


def _materialize(site: Site, partition: str) -> Artifact:
    """Another run of the same partition may have published since: what the Table says now is what goes online."""
    table = f"{site.name}/features"
    pointer = site.tables.pointer(table, partition)
    artifact = pointer.current.artifact
    request = site.request(
        "materialize",
        scope=(partition,),
        inputs=[("data", artifact, partition)],
        params={"revision": pointer.generation},
        context=get_current_context(),
    )
    outcome, _ = outcome_of(unstored(request))
    site.ledger.record(
        MaterializedWindow(
            pipeline=site.name,
            view="features",
            partition=partition,
            snapshot=artifact.digest,
            rows=int(outcome.facts["rows"]),
        )
    )
    return artifact


def parity(site: Site, partition: str, artifact: Artifact) -> None:
    """Read sampled entities online and offline, and put on record whether they agree, for the Evidence of models
    trained on them. Raises AirflowFailException where they differ."""
    request = site.request(
        "parity", scope=(partition,), inputs=[("data", artifact, partition)], context=get_current_context()
    )
    outcome, ended = outcome_of(unstored(request))
    if outcome.verdict:
        site.ledger.record(
            GateVerdict(
                pipeline=site.name,
                dataset=PARITY,
                partition=partition,
                snapshot=artifact.digest,
                outcome=str(ended.outcome_digest),
                passed=outcome.verdict.passed,
            )
        )
    now = site.tables.resolve(f"{site.name}/features", partition)
    if outcome.verdict and not outcome.verdict.passed and now.snapshot != artifact.digest:
        log.info("%s partition %s was corrected meanwhile: its own run checks it", site.name, partition)
        return
    require(site, outcome, partition, "online features")
