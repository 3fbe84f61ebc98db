"""A project as `millrace init` and `millrace new` write it, and artifacts that stand for what its jobs would make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from millrace.airflow.runtime.site import Site
from millrace.cli.scaffold import init, new
from millrace.contract import Artifact
from millrace.spec import ProjectTree
from millrace.spec.recipe import Recipe
from millrace.store import SnapshotStore
from support.ledger import verdict

PIPELINE = "orders"
DAYS = tuple(f"2024-01-{day:02d}" for day in range(1, 21))
"""Partitions that the sample has data for."""


def sample(root: Path, pipeline: str = PIPELINE) -> Site:
    """A new project with one pipeline and its sample data."""
    init(root)
    new(ProjectTree(root), pipeline)
    return Site.at(str(root), pipeline)


def snapshot(site: Site, table: Any, dataset: str, partition: str) -> Artifact:
    """Write a table (Arrow) as a Snapshot of the pipeline."""
    return SnapshotStore(site.objects).write(table, pipeline=site.name, dataset=dataset, partition=partition)


def features(site: Site, partition: str, rows: int = 3, dataset: str = "features") -> Artifact:
    """A small features Snapshot, no two alike."""
    import pyarrow as pa

    moments = [site.partitioning.start(partition)] * rows
    table = pa.table(
        {
            "visit_id": [f"{partition}-{number}" for number in range(rows)],
            "event_timestamp": pa.array(moments, pa.timestamp("us", "UTC")),
            "region": ["north"] * rows,
            "ordered": [number % 2 for number in range(rows)],
        }
    )
    return snapshot(site, table, dataset, partition)


def publish(site: Site, partition: str, rows: int = 3) -> Artifact:
    """Publish a small features Snapshot as one that the pipeline's present recipe made, and that passed its gate."""
    made = features(site, partition, rows)
    site.ledger.record(verdict(pipeline=site.name, partition=partition, snapshot=made.digest))
    site.tables.move(f"{site.name}/features", partition, made, recipe=Recipe.of(site.bundle).digest)
    return made


def stored(site: Site, kind: str, text: str) -> Artifact:
    """An object in the store that stands for a model, an evaluation, a report."""
    from millrace.core.canonical import digest

    data = text.encode()
    key = f"{kind}s/{site.name}/{digest(data).removeprefix('sha256:')}/{kind}.json"
    site.objects.put(key, data)
    return Artifact(uri=key, digest=digest(data), kind=kind)
