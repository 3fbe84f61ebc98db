"""land: take a source's partition as it came, and write the raw Snapshot."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from millrace.contract import Classification, Outcome
from millrace.core.canonical import file_digest
from millrace.core.errors import ContractError
from millrace.jobs.work import STATIC, Work
from millrace.sources.formats.tabular import header, read
from millrace.sources.protocol import engine_of, fill
from millrace.sources.unpack import unpack
from millrace.spec import PipelineSpec

STRICT: tuple[Classification, ...] = ("public", "internal", "personal")


class Params(BaseModel):
    """Which source of the pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str


def run(work: Work, params: Params) -> Outcome:
    """Fetch, digest, read and store one partition of a source. Nothing is written unless all of it could be read.

    Raises SourceMissing when there is no file (yet), DataError for a broken one.
    """
    spec, key = work.spec, work.partition
    if params.source not in spec.sources:
        raise ContractError("the pipeline has no such source", given=params.source, allowed=sorted(spec.sources))
    source = spec.sources[params.source]
    if source.partitioned == (key == STATIC):
        raise ContractError(
            f"source '{params.source}' is {'partitioned' if source.partitioned else 'static'}", given=key
        )
    locations = work.request.means.locations
    if params.source not in locations:
        raise ContractError("the request does not say where the source lies", given=params.source, allowed=locations)
    location = fill(locations[params.source], spec.partitioning, key if source.partitioned else None)
    with tempfile.TemporaryDirectory(prefix="millrace-land-") as folder:
        delivered = engine_of(source).fetch(location, Path(folder))
        if delivered.parent != Path(folder):
            raise ContractError(f"the engine of source kind '{source.kind}' made no copy in the folder it was given")
        digest, name = file_digest(delivered), delivered.name
        plain = unpack(delivered, source.compression)
        table = read(
            plain,
            name,
            source.format,
            source.columns,
            source.types,
            lambda column: spec.classification(column) == "public",
            source.csv,
            source.timezone,
        )
        extra = sorted(set(header(plain, name, source.format, source.csv, source.columns)) - {*source.columns, ""})
    snapshot = work.snapshots.write(
        table, pipeline=spec.name, dataset=f"raw.{params.source}", partition=key,
        classification=strictest(spec, source.columns), source=digest,
    )  # fmt: skip
    return Outcome(
        outputs={"data": snapshot},
        facts={"rows": table.num_rows, "file": name, "source": digest, "ignored_columns": extra},
    )


def strictest(spec: PipelineSpec, columns: tuple[str, ...] | list[str]) -> Classification:
    """The strictest classification among the columns."""
    return max((spec.classification(c) for c in columns), key=STRICT.index)
