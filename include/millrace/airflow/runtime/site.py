"""Site: one pipeline of one project in one environment, as the DAG builders and tasks of Airflow see it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from millrace.contract import Artifact, Identity, Input, JobRequest, Means, Place, Run, Service, code_digest
from millrace.core.errors import NotFound
from millrace.core.settings import SIGNING_KEY, Settings
from millrace.ledger import Ledger
from millrace.spec import Bundle, Partitioning, PipelineSpec, Placed, ProjectTree
from millrace.spec.compute import CUSTOM_CODE, PROCESS
from millrace.spec.jobs import TABLE
from millrace.store import ObjectStore, Tables, bundles, layout, open_store
from millrace.store.anchors import Anchors


@dataclass(frozen=True)
class Site:
    """Knows where the project lies and what the environment says; makes JobRequests. Made once per process."""

    tree: ProjectTree
    settings: Settings
    placed: Placed

    @classmethod
    @lru_cache(maxsize=64)
    def at(cls, root: str, pipeline: str) -> Site:
        """Load a pipeline of the project at `root`. Raises SpecError."""
        tree = ProjectTree(Path(root))
        settings = Settings.load(tree.root)
        return cls(tree, settings, Placed.of(tree, settings.environment, pipeline))

    @property
    def spec(self) -> PipelineSpec:
        """The pipeline's spec."""
        return self.placed.spec

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return self.placed.spec.name

    @property
    def partitioning(self) -> Partitioning:
        """The pipeline's partition arithmetic."""
        return self.placed.spec.partitioning

    @cached_property
    def objects(self) -> ObjectStore:
        """The object store."""
        return open_store(self.settings.store)

    @cached_property
    def tables(self) -> Tables:
        """Tables in the store."""
        return Tables(self.objects)

    @cached_property
    def ledger(self) -> Ledger:
        """The control-plane database."""
        self.settings.home.mkdir(parents=True, exist_ok=True)
        return Ledger.open(self.settings.ledger)

    @cached_property
    def anchors(self) -> Anchors:
        """Where promotions are anchored."""
        return Anchors.of(self.settings)

    @cached_property
    def bundle(self) -> Bundle:
        """The pipeline's folder. Raises SpecError."""
        return self.tree.bundle(self.name)

    def request(
        self,
        job: str,
        *,
        scope: tuple[str, ...],
        inputs: list[tuple[str, Artifact, str | None]] | None = None,
        params: dict[str, Any] | None = None,
        context: Any = None,
    ) -> JobRequest:
        """Make a JobRequest, with the pipeline's folder in the store, where its job finds it.

        `inputs` are (role, Artifact, partition); `context` is Airflow's, for correlation.
        """
        bundles.keep(self.objects, self.bundle)
        inputs = inputs or []
        training = self.spec.training
        identity = Identity(
            job=job,
            params=params or {},
            inputs=tuple(Input(role=r, kind=a.kind, digest=a.digest, partition=p) for r, a, p in inputs),
            scope=scope,
            spec_digest=self.bundle.digest,
            code_digest=code_digest(),
            seed=training.seed if training else 0,
            threads=training.threads if training else 2,
        )
        request = JobRequest(
            identity=identity,
            place=Place(store=self.settings.store, inputs={a.digest: a.uri for _, a, _ in inputs}),
            run=self._run(context),
            means=Means(
                profile=self.placed.profile(job),
                services={name: found for name in TABLE[job].reaches if (found := self._service(name)) is not None},
                locations=self.placed.locations() if job == "land" else {},
                limits=self._limits(job),
            ),
        )
        name = request.request_digest
        place = request.place.model_copy(
            update={"result": layout.result(self.name, job, name), "checkpoint": layout.checkpoint(self.name, name)}
        )
        return request.model_copy(update={"place": place})

    def asked(self, name: str, context: Any) -> JobRequest | None:
        """The request of this digest that was put into the store for a pod, as this run asks it now; None where there
        is none. Raises ContractError."""
        try:
            request = JobRequest.parse(self.objects.get(layout.request(self.name, name)))
        except NotFound:
            return None
        return request.model_copy(update={"run": self._run(context)})

    def _limits(self, job: str) -> dict[str, str]:
        """How long the job may run; what DuckDB may take, of what is set; and whether custom code may be executed in
        the task's process."""
        given = {name: str(getattr(self.settings, name)) for name in ("duckdb_memory", "duckdb_temp", "duckdb_threads")}
        given[CUSTOM_CODE] = PROCESS if self.placed.environment.custom_code == PROCESS else ""
        given["seconds"] = str(self.placed.time_limit(job))
        return {name: value for name, value in given.items() if value}

    def _service(self, name: str) -> Service | None:
        """How a job reaches a service; the private key of `signing` by the name of its variable, never itself."""
        if name == "signing":
            if not (self.settings.signing_key or self.settings.signing_public_key):
                return None
            return Service(uri=self.settings.signing_public_key, secret=SIGNING_KEY)
        uris = {
            "spark": self.settings.spark,
            "mlflow": self.settings.mlflow,
            "registry": self.settings.feast_registry,
            "online": self.settings.feast_online,
        }
        return Service(uri=uris[name])

    def _run(self, context: Any) -> Run:
        base = {
            "project": self.tree.project.name,
            "environment": self.settings.environment,
            "pipeline": self.name,
        }
        if context is None:
            return Run(**base)
        ti = context["ti"]
        return Run(
            **base,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            try_number=ti.try_number,
            url=getattr(ti, "log_url", None),
        )
