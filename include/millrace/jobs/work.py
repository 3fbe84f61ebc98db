"""Work: what a job gets to work with: its request, the store, the pipeline's bundle, and a place for observations."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.contract import Artifact, Input, JobRequest
from millrace.core.canonical import digest
from millrace.core.errors import ContractError, Corrupt
from millrace.spec import Bundle, PipelineSpec
from millrace.store import ObjectStore, SnapshotStore, Tables, bundles, layout, open_store

if TYPE_CHECKING:
    import pyarrow as pa

    from millrace.models.files import Model
    from millrace.online.on_demand import OnDemandView


STATIC = "static"
"""What stands for the partition of a source that has none."""


@dataclass
class Work:
    """One run of one job. What is not `request` ends in `observed`, which is never digested."""

    request: JobRequest
    links: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    mlflow_run: str | None = None
    lock: str | None = None
    device: str | None = None

    @cached_property
    def objects(self) -> ObjectStore:
        """The object store."""
        return open_store(self.request.place.store)

    @cached_property
    def snapshots(self) -> SnapshotStore:
        """Snapshots in the store."""
        return SnapshotStore(self.objects)

    @cached_property
    def tables(self) -> Tables:
        """Tables in the store."""
        return Tables(self.objects)

    @cached_property
    def bundle(self) -> Bundle:
        """The pipeline's folder as it was when the request was made. Raises Corrupt when the bytes differ."""
        return bundles.read(self.objects, self.request.identity.spec_digest)

    @cached_property
    def spec(self) -> PipelineSpec:
        """The pipeline's spec."""
        return PipelineSpec.model_validate(self.bundle.spec)

    @property
    def partition(self) -> str:
        """The only partition in scope; `static` for a source without partitions.

        Raises ContractError when there are none or several, SpecError for a key that is not of the pipeline's grain.
        """
        if len(self.request.identity.scope) != 1:
            raise ContractError(
                f"job '{self.request.identity.job}' works on one partition", given=list(self.request.identity.scope)
            )
        (key,) = self.request.identity.scope
        return key if key == STATIC else self.spec.partitioning.check(key)

    def read(self, item: Input, columns: list[str] | None = None) -> pa.Table:
        """Read an input Snapshot into Arrow, verified against its digest."""
        return self.snapshots.read(self.request.key(item), item.digest, columns)

    def path(self, item: Input) -> Path:
        """Local file with an input Snapshot's data, verified; to be read only."""
        return self.snapshots.path(self.request.key(item), item.digest)

    def spark(self) -> str:
        """Spark's master URL, this process where the request names none."""
        service = self.request.means.services.get("spark")
        return service.uri if service else "local[*]"

    def spark_place(self, item: Input, master: str) -> str:
        """An input Snapshot's file, verified, as Spark's executors find it: they read the store themselves."""
        path = self.path(item)
        if master.startswith("local"):
            return str(path)
        from millrace.sql.spark import url

        return url(self.objects.url(self.request.key(item) + layout.DATA))

    def model(self, role: str) -> Model:
        """The model of an input, loaded. Raises ContractError where it brings code that may not be executed here."""
        from millrace.models.files import load  # with the learners' libraries, which most jobs do not need

        item = self.request.input(role)
        return load(self.objects, self.request.key(item), item.digest, self.request.means)

    def on_demand(self) -> tuple[OnDemandView, ...]:
        """On-demand feature views of the spec's FeatureService, as the bundle's Feast file has them; read, not called.

        Raises SpecError for one that cannot be computed for a row alone.
        """
        if "on_demand_feature_view" not in self.bundle.features:
            return ()
        from millrace.feast_stores.on_demand import on_demand_views  # with Feast, which most trainings do not need

        where = f"feature_repo/{self.spec.name}.py"
        return on_demand_views(self.bundle.features, self.spec.features.service, where)

    def put(self, folder: layout.Folder, name: str, data: bytes, kind: str, media_type: str) -> Artifact:
        """Store bytes under `<folder>/<pipeline>/<digest>/<name>` and return the Artifact."""
        name_digest = digest(data)
        key = layout.document(folder, self.spec.name, name_digest, name)
        if not self.objects.exists(key):
            self.objects.put(key, data)
        return Artifact(uri=key, digest=name_digest, kind=kind, media_type=media_type)

    def get(self, item: Input) -> bytes:
        """Read an input made by `put`. Raises Corrupt when the bytes differ from the digest."""
        data = self.objects.get(self.request.key(item))
        if digest(data) != item.digest:
            raise Corrupt("the stored bytes do not have their digest", where=self.request.key(item), given=item.digest)
        return data

    def service(self, name: str) -> str:
        """URI of a service that the request allows. Raises ContractError for one it does not."""
        services = self.request.means.services
        if name not in services:
            raise ContractError(
                f"job '{self.request.identity.job}' may not reach this service", given=name, allowed=sorted(services)
            )
        return services[name].uri
