"""`millrace embed`: fit an embedding on what is landed, and put it where people see that it changed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from millrace.contract import Identity, Input, JobRequest, Place, code_digest
from millrace.core.errors import MillraceError, NotFound, SpecError
from millrace.core.settings import Settings
from millrace.spec import ProjectTree


@dataclass(frozen=True)
class Made:
    """A fitted embedding: its file, digest, what it was fitted on, and whether it replaced another one."""

    path: Path
    digest: str
    rows: int
    partitions: tuple[str, ...]
    changed: bool


def fit(tree: ProjectTree, settings: Settings, pipeline: str, first: str | None, last: str | None) -> Made:
    """Run the job fit_embedding on the landed partitions from `first` to `last`, and write the file.

    Raises SpecError for a pipeline without an embedding, NotFound where nothing is landed.
    """
    from millrace.jobs.runner import run
    from millrace.store import Tables, bundles, open_store

    spec = tree.spec(pipeline)
    asked, partitioning = spec.features.embedding, spec.partitioning
    if asked is None:
        raise SpecError("the pipeline has no embedding (features.embedding)", given=pipeline)
    objects = open_store(settings.store)
    tables, table = Tables(objects), f"{pipeline}/raw.{asked.source}"
    start = partitioning.start
    begin, end = (start(partitioning.check(key)) if key else None for key in (first, last))
    keys = [
        key for key in tables.partitions(table)
        if not spec.sources[asked.source].partitioned
        or ((begin is None or start(key) >= begin) and (end is None or start(key) <= end))
    ]  # fmt: skip
    if not keys:
        raise NotFound(
            f"no partition of source '{asked.source}' is landed",
            given=f"{first or 'the first'} to {last or 'the last'}",
            allowed=tables.partitions(table),
            next_step=f"Run {pipeline}__features for the partitions to fit on; it stops before transform",
        )
    bundle = tree.bundle(pipeline)
    bundles.keep(objects, bundle)
    moved = [tables.resolve(table, key) for key in keys]
    identity = Identity(
        job="fit_embedding",
        inputs=tuple(
            Input(role=asked.source, kind="snapshot", digest=m.snapshot, partition=k)
            for k, m in zip(keys, moved, strict=True)
        ),
        scope=tuple(keys),
        spec_digest=bundle.digest,
        code_digest=code_digest(),
    )
    place = Place(store=settings.store, inputs={m.snapshot: m.uri for m in moved})
    result = run(JobRequest(identity=identity, place=place))
    if result.outcome is None:
        raise MillraceError(result.error.message if result.error else "the fit failed")
    artifact = result.outcome.outputs["embedding"]
    path = tree.folder(pipeline) / asked.file
    data, before = objects.get(artifact.uri), path.read_bytes() if path.is_file() else None
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    return Made(path, artifact.digest, result.outcome.facts["rows"], tuple(keys), before not in (None, data))
