"""A pipeline `trips` whose FeatureService has on-demand features, through its real jobs, and served."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from millrace.contract import Artifact, JobResult, Run
from millrace.jobs.runner import run
from millrace.spec.compute import CUSTOM_CODE, PROCESS
from millrace.spec.serving import ServingSpec
from millrace.store import SnapshotStore, bundles, open_store
from millrace.store.plans import Arm, Plans, TrafficPlan
from support import feast_project
from support.learning import FAST
from support.requests import request

FEATURES = (
    feast_project.FEATURES
    + """
from feast import RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Int32

asked = RequestSource(name="asked", schema=[
    Field(name="tip", dtype=Float64), Field(name="seats", dtype=Int32), Field(name="promo", dtype=String),
])


@on_demand_feature_view(
    sources=[trips[["distance", "speed"]], asked], mode="python", singleton=True,
    schema=[Field(name="pace", dtype=Float64), Field(name="rough", dtype=Float64), Field(name="room", dtype=Int64)],
)
def paced(given):
    import math

    far, fast, tip = given["distance"], given["speed"], given["tip"]
    if given["promo"] == "raise":
        raise ValueError(far)
    if given["promo"] == "nan":
        return {"pace": "fast", "rough": None, "room": None}
    pace = None if fast is None or far is None else math.log1p(abs(far)) / (1 + abs(fast)) + (tip or 0.0) / 3
    return {"pace": pace, "rough": None if tip is None else tip / 7, "room": 2**53 + (given["seats"] or 0)}


@on_demand_feature_view(
    sources=[trips[["driver"]], asked], mode="python",
    schema=[Field(name="named", dtype=String), Field(name="gone", dtype=Bool)],
)
def naming(given):
    return {"named": [f"{a or '-'}{b or ''}" for a, b in zip(given["driver"], given["promo"])],
            "gone": [a is None for a in given["driver"]]}


trips_v1 = FeatureService(name="trips_v1", features=[trips[["speed", "electric"]], paced, naming])
trips_v0 = FeatureService(name="trips_v0", features=[trips[["speed", "electric"]]])
"""
)
"""Made from features that the service takes, from some that it does not, and from a request."""
NAMES = ["speed", "electric", "pace", "rough", "room", "named", "gone"]
FIELDS = ["tip", "seats", "promo"]
DAYS = [f"2024-01-{day:02d}" for day in range(1, 6)]
SCHEMA = pa.schema([*feast_project.SCHEMA, ("tip", pa.float64()), ("seats", pa.int64()), ("promo", pa.string())])
SPEC = {
    "training": {"learner": FAST, "window": "P5D", "minimum_rows": 10, "seed": 7},
    "evaluation": {"thresholds": {"log_loss": {"max": 10}}},
    "monitoring": {"columns": ["pace", "named"], "minimum_rows": 10},
    "serving": {},
}


def features_row(n: int, vehicle: str, at: datetime) -> dict[str, Any]:
    """A features row with gaps of every kind; what a request carries are columns too."""
    made = feast_project.row(
        vehicle, "2024-01-01 00:00", n * 37 % 91, speed=None if n % 5 == 0 else n / 7, electric=n % 2 == 0,
        driver=None if n % 4 == 0 else "ann" if n % 3 else "änn", late=int(n % 7 < 3),
    )  # fmt: skip
    tip = None if n % 6 == 0 else n / 3
    return {**made, "event_timestamp": at, "created": at, "tip": tip, "seats": None if n % 9 == 0 else n % 5,
            "promo": None if n % 10 == 0 else "free"}  # fmt: skip


@dataclass
class Computed:
    """A project, its features by day, and what its jobs made of them."""

    project: feast_project.FeastProject
    features: dict[str, Artifact] = field(default_factory=dict)
    tables: dict[str, pa.Table] = field(default_factory=dict)
    today: str = ""

    @classmethod
    def make(cls, root: Path) -> Computed:
        project = feast_project.FeastProject.make(root, **SPEC)
        project.features = FEATURES
        project.write("trips", FEATURES)
        project.apply()
        it = cls(project)
        for day in DAYS:
            begin = feast_project.at(f"{day} 00:00")
            it.deliver(day, [features_row(n, f"v{n}", begin + timedelta(minutes=20 * n)) for n in range(60)])
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
        it.today = f"{now:%Y-%m-%d}"
        today = [features_row(n, f"v{n}", now) for n in range(40)]
        today.append(features_row(3, "old", now - timedelta(days=30)))
        it.deliver(it.today, today)
        done = project.materialize(it.today, it.features[it.today])
        assert done.error is None, done.error
        return it

    def deliver(self, day: str, rows: list[dict[str, Any]]) -> None:
        self.tables[day] = pa.Table.from_pylist(rows, SCHEMA)
        self.features[day] = self.project.snapshot(day, self.tables[day])

    def send(
        self, job: str, inputs: list[Any], scope: list[str], params: dict[str, Any] | None = None, code: bool = True
    ) -> JobResult:
        """Run a job, in a process where code may be executed, or may not."""
        bundle, settings = self.project.bundle, self.project.settings
        bundles.keep(self.project.objects, bundle)
        return run(request(
            job, store=settings.store, spec_digest=bundle.digest, scope=scope, inputs=inputs, params=params,
            run=Run(pipeline="trips"), limits={CUSTOM_CODE: PROCESS} if code else {}, seed=7,
            services={"registry": settings.feast_registry, "online": settings.feast_online},
        ))  # fmt: skip

    def outcome(self, *asked: Any, **more: Any) -> Any:
        result = self.send(*asked, **more)
        assert result.error is None, result.error
        return result.outcome

    def training_set(self, days: list[str] | None = None) -> Artifact:
        days = days or DAYS
        inputs = [("features", self.features[day], day) for day in days]
        as_of = (datetime.now(UTC) + timedelta(days=2)).isoformat()
        made: Artifact = self.outcome("build_training_set", inputs, days, {"as_of": as_of}).outputs["data"]
        return made

    def read(self, artifact: Artifact) -> pa.Table:
        return SnapshotStore(self.project.objects).read(artifact.uri, artifact.digest)

    def model(self, training_set: Artifact, rounds: int = 20) -> Artifact:
        learner = {"learner": {**FAST, "rounds": rounds}}
        made: Artifact = self.outcome("train", [("training_set", training_set)], DAYS, learner).outputs["model"]
        return made

    def deploy(self, model: Artifact, version: int, share: float = 1.0, role: Any = "champion") -> Arm:
        """The version as a part of a plan, by the job."""
        inputs = [("features", self.features[self.today], self.today), ("model", model)]
        outcome = self.outcome("deploy", inputs, [self.today], {"versions": {"model": version}})
        return Arm(role=role, version=version, model=model.digest, share=share,
                   deployment=outcome.outputs["model"])  # fmt: skip

    def plan(self, arms: tuple[Arm, ...], generation: int = 1, serving: Any = None, **more: Any) -> TrafficPlan:
        plans = Plans(open_store(self.store))
        return plans.follow(TrafficPlan(
            pipeline="trips", generation=generation, since=1, salt="s", arms=arms,
            serving=ServingSpec.model_validate(serving or {}), **more,
        ))  # fmt: skip

    @property
    def root(self) -> Path:
        return self.project.root

    @property
    def store(self) -> str:
        return self.project.settings.store

    @property
    def online(self) -> str:
        return self.project.settings.feast_online
