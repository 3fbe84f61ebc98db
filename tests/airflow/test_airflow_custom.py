"""Custom code through Airflow's tasks: the process executes it only where the environment lets it; scoring in a pod."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException
from support.ledger import done, promoted, verdict
from support.project import stored
from support.task import running

from millrace.airflow import build_dags
from millrace.airflow.pods.task import PodTask
from millrace.airflow.runtime.run import in_process, outcome_of, run_job
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import features as tasks
from millrace.cli.scaffold import init, new
from millrace.contract import Artifact, JobRequest
from millrace.core.settings import Settings
from millrace.feast_stores.apply import apply
from millrace.spec import ProjectTree

DAYS = tuple(f"2024-01-{day:02d}" for day in range(1, 11))
TRAINER = """import numpy as np
def fit(train, params, settings):
    return {"share": np.array([train.label.mean()])}
def predict(weights, rows, params, settings):
    return np.full(len(rows), weights["share"][0])
"""
IN_PODS = """
pipelines:
  orders:
    compute: {train: own, evaluate: own, score: own}
"""


class Shop:
    """A new project whose model is custom code, trained on ten days; `emitted` are the partitions of its assets."""

    def __init__(self, root: Path) -> None:
        init(root)
        tree = ProjectTree(root)
        new(tree, "orders")
        path = tree.folder("orders") / "pipeline.yaml"
        path.write_text(re.sub(r"    kind: xgboost\n(    .*\n)*", "    kind: custom\n", path.read_text()))
        (path.parent / "trainer.py").write_text(TRAINER)
        (root / "include" / "compute.yaml").write_text("version: 1\nprofiles: {own: {}}\n")
        apply(tree, Settings.load(root, {}))
        self.root, self.events = root, {}
        made = [(day, self.features(day)) for day in DAYS]
        self.last = made[-1][1]
        inputs = [("features", artifact, day) for day, artifact in made]
        params = {"as_of": "2024-06-01T00:00:00Z"}
        rows = self.job("build_training_set", DAYS, inputs, params).outputs["data"]
        self.rows = rows
        self.model: Artifact = self.job("train", DAYS, [("training_set", rows, None)], {}).outputs["model"]

    @property
    def site(self) -> Site:
        return Site.at(str(self.root), "orders")

    def job(self, name: str, scope: tuple[str, ...], inputs: Any, params: dict[str, Any]) -> Any:
        request = self.site.request(name, scope=scope, inputs=inputs, params=params)
        return outcome_of(request.model_copy(update={"means": request.means.model_copy(update={"services": {
            n: s for n, s in request.means.services.items() if n != "mlflow"}})}))[0]  # fmt: skip

    def features(self, day: str) -> Artifact:
        landed = self.job("land", (day,), [], {"source": "visits"}).outputs["data"]
        return self.job("transform", (day,), [("visits", landed, day)], {}).outputs["data"]

    def only_pods(self) -> None:
        """The environment as production has it."""
        path = self.root / "include" / "environments" / "dev.yaml"
        text = path.read_text()
        assert "custom_code: process" in text
        path.write_text(text.replace("custom_code: process", "custom_code: pods") + IN_PODS)
        Site.at.cache_clear()

    @property
    def asked(self) -> dict[str, Any]:
        return {"root": str(self.root), "pipeline": "orders"}

    def gated(self, run_id: str = "manual__1") -> None:
        """The last day's features are those of a run, and have passed their gate."""
        ledger = self.site.ledger
        ledger.record(done("orders", f"orders__features/{run_id}", "transform", self.last))
        ledger.record(verdict(pipeline="orders", partition=DAYS[-1], snapshot=self.last.digest))

    @property
    def emitted(self) -> list[tuple[str, str]]:
        return [(asset.name, key) for asset, event in self.events.items() for key in event.partition_keys]

    def request(self) -> JobRequest:
        asked = tasks.score.ask(**self.asked)
        assert asked is not None
        return asked


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "shop")
    promoted(made.site.ledger, 3, pipeline="orders", model=made.model)
    made.gated()
    with running("orders__features", "score", partition_key=DAYS[-1]) as context:
        made.events = context["outlet_events"]
        yield made


def published(shop: Shop) -> list[str]:
    return shop.site.tables.partitions("orders/predictions")


def test_the_process_scores_where_the_environment_lets_it(shop: Shop) -> None:
    value = in_process(tasks.score)(**shop.asked)
    assert (value["version"], value["partition"]) == (3, DAYS[-1]) and value["rows"] > 0
    assert published(shop) == [DAYS[-1]]
    assert shop.emitted == [("shop.orders.scored", DAYS[-1])]


def test_elsewhere_the_process_refuses_whatever_profile_the_request_names(shop: Shop) -> None:
    shop.only_pods()
    request = shop.request()
    assert request.means.profile == "own" and "custom_code" not in request.means.limits
    result = run_job(request)
    assert result.error is not None and "may not be executed in the task's process" in result.error.message
    with pytest.raises(AirflowFailException, match="score failed: .*compute profile"):
        in_process(tasks.score)(**shop.asked)
    assert published(shop) == [] and shop.emitted == []


