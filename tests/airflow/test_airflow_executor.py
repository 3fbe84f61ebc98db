"""The warm executor: libraries imported in the parent work in its grandchildren, again and again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = r"""
import hashlib, json, multiprocessing, os, sys
from millrace.airflow.runtime.executor import WarmLocalExecutor

def payload():
    import duckdb, numpy as np, torch, xgboost
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2000, 8)), rng.integers(0, 2, 2000)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 2, "seed": 1}, xgboost.DMatrix(x, y), 5)
    torch.set_num_threads(2)
    torch.manual_seed(1)
    net = torch.nn.Linear(8, 1)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        net(torch.tensor(x, dtype=torch.float32)).squeeze(), torch.tensor(y, dtype=torch.float32))
    loss.backward()
    total = duckdb.sql("select sum(i) from range(100000) t(i)").fetchall()[0][0]
    from feast.protos.feast.types.Value_pb2 import Value
    text = Value(string_val="a").SerializeToString()
    return hashlib.sha256(booster.save_raw("ubj") + net.weight.grad.numpy().tobytes() + str(total).encode() + text)

def task(results):
    results.put(payload().hexdigest())

def worker(results):
    child = fork.Process(target=task, args=(results,))
    child.start()
    child.join(120)
    sys.exit(child.exitcode)

executor = WarmLocalExecutor()
before = set(os.environ)
executor._import()
assert {"xgboost", "torch", "duckdb", "feast"} <= set(sys.modules), "not warm"
fork = multiprocessing.get_context("fork")
results = fork.SimpleQueue()
codes = []
for _ in range(int(sys.argv[1])):
    child = fork.Process(target=worker, args=(results,))
    child.start()
    child.join(150)
    codes.append(child.exitcode)
digests = [results.get() for code in codes if code == 0]
print(json.dumps({"codes": codes, "digests": digests, "left": sorted(set(os.environ) - before)}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only forked task processes can be warm")
def test_libraries_imported_by_the_parent_work_in_forked_tasks(tmp_path):
    import json

    # Given an executor that has imported the libraries, as the scheduler does
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
    # When four tasks run one after the other in forks of forked workers
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "4"], env=env, capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    # Then all of them end well, with the same bytes, and no variable of a library leaks into them
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    assert seen["codes"] == [0] * 4
    assert len(set(seen["digests"])) == 1
    assert seen["left"] == []


def test_the_module_list_is_a_setting(monkeypatch):
    from millrace.airflow.runtime.executor import DEFAULT_MODULES, warm_modules

    assert warm_modules() == list(DEFAULT_MODULES)
    monkeypatch.setenv("MILLRACE_WARM_MODULES", "json, csv")
    assert warm_modules() == ["json", "csv"]
    monkeypatch.setenv("MILLRACE_WARM_MODULES", "")
    assert warm_modules() == []


def test_every_job_is_warm():
    from millrace.airflow.runtime.executor import DEFAULT_MODULES
    from millrace.spec.jobs import TASK_JOBS

    assert {f"millrace.jobs.{job}" for job in TASK_JOBS} <= set(DEFAULT_MODULES)


def test_a_library_that_cannot_be_imported_costs_a_warning_not_the_scheduler(monkeypatch, tmp_path):
    import io
    from contextlib import redirect_stdout

    from millrace.airflow.runtime.executor import WarmLocalExecutor

    monkeypatch.setenv("MILLRACE_WARM_MODULES", "json,no_such_library_anywhere")
    heard = []
    executor = WarmLocalExecutor()
    monkeypatch.setattr(type(executor), "log", _Ears(heard), raising=False)
    with redirect_stdout(io.StringIO()):
        executor._import()
    assert any("no_such_library_anywhere" in line for line in heard)


def test_where_nothing_can_be_warm_it_says_so_once(monkeypatch):
    from airflow.executors.local_executor import LocalExecutor

    from millrace.airflow.runtime.executor import WarmLocalExecutor

    heard = []
    executor = WarmLocalExecutor()
    executor.is_mp_using_fork = False
    monkeypatch.setattr(type(executor), "log", _Ears(heard), raising=False)
    monkeypatch.setattr(LocalExecutor, "start", lambda self: None)
    executor.start()
    assert len([line for line in heard if "Nothing is warm" in line]) == 1


class _Ears:
    def __init__(self, heard):
        self.heard = heard

    def __getattr__(self, name):
        return lambda message, *args: self.heard.append(message % args if args else message)
