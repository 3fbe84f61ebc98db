"""A project whose pipeline serves: versions are released by stages, and servers are what tests write into the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from millrace.airflow.tasks import rollback, rollout
from millrace.contract import Outcome
from millrace.rules.guards import Counts, Side
from millrace.store.champions import Champions
from millrace.store.plans import Plans, TrafficPlan, Veto
from support.project import DAYS, PIPELINE, publish, stored
from support.releases import House
from support.task import asked, running

CANARY = """
serving:
  rollout:
    strategy: canary
    shadow: {at_least: PT0S, requests: 5}
    steps: [{share: 0.2, at_least: PT0S, units: 4}, {share: 0.5, at_least: PT0S, units: 4}]
    watch: PT0S
"""


class Served(House):
    """A House whose versions answer over HTTP."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, section: str = CANARY) -> None:
        path = root / "include" / "pipelines" / PIPELINE / "pipeline.yaml"
        if "\nserving:" not in path.read_text():
            path.write_text(path.read_text() + section)
        super().__init__(root, monkeypatch)
        if not self.site.tables.partitions(f"{PIPELINE}/features"):
            publish(self.site, DAYS[0])

    @property
    def plans(self) -> Plans:
        return Plans(self.site.objects)

    def in_store(self) -> TrafficPlan:
        found = self.plans.get(PIPELINE)
        assert found is not None
        return found

    def traffic(self) -> tuple[dict[int, float], int | None, int | None]:
        """Shares of the arms, version in shadow, former version, as servers read them."""
        plan = self.in_store()
        return (
            {each.version: round(each.share, 6) for each in plan.arms},
            plan.shadow.version if plan.shadow else None,
            plan.former.version if plan.former else None,
        )

    def deploy(self, version: int, run_id: str = "") -> Any:
        """Ask for the job, and answer as it would."""
        with running(f"{PIPELINE}__release", "deploy", run_id=run_id or f"release__v{version}"):
            work = asked(rollout.deploy, **self.here)
            roles = work.request.identity.params["versions"]
            outputs = {role: stored(self.site, "deployment", f"of version {v}") for role, v in roles.items()}
            return work.answered(Outcome(outputs=outputs))

    def stage(self, version: int, number: int | None, run_id: str = "") -> Any:
        """Run a stage's task, or that of the watch; 'waits' where it parks."""
        task = (
            rollout.RolloutWatch(task_id="watch", **self.here)
            if number is None
            else rollout.RolloutStage(task_id=f"step_{number}", stage=number, **self.here)
        )
        with running(f"{PIPELINE}__release", task.task_id, run_id=run_id or f"release__v{version}") as context:
            try:
                return task.execute(context)
            except TaskDeferred:
                return "waits"

    def opened(self, version: int, **more: Any) -> None:
        """Up to the deployment of a version."""
        self.register(version)
        self.open(version, **more)
        self.deploy(version)
        if self.site.placed.approval.by == "human":
            self.answer(version)
        else:
            self.approve(version)

    def promoted(self, version: int, run_id: str = "") -> dict[str, Any]:
        return self.task(rollout.promote, version, run_id=run_id)

    def first(self, version: int = 1) -> None:
        """A first champion that serves, and is watched no more."""
        self.opened(version)
        self.promoted(version)
        assert "answers all" in self.stage(version, None)

    def counted(self, *sides: tuple[int, Side], server: str = "server-1", share: float | None = None) -> None:
        """What a server has counted under the plan in force."""
        plan = self.in_store()
        given = plan.arms[1].share if share is None and len(plan.arms) > 1 else share or 0.0
        counts = Counts(generation=plan.generation, share=given, sides=dict(sides))
        self.plans.put_tally(PIPELINE, plan.generation, server, counts.model_dump_json().encode())

    def veto(self, version: int, guard: str = "errors") -> Veto:
        """What a guard writes."""
        plan = self.in_store()
        return self.plans.veto(
            Veto(pipeline=PIPELINE, generation=plan.generation, version=version, guard=guard, why="units met errors",
                 server="server-1", at="2024-01-01T00:00:00+00:00")
        )  # fmt: skip

    def rollback(self, user: str | None = None, **form: Any) -> Any:
        """Run the rollback DAG's tasks."""
        params = {"version": None, "reason": None, **form}
        with running(f"{PIPELINE}__rollback", "decide", run_id="asset__1", params=params, user=user):
            versions = rollback.decide(**self.here)
        with running(f"{PIPELINE}__rollback", "carry_out", run_id="asset__1", params=params, user=user):
            return versions, rollback.carry_out(**self.here)

    def copy(self) -> int | None:
        found = Champions(self.site.objects).get(PIPELINE)
        return found.version if found else None


def met(units: int, errors: int = 0, first: int = 0) -> Side:
    """Units that a version met."""
    names = [f"u{n}" for n in range(first, first + units)]
    return Side(
        answered=units, predictions={name: n % 10 for n, name in enumerate(names)}, errors=tuple(names[:errors])
    )
