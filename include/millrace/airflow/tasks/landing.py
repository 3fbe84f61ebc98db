"""The task that lands a source: the file of a partition as it came, and those before it that a lookback needs."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from millrace.airflow.runtime.form import known_fields
from millrace.airflow.runtime.notes import note
from millrace.airflow.runtime.retry import InfrastructureError, NotYet, may_retry
from millrace.airflow.runtime.run import pack, run_job
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks.partition import partition_of

log = logging.getLogger(__name__)
STATIC = "static"
"""The partition of a source that has none."""
Packed = dict[str, Any]


def land(source: str, root: str, pipeline: str) -> list[Packed]:
    """Land this partition of a source, and earlier ones that the lookback needs and nobody landed yet.

    Returns all raw Snapshots that the transform reads: {partition, artifact, fresh}; fresh ones go to the gate.
    """
    site = Site.at(root, pipeline)
    known_fields(site)
    spec, partition = site.spec.sources[source], partition_of(site)
    if not get_current_context()["dag_run"].partition_key:
        note(f"Partition {partition}, by the field of the form")  # the grid shows no key of such a run
    if not spec.partitioned:
        return [_land_one(site, source, STATIC, partition)]
    found: list[Packed] = []
    for key in site.partitioning.lookback(partition, spec.lookback, site.spec.partition.start):
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
    return {"partition": key, "artifact": pack(pointer.current.artifact), "fresh": False}


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
    if datetime.now(UTC) < missing.missing_after.after(site.partitioning.end(of)):
        raise NotYet(f"{result.error.message}. The partition ends or ended only just; trying again later")
    if missing.missing == "skip":
        raise AirflowSkipException(f"{result.error.message}. The pipeline says: skip a missing partition")
    raise AirflowFailException(result.error.message)
