"""GX comes without pyspark, which it would import wherever it is installed, unless Spark is the engine; then it answers
as pandas does."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
needs_pyspark = pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="pyspark is not installed")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, which is not installed")

KEPT_OUT = """
import sys
from millrace.gates import gx
gx.load()
assert "pyspark" not in sys.modules, "GX has imported pyspark"
import pyspark
assert pyspark.__version__
gx.load()
assert sys.modules["pyspark"] is pyspark
print("kept out")
"""

DIFFERENTIAL = """
import pathlib
import sys
sys.path[:0] = sys.argv[1:3]
import pyarrow.parquet as pq
import test_gates_differential as cases
from millrace.gates import engine, gx
from millrace.gates.gx import suite
from millrace.gates.sql import spark as sql_spark
from millrace.gates.gx.frame import Frame
from millrace.gates.sql.proven import PROVEN, falls_back

nulls = Frame(cases.TABLE).nulls  # as in a task: GX was loaded without Spark
entries = suite.read(cases.suite_of(cases.CASES), "s.yaml")
chosen = {}
for case, entry in zip(cases.CASES, entries, strict=True):
    if falls_back(entry, cases.KINDS, nulls) is None:
        chosen.setdefault(case[0], []).append(case)
assert set(chosen) == set(PROVEN)
given = [listed[number % len(listed)] for number, listed in enumerate(chosen.values())]  # each type, on all kinds
given += [("expect_column_values_to_match_regex", {"column": "s", "regex": "^[a-c]+$"}),
          ("expect_column_mean_to_be_between", {"column": "u8", "min_value": 1}),
          ("expect_column_values_to_not_be_null", {"column": "small"}),
          ("expect_column_values_to_not_be_null", {"column": "list"})]
engine.SQL_ROWS = 10**9
pandas = engine.validate(cases.TABLE, cases.suite_of(given), "s.yaml", lambda column: "public").results
pq.write_table(cases.TABLE, sys.argv[3])
engine.SQL_ROWS = 0
opened = []
init = sql_spark.SparkRows.__init__
sql_spark.SparkRows.__init__ = lambda self, *a: (opened.append(self), init(self, *a))[1]
where = engine.Spark("local[2]", sys.argv[3])
found = engine.validate(cases.TABLE, cases.suite_of(given), "s.yaml", lambda column: "public", spark=where).results
assert len(opened) == 1
pairs = [(cases.summary(a), cases.summary(b)) for a, b in zip(pandas, found, strict=True)]
differ = [pair for pair in pairs if pair[0] != pair[1]]
assert not differ, differ

# The job gives a pipeline whose engine is Spark a gate in Spark.
import test_jobs_validate as job
from millrace.jobs.runner import run
from millrace.spec import PipelineSpec
written = PipelineSpec.model_validate
def on_spark(data):
    data["features"].setdefault("engine", "spark")
    return written(data)
duckdb = run(job.request(pathlib.Path("duckdb"), job.GOOD))
assert len(opened) == 1
PipelineSpec.model_validate = on_spark
spark = run(job.request(pathlib.Path("spark"), job.GOOD))
assert spark.outcome.verdict == duckdb.outcome.verdict and len(opened) == 2, spark.error
print("alike:", len(given))
"""


def run(code: str, folder: Path, *arguments: str) -> str:
    script = folder / "script.py"  # pyspark ends a program that is no file
    script.write_text(code)
    env = {**os.environ, "PYTHONPATH": str(HERE.parent)}  # for `support`
    done = subprocess.run([sys.executable, "-W", "ignore", script, *arguments], capture_output=True, text=True,
                          cwd=folder, env=env, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout.strip()


@needs_pyspark
def test_gx_loads_without_pyspark_which_stays_importable(tmp_path: Path) -> None:
    assert run(KEPT_OUT, tmp_path) == "kept out"


@needs_pyspark
@needs_java
def test_each_type_answers_in_spark_as_in_pandas(tmp_path: Path) -> None:
    """Given every proven type, in a process that has GX without Spark already, then
    Spark says what pandas says: verdict, message, counts and examples."""
    count = run(DIFFERENTIAL, tmp_path, str(HERE), str(HERE.parent / "jobs"), str(tmp_path / "rows.parquet"))
    assert count.startswith("alike: ") and int(count.split()[-1]) > 30
