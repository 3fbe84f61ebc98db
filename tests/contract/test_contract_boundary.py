"""What a room may not import, tried in fresh processes: jobs know no Airflow, the light rooms no ML library."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import millrace
from millrace.spec.jobs import JOBS

HEAVY = [
    "boto3", "duckdb", "evidently", "feast", "great_expectations", "matplotlib", "mlflow", "numpy", "onnx",
    "onnxruntime", "pandas", "pyarrow", "safetensors", "scipy", "sklearn", "torch", "xgboost",
]  # fmt: skip
LIGHT = ("checks", "cli", "contract", "core", "ledger", "local", "rules", "spec")
# Says for each forbidden library which module brought it in first.
WATCH = """
import importlib, json, sys
names, forbidden = json.loads(sys.argv[1]), json.loads(sys.argv[2])
brought = {}
for name in names:
    importlib.import_module(name)
    for library in forbidden:
        if library in sys.modules:
            brought.setdefault(library, name)
print(json.dumps(brought))
"""


def modules(*rooms: str) -> list[str]:
    """All modules of these rooms, and the package's own."""
    found = [m.name for m in pkgutil.walk_packages(millrace.__path__, "millrace.") if ".templates" not in m.name]
    return [name for name in found if name.split(".")[1] in rooms and not name.endswith("__main__")]


def brought_in(names: list[str], forbidden: list[str]) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", WATCH, json.dumps(names), json.dumps(forbidden)],
        capture_output=True, text=True, timeout=240, env={k: v for k, v in os.environ.items() if "AIRFLOW" not in k},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_jobs_and_engines_import_no_airflow():
    names = modules(
        "jobs",
        "sql",
        "sources",
        "gates",
        "models",
        "learners",
        "evaluation",
        "embeddings",
        "mlflow",
        "drift",
        "feast_stores",
        "store",
    )
    assert {f"millrace.jobs.{job}" for job in JOBS} <= set(names)
    assert brought_in(names, ["airflow", "millrace.airflow", "millrace.ledger", "millrace.cli"]) == {}


def test_light_rooms_import_no_ml_library_and_no_airflow():
    names = modules(*LIGHT)
    assert {"millrace.checks.features", "millrace.rules.governor", "millrace.spec.pipeline"} <= set(names)
    assert brought_in(names, [*HEAVY, "airflow"]) == {}


def test_what_predicts_is_light_until_a_model_is_opened():
    """A server imports it: what one kind of model needs comes when a model of that kind is opened."""
    opened = {f"millrace.models.{kind}" for kind in ("xgboost", "custom", "torch", "onnx", "onnx_graph")}
    names = [n for n in modules("models") if not any(n == kind or n.startswith(f"{kind}.") for kind in opened)]
    assert {"millrace.models.files", "millrace.models.protocol"} <= set(names)
    rooms = [f"millrace.{room}" for room in ("learners", "evaluation", "mlflow", "feast_stores", "sql", "jobs")]
    assert brought_in(names, [*(name for name in HEAVY if name != "numpy"), "airflow", *rooms]) == {}


def test_the_watch_sees_what_it_watches_for():
    assert brought_in(["millrace.spec", "millrace.jobs.transform"], ["pyarrow"]) == {
        "pyarrow": "millrace.jobs.transform"
    }


@pytest.mark.parametrize("room", ["spec", "contract"])
def test_the_lowest_rooms_import_no_other(room):
    others = ["store", "ledger", "rules", "jobs", "cli", "airflow", "gates"]
    assert brought_in(modules(room), [f"millrace.{other}" for other in others]) == {}


def test_the_command_line_starts_without_any_of_them():
    """`millrace --help` and completion are typed by people who wait for them."""
    code = (
        "import sys; sys.argv = ['millrace', '--help']\n"
        "import millrace.cli.app as app\n"
        "try: app.main()\n"
        "except SystemExit as end: assert not end.code\n"
        f"found = set({[*HEAVY, 'airflow', 'sqlalchemy']!r}) & set(sys.modules)\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for name in ("init", "new", "check", "apply", "schema", "up", "down", "ledger", "collect"):
        assert name in done.stdout


def test_a_door_is_no_string():
    """A module that is imported by a name in quotes is seen by no contract. Jobs are found by name, engines by the
    spec's model of them; nothing else is."""
    package = Path(millrace.__file__).parent
    seen = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and "import" in ast.unparse(node.func) and node.args:
                said = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
                if isinstance(said, ast.Constant) and str(said.value).startswith("millrace"):
                    seen.add(path.relative_to(package).as_posix())
    assert seen == {"jobs/runner.py"}
