"""The features DAG run by `dag.test()`, on good and on bad data, and without a partition."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = r"""
import json, logging, sys
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
logging.disable(logging.INFO)
import feast, great_expectations, pyarrow.csv  # as the executor does: each job is a fork of this process
bag = DagBag(sys.argv[1], bundle_path=__import__("pathlib").Path(sys.argv[1]), bundle_name="project")
assert not bag.import_errors, bag.import_errors
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select
from airflow.dag_processing.bundles.manager import DagBundlesManager
DagBundlesManager().sync_bundles_to_db()
sync_bag_to_db(bag, "project", None)
seen = {}
for dag_id, conf in json.loads(sys.argv[2]):
    run = bag.dags[dag_id].test(run_conf=conf)
    with create_session() as session:
        found = session.scalars(select(TaskInstance).where(TaskInstance.run_id == run.run_id)).all()
        tasks = {t.task_id: str(t.state) for t in found}
    seen[f"{dag_id} {conf.get('partition', '')}".strip()] = {"state": str(run.state), "tasks": tasks}
print("\n" + json.dumps(seen))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A new project with sample data, whose last day has a region that the suite does not know."""
    from millrace.cli.scaffold import init, new
    from millrace.core.settings import Settings
    from millrace.feast_stores.apply import apply
    from millrace.spec import ProjectTree

    root = tmp_path_factory.mktemp("run") / "shop"
    init(root)
    tree = ProjectTree(root)
    new(tree, "orders")
    bad = root / "data" / "orders" / "2024-01-02.csv"
    bad.write_text(bad.read_text().replace(",north,", ",norht,"))
    apply(tree, Settings.load(root, {}))
    return root


@pytest.fixture(scope="module")
def runs(project, tmp_path_factory) -> dict:
    home = tmp_path_factory.mktemp("airflow")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "MILLRACE_"))} | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(project / "plugins"),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
            [
                {
                    "name": "project",
                    "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                    "kwargs": {"path": str(project / "dags")},
                }
            ]
        ),
    }
    python = [sys.executable, "-m", "airflow"]
    subprocess.run([*python, "db", "migrate"], env=env, check=True, capture_output=True)
    wanted = [
        ("orders__features", {}),  # first: dag.test leaves a run's conf in the DAG's params
        ("orders__features", {"partition": "2024-01-01"}),
        ("orders__features", {"partition": "2024-01-02"}),
        ("orders__features", {"partition": "2024-13-01"}),
        ("orders__features", {"partition": "2030-01-01"}),
    ]
    script = home / "run.py"  # not `-c`: pyspark, where it is installed, takes that for a doctest and exits
    script.write_text(RUN)
    done = subprocess.run(
        [sys.executable, str(script), str(project / "dags"), json.dumps(wanted)],
        env=env,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return {"log": done.stdout + done.stderr, **json.loads(done.stdout.strip().splitlines()[-1])}


def test_a_good_partition_goes_through(runs):
    seen = runs["orders__features 2024-01-01"]
    assert seen["state"] == "success", seen
    assert set(seen["tasks"].values()) == {"success"}


def test_a_failed_gate_stops_the_run_and_nothing_is_published(runs, project):
    from millrace.core.settings import Settings
    from millrace.store import Tables, open_store

    seen = runs["orders__features 2024-01-02"]
    assert seen["state"] == "failed"
    assert seen["tasks"]["gate_raw"] == "failed"
    assert seen["tasks"]["transform"] == "upstream_failed"
    tables = Tables(open_store(Settings.load(project, {}).store))
    assert tables.partitions("orders/features") == ["2024-01-01"]
    assert tables.partitions("orders/raw.visits") == ["2024-01-01"]


def test_a_failed_gate_says_on_one_screen_what_failed_and_where_the_report_is(runs):
    assert "region" in runs["log"] and "norht" in runs["log"]
    assert "reports/orders/" in runs["log"]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("orders__features", "does not say which day it is for"),
        ("orders__features 2024-13-01", "is not a day partition"),
        ("orders__features 2030-01-01", "lies outside the pipeline's 2024-01-01 to 2024-01-20"),
    ],
)
def test_a_run_that_cannot_name_its_partition_fails_at_its_first_task_with_what_to_do(runs, run, words):
    assert runs[run]["tasks"]["land.visits"] == "failed"
    assert "success" not in runs[run]["tasks"].values()
    assert words in runs["log"]
