"""A pipeline that serves, for tests of what becomes of its log: records, segments in the store, jobs over them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from millrace.contract import Artifact, JobResult
from millrace.core.canonical import canonical_json, digest
from millrace.jobs.runner import run
from millrace.models.encoding import Encoder
from millrace.models.files import Card, WeightsFile
from millrace.models.holdout import Holdout
from millrace.serving.log import Log
from millrace.serving.shipping import ship
from millrace.spec import Bundle, PipelineSpec
from millrace.store import SnapshotStore, bundles, layout, open_store
from millrace.store.served import parts
from support.requests import Given, request

MODEL = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64


def us(text: str) -> int:
    """Microseconds since 1970 of a moment; without a zone in UTC."""
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def spec(**changes: Any) -> dict[str, Any]:
    """A pipeline of shops by day that serves; `changes` are its keys, those of `partition` and `label` over these."""
    partition = {"grain": "day", "timezone": "UTC", "start": "2024-01-01", **changes.pop("partition", {})}
    label = {"column": "late", "task": "binary", "known_after": "PT0S", **changes.pop("label", {})}
    metric = "rmse" if label["task"] == "regression" else "log_loss"
    return {
        "version": 1, "name": "shop", "owner": "me", "description": "test", "partition": partition,
        "sources": {"sales": {"kind": "files", "location": "{year}-{month}-{day}", "gate": "s.yaml",
                              "columns": ["id"]}},
        "features": {"entity": ["id"], "service": "shop"},
        "label": label,
        "training": {"learner": {"kind": "xgboost", "rounds": 20}, "window": "P1M"},
        "evaluation": {"thresholds": {metric: {"max": 1}}},
        "monitoring": {"minimum_rows": 50},
        "serving": {},
        **changes,
    }  # fmt: skip


def record(id_: str, at: str, prediction: Any = 0.5, **fields: Any) -> dict[str, Any]:
    """What a server keeps of a request of one row; a list of predictions in `predictions` makes it several."""
    return {
        "id": id_, "at": us(at), "ms": 1.5, "pipeline": "shop", "version": 3, "model": MODEL, "role": "champion",
        "generation": 7, "predictions": [prediction], **fields,
    }  # fmt: skip


def read(id_: str, at: str, entity: str, moment: str, prediction: Any = 0.5, **fields: Any) -> dict[str, Any]:
    """What a server keeps of a request for one entity, whose features of `moment` it read online."""
    times = [{"shop": us(moment)}]
    return record(id_, at, prediction, entities=[{"id": entity}], times=times, found=["found"], **fields)


@dataclass
class Served:
    """A store, and the log folder of one server."""

    root: Path
    store: str
    spec: dict[str, Any]

    @classmethod
    def make(cls, root: Path, store: str | None = None, **changes: Any) -> Served:
        return cls(root, store or str(root / "store"), spec(**changes))

    @property
    def objects(self) -> Any:
        return open_store(self.store)

    @property
    def bundle(self) -> Bundle:
        return Bundle(spec=self.spec, sql="", suites={})

    def ship(self, records: Iterable[dict[str, Any]], server: str = "s1", worker: str = "w1") -> None:
        """Write records to a segment of their own, and ship it."""
        folder = self.root / "log" / server
        with Log(folder / worker, durable=False) as log:
            wait([log.append(json.dumps(each).encode()) for each in records])
        assert ship(folder, self.objects, server).away is None

    def listing(self, partition: str, shuffled: int | None = None) -> Artifact:
        """The listing of the segments that may hold a partition's records, in any order."""
        cut = PipelineSpec.model_validate(self.spec).partitioning
        found = parts(self.objects, "shop", cut.start(partition), cut.end(partition))
        listed = [[each.key, each.size, each.changed.isoformat()] for each in found]
        if shuffled is not None:
            random.Random(shuffled).shuffle(listed)
        data = canonical_json(listed)
        made = Artifact(uri=layout.document("listings", "shop", digest(data), "segments.json"), digest=digest(data),
                        kind="listing")  # fmt: skip
        self.objects.put(made.uri, data)
        return made

    def send(
        self, job: str, partition: str, inputs: Sequence[Given], params: dict[str, Any] | None = None
    ) -> JobResult:
        bundles.keep(self.objects, self.bundle)
        return run(
            request(job, store=self.store, spec_digest=self.bundle.digest, scope=[partition], inputs=inputs,
                    params=params)
        )  # fmt: skip

    def collect(self, partition: str, *more: Given, shuffled: int | None = None) -> JobResult:
        result = self.send("collect", partition, [("segments", self.listing(partition, shuffled), partition), *more])
        assert result.error is None, result.error
        return result

    def rows(self, result: JobResult) -> list[dict[str, Any]]:
        return self.table(result).to_pylist()

    def table(self, result: JobResult) -> pa.Table:
        assert result.outcome is not None
        made = result.outcome.outputs["data"]
        return SnapshotStore(self.objects).read(made.uri, made.digest)

    def snapshot(self, table: pa.Table, dataset: str, partition: str) -> Artifact:
        return SnapshotStore(self.objects).write(table, pipeline="shop", dataset=dataset, partition=partition)

    def card(self, **fields: Any) -> str:
        """Put the card of a model into the store, which is all that is read of it; returns its digest."""
        weights = WeightsFile(file="weights.ubj", digest=digest(b"trees"), media_type="application/octet-stream")
        said: dict[str, Any] = {
            "pipeline": "shop", "learner": {"kind": "xgboost"}, "task": "binary", "label": "late",
            "encoder": Encoder(features=()), "entity": ("id",), "event_time": "event_timestamp",
            "feature_service": "shop", "partitions": (),
            "holdout": Holdout(share=0.2, block="day", seed=7, timezone="UTC"),
            "training_set": OTHER, "spec_digest": OTHER, "seed": 0, "threads": 1, "weights": weights, **fields,
        }  # fmt: skip
        made = Card(**said)
        self.objects.put(layout.model("shop", made.digest) + layout.CARD, canonical_json(made))
        return made.digest
