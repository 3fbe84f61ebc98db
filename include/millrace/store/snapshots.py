"""Snapshots: immutable, content-addressed data of one partition. The manifest, written last, makes it exist."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.contract import Artifact, Classification
from millrace.core.canonical import canonical_json, digest, file_digest
from millrace.core.errors import Conflict, Corrupt, DataError, NotFound
from millrace.store import layout
from millrace.store.interface import Object, ObjectStore
from millrace.store.layout import DATA, MANIFEST, SNAPSHOTS, TOMBSTONE

if TYPE_CHECKING:
    import pyarrow as pa


class Manifest(BaseModel):
    """What a Snapshot is. The digest of this document is the Snapshot's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline: str
    dataset: str = Field(description="Which Table it belongs to: raw.<source>, features, predictions ...")
    partition: str
    rows: int
    columns: dict[str, str] = Field(description="Column -> Arrow type, in order.")
    data: str = Field(description="Digest of data.parquet.")
    classification: Classification = "internal"
    source: str | None = Field(
        default=None, description="Digest of the bytes it was landed from; of features that of their embedding."
    )

    @property
    def digest(self) -> str:
        """The Snapshot's identity."""
        return digest(self)


class Tombstone(BaseModel):
    """What is left of an erased Snapshot beside its manifest: why its bytes are gone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot: str
    reason: str


class SnapshotStore:
    """Writes, reads, verifies, erases and collects Snapshots in an ObjectStore."""

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects

    def prefix(self, pipeline: str, dataset: str, snapshot: str) -> str:
        """Key prefix of a Snapshot."""
        return layout.snapshot(pipeline, dataset, snapshot)

    def write(
        self,
        table: pa.Table,
        *,
        pipeline: str,
        dataset: str,
        partition: str,
        classification: Classification = "internal",
        source: str | None = None,
    ) -> Artifact:
        """Store a table as a Snapshot and return its Artifact; the same content twice is one Snapshot.

        Timestamps are stored in microseconds, which every reader of this stack understands. Raises DataError where the
        same content was erased: it does not come back.
        """
        with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
            path = Path(folder) / DATA
            write_parquet(table, path)
            manifest = Manifest(
                pipeline=pipeline,
                dataset=dataset,
                partition=partition,
                rows=table.num_rows,
                columns=_columns(path),
                data=file_digest(path),
                classification=classification,
                source=source,
            )
            prefix = self.prefix(pipeline, dataset, manifest.digest)
            if (erased := self.tombstone(prefix)) is not None:
                raise DataError(f"just these rows were erased: {erased.reason}", given=f"{dataset} of {partition}",
                                next_step="Take the rows that had to go out of the source")  # fmt: skip
            if not self.objects.exists(prefix + MANIFEST):
                self.objects.put_file(prefix + DATA, path)
                try:
                    self.objects.put_if(prefix + MANIFEST, canonical_json(manifest), None)
                except Conflict:
                    pass  # an equal writer was faster; the bytes are the same
                if not self.objects.exists(prefix + DATA):
                    # A collector took an earlier writer's old leftover, at which it looked before, for this one.
                    self.objects.put_file(prefix + DATA, path)
        return self._artifact(manifest)

    def manifest(self, pipeline: str, dataset: str, snapshot: str) -> Manifest:
        """Read a manifest. Raises NotFound for a Snapshot that was never finished, Corrupt for a changed one."""
        return self._manifest(self.prefix(pipeline, dataset, snapshot), snapshot)

    def manifest_of(self, prefix: str, snapshot: str) -> Manifest:
        """The manifest of the Snapshot under a key prefix; raises as `manifest` does."""
        return self._manifest(prefix, snapshot)

    def artifact(self, pipeline: str, dataset: str, snapshot: str) -> Artifact:
        """The Artifact of a stored Snapshot."""
        return self._artifact(self.manifest(pipeline, dataset, snapshot))

    def path(self, prefix: str, snapshot: str, verify: bool = True) -> Path:
        """Local file with the data of the Snapshot under `prefix`, verified against its digest. Raises Corrupt."""
        manifest = self._manifest(prefix, snapshot)
        if (erased := self.tombstone(prefix)) is not None:
            what = f"{manifest.dataset} of {manifest.partition}"
            raise NotFound(f"this Snapshot was erased: {erased.reason}", given=what,
                           next_step="Land the partition again, without what had to go")  # fmt: skip
        path = self.objects.fetch(prefix + DATA)
        if verify and file_digest(path) != manifest.data:
            raise Corrupt(
                "the Snapshot's bytes do not have its digest",
                where=self.objects.url(prefix + DATA),
                given=snapshot,
                next_step="Restore the object, or land the partition again after deleting the folder",
            )
        return path

    def read(self, prefix: str, snapshot: str, columns: list[str] | None = None) -> pa.Table:
        """Read a Snapshot into Arrow, verified."""
        import pyarrow.parquet as pq

        return pq.read_table(self.path(prefix, snapshot), columns=columns)

    def tombstone(self, prefix: str) -> Tombstone | None:
        """Why the Snapshot under a key prefix was erased, None where it was not."""
        try:
            return Tombstone.model_validate_json(self.objects.get(prefix + TOMBSTONE))
        except NotFound:
            return None

    def erase(self, prefix: str, snapshot: str, reason: str) -> None:
        """Take a Snapshot's bytes away for good; its manifest, which holds no value of a row, and the reason stay.

        The reason comes first, so that nobody writes the bytes again in between. Again, it changes nothing.
        """
        self._manifest(prefix, snapshot)
        try:
            said = Tombstone(snapshot=snapshot, reason=reason)
            self.objects.put_if(prefix + TOMBSTONE, canonical_json(said), None)
        except Conflict:
            pass  # erased before: the first reason stands
        self.objects.delete(prefix + DATA)

    def all(self, pipeline: str, dataset: str | None = None) -> list[tuple[str, Manifest]]:
        """Key prefix and manifest of every Snapshot of a pipeline, or of one dataset of it, erased ones too."""
        found = []
        for item in self.objects.list(f"{SNAPSHOTS}{pipeline}/" + (f"{dataset}/" if dataset else "")):
            if item.key.endswith("/" + MANIFEST):
                prefix = item.key.removesuffix(MANIFEST)
                found.append((prefix, self._manifest(prefix, "sha256:" + prefix.rstrip("/").rpartition("/")[2])))
        return found

    def collect(self, older_than: timedelta = timedelta(days=1)) -> list[str]:
        """Remove leftovers of killed writers: data without a manifest, older than the limit. Returns the keys."""
        limit = datetime.now(UTC) - older_than
        left = []
        for item in _unfinished(self.objects.list(SNAPSHOTS), limit):
            # Looked at again just before: a writer of the same content may have come back.
            if item in _unfinished(self.objects.list(item.key.rpartition("/")[0] + "/"), limit):
                self.objects.delete(item.key)
                left.append(item.key)
        temporary: Any = getattr(self.objects, "collect_temporary", None)
        if temporary:
            temporary(older_than.total_seconds())
        return left

    def _manifest(self, prefix: str, snapshot: str) -> Manifest:
        key = prefix + MANIFEST
        try:
            found = Manifest.model_validate_json(self.objects.get(key))
        except NotFound as err:
            raise NotFound("no such Snapshot (no manifest)", where=self.objects.root, given=prefix) from err
        except ValidationError as err:
            raise Corrupt("the manifest cannot be read", where=self.objects.url(key), given=snapshot) from err
        if found.digest != snapshot:
            raise Corrupt("the manifest is not the one its name says", where=self.objects.url(key), given=found.digest)
        return found

    def _artifact(self, manifest: Manifest) -> Artifact:
        prefix = self.prefix(manifest.pipeline, manifest.dataset, manifest.digest)
        return layout.snapshot_artifact(
            prefix, manifest.digest, rows=manifest.rows, classification=manifest.classification
        )


def concat(tables: Iterable[pa.Table]) -> pa.Table:
    """The rows of several Snapshots in one table: the wider type where numbers differ, null where one lacks a column.

    Raises DataError for a column whose types have nothing in common.
    """
    import pyarrow as pa

    try:
        return pa.concat_tables(list(tables), promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as err:
        raise DataError(
            f"the rows of these partitions do not fit together: {err}",
            next_step="Were they made by different transforms? Make the older ones anew",
        ) from err


def _unfinished(listed: Iterable[Object], limit: datetime) -> list[Object]:
    """Objects older than `limit` in folders without a manifest."""
    found = list(listed)
    finished = {o.key.rpartition("/")[0] for o in found if o.key.endswith("/" + MANIFEST)}
    return [o for o in found if o.key.rpartition("/")[0] not in finished and o.changed < limit]


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write Parquet whose bytes depend on the table alone: one row-group size, microseconds, no pandas metadata.

    Columns that hold floats have no statistics: those of Parquet leave NaN out, and readers, DuckDB among them, trust
    them and answer as if there were none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = []
    for field in table.schema:
        kind = field.type
        if pa.types.is_timestamp(kind) and kind.unit != "us":
            kind = pa.timestamp("us", kind.tz)
        fields.append(pa.field(field.name, kind, nullable=True))
    clean = table.cast(pa.schema(fields), safe=False).combine_chunks()
    is_ = pa.types
    ordered = [field.name for field in fields if not (is_.is_floating(field.type) or is_.is_nested(field.type))]
    pq.write_table(
        clean, path, compression="zstd", row_group_size=131_072, store_schema=True, write_statistics=ordered or False
    )


def _columns(path: Path) -> dict[str, str]:
    import pyarrow.parquet as pq

    return {field.name: str(field.type) for field in pq.read_schema(path)}
