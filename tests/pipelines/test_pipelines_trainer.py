"""city_temperature with a trainer of its own, the example of the docs, job by job on its real data."""

from __future__ import annotations

from typing import Any

import pytest
from support.job_by_job import ROOT, JobByJob, project

from demo import data
from millrace.contract import Artifact

DAYS = [f"2010-05-{day:02d}" for day in range(1, 32)]
RIDGE = (ROOT / "docs" / "trainer.md").read_text().split("```python\n")[1].split("```")[0]
POD = {"profile": "cpu-small"}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> JobByJob:
    """Features of May, with ridge regression instead of the network."""
    from millrace.core.settings import Settings
    from millrace.feast_stores.apply import apply

    root = tmp_path_factory.mktemp("trainer")
    (root / "include").mkdir()
    tree = project(root, "city_temperature")
    path = tree.folder("city_temperature") / "pipeline.yaml"
    text = path.read_text()
    start, end = text.index("    kind: torch_mlp"), text.index("  window: P60D")
    path.write_text(text[:start] + "    kind: custom\n    params: {penalty: 0.1}\n" + text[end:])
    (path.parent / "trainer.py").write_text(RIDGE)
    apply(tree, Settings.load(root, {}))
    line = JobByJob(tree, "city_temperature", means={"limits": {"custom_code": "process"}})
    raw: dict[str, Artifact] = {}
    for day in DAYS:
        data.write_temperatures(line.incoming, day)
        raw[day] = line.land(day)
        inputs = [("temperatures", raw[d], d) for d in DAYS if d in raw][-3:]
        line.published[day] = line.job("transform", [day], inputs).outputs["data"]
    return line


def train(line: JobByJob, means: dict[str, Any] | None = None) -> dict[str, Any]:
    rows = line.training_set(DAYS[:-1]).outputs["data"]
    other = JobByJob(line.tree, line.name, means=means or line.means)
    return {"rows": rows, "outcome": other.job("train", DAYS[:-1], [("training_set", rows, None)], learner=None)}


@pytest.fixture(scope="module")
def trained(line: JobByJob) -> dict[str, Any]:
    return train(line)


def test_it_forecasts_better_than_that_nothing_changes(line: JobByJob, trained: dict[str, Any]) -> None:
    model = trained["outcome"].outputs["model"]
    inputs = [("training_set", trained["rows"], None), ("model", model, None)]
    judged = line.job("evaluate", DAYS[:-1], inputs)
    assert judged.metrics["rmse"].value < 4, "no change is off by 6 degrees"
    day = DAYS[-1]
    scored = line.job("score", [day], [("features", line.published[day], day), ("model", model, None)], version="1")
    found = line.read(scored.outputs["data"])
    assert found.num_rows == line.published[day].rows and found["prediction"].null_count == 0


def test_a_pod_trains_the_same_bytes(line: JobByJob, trained: dict[str, Any]) -> None:
    assert train(line, POD)["outcome"].outputs["model"].digest == trained["outcome"].outputs["model"].digest


def test_the_sketch_that_drift_is_judged_by_comes_with_it(line: JobByJob, trained: dict[str, Any]) -> None:
    current = [("current", line.published[day], day) for day in DAYS[-7:]]
    model = trained["outcome"].outputs["model"]
    found = line.job("drift", DAYS[-7:], [*current, ("model", model, None)], as_of="2010-07-01T00:00:00Z")
    assert found.facts["broken"] == {}
