"""`millrace reproduce`: train a version again from its Evidence alone, in a scratch place, and compare.

What is read is the bundle and the Snapshots that the Evidence names, by digest; neither the project's folder nor the
Tables, nor who is champion now.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.contract import (
    Artifact,
    Identity,
    Input,
    JobRequest,
    JobResult,
    Means,
    Metric,
    Place,
    Service,
    code_digest,
)
from millrace.core.errors import EvidenceError, MillraceError
from millrace.core.settings import Settings
from millrace.rules.evidence import Evidence
from millrace.rules.provenance import FEATURES, Training
from millrace.spec import ProjectTree
from millrace.spec.compute import CUSTOM_CODE, PROCESS
from millrace.store import ObjectStore, SnapshotStore, bundles, layout, open_store

Say = Callable[[str], None]
TOLERANCE = 0.02
"""Of each metric's value: how far a training elsewhere may be from the one of the Evidence."""


@dataclass(frozen=True)
class Compared:
    """What came of it. `differing` are the conditions that are not those of the Evidence: where there are none, the
    bytes must be equal."""

    training_set_equal: bool
    model_equal: bool
    differing: tuple[str, ...]
    far: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the version was reproduced."""
        return self.model_equal or (bool(self.differing) and not self.far)


def reproduce(tree: ProjectTree, settings: Settings, evidence: Evidence, place: Path, say: Say) -> Compared:
    """Train again in `place`, an empty folder, and compare with the Evidence.

    Raises EvidenceError for a version that was not trained here or says too little, NotFound or Corrupt where what it
    was made of is gone or changed, MillraceError for a job that fails.
    """
    if evidence.training is None:
        why = "was imported" if evidence.imported else "is from before Evidence said how a version was trained"
        raise EvidenceError(f"{evidence.pipeline}: this version {why}: it cannot be trained again")
    scratch = _Scratch.of(
        settings, evidence, evidence.training, place, tree.environment(settings.environment).custom_code
    )
    data = scratch.job("build_training_set", scratch.features, {"as_of": evidence.training.as_of}, feast=True)
    made = data.outputs["data"]
    same_data = made.digest == evidence.training_set.digest
    say(f"training set: {made.rows or 0:,} rows, {'the same bytes' if same_data else 'OTHER BYTES'}")
    asked = {"learner": evidence.training.learner, "half_life": evidence.training.half_life}
    model = scratch.job("train", [("training_set", made, None)], asked).outputs["model"]
    if model.digest == evidence.model.digest:
        say(f"model: the same bytes, {model.digest}")
        return Compared(same_data, True, (), ())
    say(f"model: other bytes, {model.digest} for {evidence.model.digest}")
    differing = tuple(_differing(evidence, scratch.seen["train"]))
    judged = scratch.job("evaluate", [("training_set", made, None), ("model", model, None)], {})
    far = tuple(_far(evidence.metrics or {}, judged.metrics, say))
    return Compared(same_data, False, differing, far)


def _differing(evidence: Evidence, now: JobResult) -> Iterator[str]:
    """Conditions under which bytes need not be equal."""
    before, seen = evidence.training, now.observed
    assert before is not None
    for name, known, mine in (
        ("code", evidence.code_digest, code_digest()),
        ("packages", before.lock, seen.lock),
        ("image", before.image, seen.image),
        ("architecture", before.architecture, platform.machine()),
        ("device", before.device, seen.device),
    ):
        if known != mine:
            yield f"{name}: {known or 'none'}, here {mine or 'none'}"
    if before.device != "cpu":
        yield f"trained on {before.device}, where bytes differ from run to run"


def _far(before: dict[str, Metric], now: dict[str, Metric], say: Say) -> Iterator[str]:
    for name, metric in sorted(before.items()):
        mine = now.get(name)
        within = mine is not None and abs(mine.value - metric.value) <= TOLERANCE * abs(metric.value)
        text = f"{name}: {metric.value:.6g} in the Evidence, {'none' if mine is None else f'{mine.value:.6g}'} here"
        say(f"{'within' if within else 'FAR'}  {text}")
        if not within:
            yield text


@dataclass(frozen=True)
class _Scratch:
    """A store of its own, with what the training reads."""

    root: Path
    evidence: Evidence
    training: Training
    features: list[tuple[str, Artifact, str | None]]
    means: Means
    seen: dict[str, JobResult]

    @classmethod
    def of(cls, settings: Settings, evidence: Evidence, training: Training, place: Path, custom_code: str) -> _Scratch:
        objects, own = open_store(settings.store), open_store(place / "store")
        bundles.keep(own, bundles.read(objects, evidence.spec_digest))
        read = {g.partition: g.snapshot for g in evidence.gates if g.dataset == FEATURES}
        if lacking := [key for key in evidence.partitions if key not in read]:
            raise EvidenceError("the Evidence does not name the features of each partition", given=", ".join(lacking))
        found: list[tuple[str, Artifact, str | None]] = [
            (FEATURES, _copy(objects, own, evidence.pipeline, read[key]), key) for key in evidence.partitions
        ]
        limits = {CUSTOM_CODE: PROCESS} if custom_code == PROCESS else {}
        return cls(place, evidence, training, found, Means(limits=limits), {})

    def job(
        self, job: str, inputs: list[tuple[str, Artifact, str | None]], params: dict[str, Any], *, feast: bool = False
    ) -> Any:
        from millrace.jobs import guard

        identity = Identity(
            job=job, params=params, scope=self.evidence.partitions, spec_digest=self.evidence.spec_digest,
            inputs=tuple(Input(role=r, kind=a.kind, digest=a.digest, partition=p) for r, a, p in inputs),
            code_digest=code_digest(), seed=self.training.seed, threads=self.training.threads,
        )  # fmt: skip
        store = str(self.root / "store")
        place = Place(store=store, inputs={a.digest: a.uri for _, a, _ in inputs})
        means = self.means
        if feast:
            services = {
                "registry": Service(uri=f"sqlite:///{self.root / 'registry.db'}"),
                "online": Service(uri=str(self.root / "online.db")),
            }
            _register(bundles.read(open_store(store), self.evidence.spec_digest), services, store)
            means = means.model_copy(update={"services": services})
        result = guard.run(JobRequest(identity=identity, place=place, means=means), fork=False)
        if result.outcome is None:
            raise MillraceError(f"{job} failed: {result.error.message if result.error else 'it left no result'}")
        self.seen[job] = result
        return result.outcome


def _copy(objects: ObjectStore, own: ObjectStore, pipeline: str, snapshot: str) -> Artifact:
    """A Snapshot, verified, in the store of its own."""
    found = SnapshotStore(objects)
    prefix = found.prefix(pipeline, FEATURES, snapshot)
    data = found.path(prefix, snapshot).read_bytes()
    own.put(prefix + layout.DATA, data)
    own.put(prefix + layout.MANIFEST, objects.get(prefix + layout.MANIFEST))
    return SnapshotStore(own).artifact(pipeline, FEATURES, snapshot)


def _register(bundle: Any, services: dict[str, Service], store: str) -> None:
    """The bundle's feature definitions in a registry of its own."""
    from millrace.feast_stores.apply import register

    register(bundle.feature_store, bundle.features, services["registry"].uri, services["online"].uri, store)