def test_a_pods_scores_are_published_and_emitted_by_its_task(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from millrace.airflow.pods import task as pods
    from millrace.jobs.runner import run

    # Given a pod that runs the request, as it finds it in the store, and the task that the DAG has for it
    shop.only_pods()
    dag = next(d for d in build_dags("orders", str(shop.root / "dags" / "orders.py")) if d.dag_id.endswith("features"))
    made = dag.get_task("score")
    assert (type(made), made.profile, [a.name for a in made.outlets]) == (PodTask, "own", ["shop.orders.scored"])
    assert made.upstream_task_ids == {"materialize"} and "sweep_pods" in made.downstream_task_ids
    monkeypatch.setattr(pods, "out_of_reach", lambda *given: [])

    class Pod:
        deferrable, cause, seen = False, None, None

        def __init__(self, request: JobRequest) -> None:
            self.request = request

        def execute_sync(self, context: Any) -> None:
            assert run(self.request).error is None

    monkeypatch.setattr(PodTask, "_operator", lambda self, site, request, profile: _kept(self, Pod(request)))
    task = PodTask(task_id="score", work=tasks.score, arguments=shop.asked, profile="own")
    value = task.execute(get_current_context())
    assert value["version"] == 3 and value["rows"] > 0
    assert published(shop) == [DAYS[-1]]
    assert shop.emitted == [("shop.orders.scored", DAYS[-1])]
    # and when it is run again, the stored result does
    monkeypatch.setattr(PodTask, "_operator", None)
    assert task.execute(get_current_context()) == value


def _kept(task: PodTask, pod: Any) -> Any:
    task._pod = pod
    return pod


def test_while_a_pod_is_at_work_its_request_is_what_was_asked_whatever_has_changed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from millrace.airflow.pods import task as pods
    from millrace.airflow.pods.causes import OutOfSight
    from millrace.jobs.runner import run

    # Given a task that waits for its pod without a worker
    shop.only_pods()
    monkeypatch.setattr(pods, "out_of_reach", lambda *given: [])
    seen: list[JobRequest] = []

    class Pod:
        deferrable, cause, seen = True, None, None

        def __init__(self, request: JobRequest) -> None:
            seen.append(request)

        def execute_async(self, context: Any) -> None:
            raise OutOfSight("deferred")

        def trigger_reentry(self, context: Any, event: Any) -> None:
            assert run(seen[0]).error is None

    monkeypatch.setattr(PodTask, "_operator", lambda self, site, request, profile: _kept(self, Pod(request)))
    task = PodTask(task_id="score", work=tasks.score, arguments=shop.asked, profile="own")
    with pytest.raises(OutOfSight, match="deferred"):
        task.execute(get_current_context())
    # when another champion is promoted before the triggerer sees the end
    promoted(shop.site.ledger, 4, pipeline="orders", model=stored(shop.site, "model", "another"))
    context = get_current_context()
    event = {"request": seen[0].request_digest, "name": "any", "status": "success"}
    value = PodTask(task_id="score", work=tasks.score, arguments=shop.asked, profile="own").trigger_reentry(
        context, event
    )
    # then what was asked is taken, as of the version that scored, and no word of another request is believed
    assert [r.request_digest for r in seen] == [seen[0].request_digest] * 2
    assert seen[1].means.profile == "own" and seen[1].run.run_id == seen[0].run.run_id
    assert value["version"] == 3 and published(shop) == [DAYS[-1]]
    for name in ("", "sha256:" + "0" * 64):
        with pytest.raises(OutOfSight, match="asking again"):
            task.trigger_reentry(context, {**event, "request": name})


def test_a_pod_that_failed_for_good_is_made_again_only_when_somebody_cleared_the_task(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from millrace.airflow.pods import task as pods
    from millrace.airflow.pods.causes import PodFailed

    shop.only_pods()
    monkeypatch.setattr(pods, "out_of_reach", lambda *given: [])
    made: list[JobRequest] = []

    class Pod:
        deferrable, seen = False, None

        def __init__(self, request: JobRequest) -> None:
            made.append(request)
            self.cause = PodFailed("the image cannot be had")

        def execute_sync(self, context: Any) -> None:
            raise AirflowFailException("failed")

    monkeypatch.setattr(PodTask, "_operator", lambda self, site, request, profile: _kept(self, Pod(request)))
    context: Any = get_current_context()

    def tried(max_tries: int) -> int:
        """Pods that were made when the task was tried, which fails with the same reason."""
        context["ti"].max_tries, before = max_tries, len(made)
        with pytest.raises(AirflowFailException, match="the image cannot be had"):
            PodTask(task_id="score", work=tasks.score, arguments=shop.asked, profile="own").execute(context)
        return len(made) - before

    # Airflow's scheduler tries again by itself, and leaves max_tries as it is; a person's clear raises it
    assert [tried(3), tried(3), tried(3), tried(5), tried(5)] == [1, 0, 0, 1, 0]
    # and another run is another's
    context["ti"].run_id = "manual__2"
    shop.gated("manual__2")
    assert tried(5) == 1
