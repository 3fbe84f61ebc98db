"""Layout: where everything lies in the store. No other module writes a key or takes one apart.

Keys name what they hold by its digest, or by the request that made it; only Tables, champions and what an attempt
leaves behind (checkpoints, attempts) change under their key.
"""

from __future__ import annotations

from typing import Literal

from millrace.contract import Artifact, Classification

SNAPSHOTS = "snapshots/"
PLANS, VETOES, TALLIES = "plans/", "vetoes/", "tallies/"
DATA, MANIFEST = "data.parquet", "manifest.json"
"""Files of a Snapshot; the manifest, written last, makes it exist."""
TOMBSTONE = "tombstone.json"
"""What an erased Snapshot has instead of its data."""
CARD, REFERENCE = "model.json", "reference.json"
"""Files of a model beside its weights; the card, written last, makes it exist."""
SIGNATURE = "signature.json"
"""What a model takes and gives, beside its files in MLflow."""
Folder = Literal["deployments", "embeddings", "evaluations", "evidence", "imports", "listings", "promotions", "reports"]
"""Where documents lie that are one object each."""


def bundle(spec_digest: str) -> str:
    """A pipeline's folder as it was when a request was made."""
    return f"bundles/{_hex(spec_digest)}.json"


def snapshot(pipeline: str, dataset: str, digest: str) -> str:
    """Prefix of a Snapshot's files."""
    return f"{SNAPSHOTS}{pipeline}/{dataset}/{_hex(digest)}/"


def table(name: str) -> str:
    """Prefix of a Table's pointers; it is named `<pipeline>/<dataset>`."""
    return f"tables/{name}/"


def pointer(table_name: str, partition: str) -> str:
    """Pointer of a Table's partition."""
    return f"{table(table_name)}{partition}.json"


def experiment(pipeline: str, since: int) -> str:
    """How the experiment of the rollout that began with a generation stands."""
    return f"experiments/{pipeline}/{since}.json"


def partition(pointer_key: str) -> str:
    """The partition whose pointer has this key."""
    return pointer_key.rpartition("/")[2].removesuffix(".json")


def model(pipeline: str, digest: str) -> str:
    """Prefix of a model's files."""
    return f"models/{pipeline}/{_hex(digest)}/"


def document(folder: Folder, pipeline: str, digest: str, name: str) -> str:
    """A document, by its digest, or by that of the request whose outcome does not hold it."""
    return f"{folder}/{pipeline}/{_hex(digest)}/{name}"


def card(pipeline: str, evidence: str) -> str:
    """The model card of a version, by the digest of its Evidence."""
    return document("reports", pipeline, evidence, "card.html")


def model_signature(promotion: str) -> str:
    """The signature of a promotion, beside its document."""
    return promotion.rpartition("/")[0] + "/model.sig"


def champion(pipeline: str) -> str:
    """The copy of who is champion."""
    return f"champions/{pipeline}.json"


def plan(pipeline: str) -> str:
    """The copy of the traffic plan that servers follow."""
    return f"{PLANS}{pipeline}.json"


def plan_of(key: str) -> str:
    """The pipeline whose plan has this key."""
    return key.removeprefix(PLANS).removesuffix(".json")


def vetoes(pipeline: str) -> str:
    """Prefix of what guards have written against versions."""
    return f"{VETOES}{pipeline}/"


def vetoed_pipeline(key: str) -> str:
    """The pipeline that a veto's key is of."""
    return key.removeprefix(VETOES).partition("/")[0]


def veto(pipeline: str, generation: int, version: int) -> str:
    """What a guard wrote against a version while the plan had a generation."""
    return f"{vetoes(pipeline)}{generation}-{version}.json"


def veto_of(key: str) -> tuple[int, int]:
    """Generation of the plan, and version, of a veto's key."""
    generation, _, version = key.rpartition("/")[2].removesuffix(".json").partition("-")
    return int(generation), int(version)


def tallies(pipeline: str, generation: int) -> str:
    """Prefix of what servers have counted while the plan had a generation."""
    return f"{TALLIES}{pipeline}/{generation}/"


def tally(pipeline: str, generation: int, server: str) -> str:
    """What one server has counted."""
    return f"{tallies(pipeline, generation)}{server}.json"


def served(pipeline: str, hour: str, server: str, segment: str) -> str:
    """What a segment of a server's log holds of a pipeline and an hour, `2024-01-31T05` in UTC."""
    return f"{served_on(pipeline, hour[:10])}{hour[11:]}/{server}/{segment}.jsonl.gz"


def served_on(pipeline: str, day: str) -> str:
    """Prefix of what servers have answered on a day of UTC."""
    return f"served/{pipeline}/{day}/"


def served_hour(key: str) -> str:
    """The hour whose answers have this key, `2024-01-31T05` in UTC."""
    day, hour = key.split("/")[2:4]
    return f"{day}T{hour}"


def all_served(pipeline: str) -> str:
    """Prefix of all that servers have answered for a pipeline."""
    return f"served/{pipeline}/"


def written_by_server(pipeline: str) -> tuple[str, ...]:
    """Prefixes of all that a server of one pipeline writes: vetoes, what it has counted, its prediction log."""
    return vetoes(pipeline), f"{TALLIES}{pipeline}/", all_served(pipeline)


def read_by_server(pipeline: str) -> tuple[str, ...]:
    """The key, and the prefixes, of all else that a server of one pipeline reads."""
    return plan(pipeline), f"deployments/{pipeline}/", f"models/{pipeline}/"


def anchor(pipeline: str, number: int) -> str:
    """An anchor of the ledger, in the store of the anchors."""
    return f"{pipeline}/{number}"


def statement(pipeline: str, release: str, system: str) -> str:
    """Where another system puts its signed statement on a release request."""
    return f"statements/{pipeline}/{release}/{system}.json"


def result(pipeline: str, job: str, request_digest: str) -> str:
    """The stored result of a request."""
    return f"results/{pipeline}/{job}/{_hex(request_digest)}.json"


def checkpoint(pipeline: str, request_digest: str) -> str:
    """Prefix, without its slash, of what an ended training leaves."""
    return f"checkpoints/{pipeline}/{_hex(request_digest)}"


def request(pipeline: str, request_digest: str) -> str:
    """Where a pod, and the task that waits for it, find what was asked."""
    return f"requests/{pipeline}/{_hex(request_digest)}/request.json"


def attempts(pipeline: str, request_digest: str) -> str:
    """What is on record of the pods of a request."""
    return f"requests/{pipeline}/{_hex(request_digest)}/attempts.json"


def last_written(artifact: Artifact) -> str:
    """The object without which an Artifact is not there."""
    return artifact.uri + {"snapshot": MANIFEST, "model": CARD}.get(artifact.kind, "")


def snapshot_artifact(
    prefix: str, digest: str, *, rows: int | None, classification: Classification = "internal"
) -> Artifact:
    """The Artifact of the Snapshot under a prefix."""
    return Artifact(
        uri=prefix,
        digest=digest,
        kind="snapshot",
        media_type="application/vnd.apache.parquet",
        rows=rows,
        classification=classification,
    )


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
