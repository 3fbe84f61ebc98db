"""Two yardsticks from the same jobs called in one bare process: the frozen first model, and monthly retraining."""

from __future__ import annotations

from typing import Any

from millrace.contract import Artifact, Identity, Input, JobRequest, Means, Outcome, Place, Service, code_digest
from millrace.core.errors import MillraceError
from millrace.core.settings import Settings
from millrace.rules.labels import all_known
from millrace.spec import PipelineSpec, ProjectTree
from millrace.store import Tables, bundles, open_store


class Bare:
    """Calls jobs of one pipeline without an orchestrator, on the Tables that the loop published."""

    def __init__(self, tree: ProjectTree, settings: Settings, pipeline: str) -> None:
        self.spec: PipelineSpec = tree.spec(pipeline)
        self.settings = settings
        self.bundle = tree.bundle(pipeline)
        self.objects = open_store(settings.store)
        self.tables = Tables(self.objects)
        bundles.keep(self.objects, self.bundle)

    def features(self, key: str) -> Artifact:
        """The published features Snapshot of a partition."""
        return self.tables.resolve(f"{self.spec.name}/features", key).artifact

    def run(
        self,
        job: str,
        scope: tuple[str, ...],
        inputs: list[tuple[str, Artifact, str | None]],
        params: dict[str, Any] | None = None,
        services: dict[str, str] | None = None,
        locations: dict[str, str] | None = None,
    ) -> Outcome:
        """Run a job and return its outcome. Raises MillraceError."""
        from millrace.jobs.runner import run

        training = self.spec.training
        identity = Identity(
            job=job,
            params=params or {},
            scope=scope,
            spec_digest=self.bundle.digest,
            code_digest=code_digest(),
            inputs=tuple(Input(role=r, kind=a.kind, digest=a.digest, partition=p) for r, a, p in inputs),
            seed=training.seed if training else 0,
            threads=training.threads if training else 2,
        )
        request = JobRequest(
            identity=identity,
            place=Place(store=self.settings.store, inputs={a.digest: a.uri for _, a, _ in inputs}),
            means=Means(services={n: Service(uri=u) for n, u in (services or {}).items()}, locations=locations or {}),
        )
        result = run(request)
        if result.outcome is None:
            assert result.error is not None
            raise MillraceError(f"{job} failed: {result.error.message}")
        return result.outcome

    def train(self, keys: list[str], half_life: float | None = None) -> tuple[Artifact, Artifact, Artifact]:
        """Train on these partitions, with more weight on recent ones where a half-life is given; returns training set,
        model and evaluation."""
        label = self.spec.label
        assert label is not None
        partitioning = self.spec.partitioning
        scope = tuple(keys)
        feast = {"registry": self.settings.feast_registry, "online": self.settings.feast_online}
        joined = self.run(
            "build_training_set",
            scope,
            [("features", self.features(k), k) for k in keys],
            {"as_of": all_known(partitioning.end(keys[-1]), label.known_after).isoformat()},
            feast,
        ).outputs["data"]
        model = self.run(
            "train", scope, [("training_set", joined, None)], {"learner": None, "half_life": half_life}
        ).outputs["model"]
        judged = self.run("evaluate", scope, [("training_set", joined, None), ("model", model, None)])
        return joined, model, judged.outputs["evaluation"]

    def loss(self, model: Artifact, evaluation: Artifact, key: str) -> float:
        """Mean loss of a model on one later partition, scored as the loop scores it."""
        label = self.spec.label
        assert label is not None
        features = self.features(key)
        scored = self.run("score", (key,), [("features", features, key), ("model", model, None)], {"version": "0"})
        as_of = all_known(self.spec.partitioning.end(key), label.known_after).isoformat()
        judged = self.run(
            "performance",
            (key,),
            [
                ("predictions", scored.outputs["data"], key),
                ("features", features, key),
                ("evaluation", evaluation, None),
            ],
            {"as_of": as_of},
        )
        return judged.metrics["log_loss"].value


def losses(
    tree: ProjectTree, settings: Settings, pipeline: str, history: list[str], later: list[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Log loss by month of the model trained once on `history`, and of one retrained before every month."""
    bare = Bare(tree, settings, pipeline)
    _, first, first_evaluation = bare.train(history)
    frozen = {key: bare.loss(first, first_evaluation, key) for key in later}
    monthly = {later[0]: frozen[later[0]]}
    for position, key in enumerate(later[1:], start=1):
        _, model, evaluation = bare.train([*history, *later[:position]])
        monthly[key] = bare.loss(model, evaluation, key)
    return frozen, monthly
