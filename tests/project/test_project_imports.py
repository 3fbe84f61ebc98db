"""What a job's process of its own imports: nothing that it does not use."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

HEAVY = ("feast", "torch", "altair", "scipy.stats")


def imported(code: str) -> set[str]:
    """Those of the heavy libraries that a process has imported after running the code."""
    code += f"\nimport sys; print(*{set(HEAVY)} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_talking_to_mlflow_does_not_bring_feast() -> None:
    # Feast asks MLflow to import it for every header of a request
    assert any(e.value.startswith("feast.") for e in entry_points(group="mlflow.request_header_provider"))
    asked = """
import os
from millrace.core.errors import Unavailable
from millrace.mlflow.runs import connect, reaching
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
try:
    with reaching("http://127.0.0.1:9"):
        connect("http://127.0.0.1:9").search_experiments()
    raise SystemExit("somebody answers")
except Unavailable:
    pass
from mlflow.tracking.request_header import registry
assert len(list(registry._request_header_provider_registry)) >= 2
"""
    assert imported(asked) == set()


def test_feast_does_not_bring_torch() -> None:
    modules = "from millrace.feast_stores import apply, materialize, training"
    assert imported(modules) == {"feast"}
    assert imported(f"{modules}\nimport torch; torch.ones(1)") == {"feast", "torch"}


def test_great_expectations_brings_no_charts_and_no_statistics() -> None:
    loaded = "from millrace.gates import gx\ngx.load()"
    assert imported(loaded) == set()
    needed = "\nfrom great_expectations.expectations.core import expect_column_kl_divergence_to_be_less_than as kl"
    assert imported(f"{loaded}{needed}\nassert kl.stats.entropy([1.0]) == 0") == {"scipy.stats"}
