"""reconcile: a real MLflow against the ledger, and `mlflow gc` against what is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from support.registry import PIPELINE, Registry

from millrace.mlflow.registry import find_versions


def ask(registry: Registry, **params: Any) -> dict[str, Any]:
    given = {"champion": None, "challengers": [], "newest": 0, "runs": {}, **params}
    outcome = registry.run("reconcile", {}, given, scope=()).outcome
    assert outcome is not None
    return outcome.facts


def run_of(registry: Registry, version: int) -> str:
    return str(registry.client.get_model_version(PIPELINE, str(version)).run_id)


def gc(registry: Registry) -> None:
    """`mlflow gc`, as somebody runs it."""
    env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    words = ["gc", "--backend-store-uri", registry.mlflow, "--tracking-uri", registry.mlflow]
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", *words], env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_deleted_run_of_a_kept_version_is_found_and_restored_before_gc_takes_it(registry):
    kept, other = registry.registered(1), registry.registered(2)
    runs = {str(version): run_of(registry, version) for version in (kept, other)}
    for run in runs.values():
        registry.client.delete_run(run)
    known = {"challengers": [kept, other], "newest": other, "runs": {str(kept): runs[str(kept)]}}

    (said,) = ask(registry, **known)["strayed"]
    assert said == f"run {runs[str(kept)]} of version {kept} is deleted, and 'mlflow gc' would remove it for good"
    ask(registry, **known, revert=[said])
    gc(registry)

    assert ask(registry, **known)["strayed"] == []
    assert registry.client.get_run(runs[str(kept)]).info.lifecycle_stage == "active"
    (gone,) = ask(registry, **{**known, "runs": {str(other): runs[str(other)]}})["strayed"]
    assert gone.startswith(f"run {runs[str(other)]} of version {other} is gone for good")


def test_a_deleted_experiment_is_restored_with_the_run(registry):
    version = registry.registered(1)
    run = run_of(registry, version)
    registry.client.delete_experiment(registry.client.get_run(run).info.experiment_id)
    known = {"challengers": [version], "newest": version, "runs": {str(version): run}}

    (said,) = ask(registry, **known)["strayed"]
    assert "is of a deleted experiment" in said
    ask(registry, **known, revert=[said])

    assert ask(registry, **known)["strayed"] == []
    assert registry.client.get_run(run).info.lifecycle_stage == "active"


def test_what_may_go_goes_once_but_not_a_run_that_a_kept_version_rests_on_too(registry):
    first, second = registry.registered(1), registry.registered(2)
    runs = {version: run_of(registry, version) for version in (first, second)}
    going = {"challengers": [second], "newest": second, "forget": {str(first): runs[first]}}

    shared = ask(registry, **going, runs={str(second): runs[first]})
    assert shared["forgotten"] == [first]
    assert registry.client.get_run(runs[first]).info.lifecycle_stage == "active"
    assert ask(registry, **going)["forgotten"] == [first]
    assert ask(registry, **going)["forgotten"] == []

    assert registry.client.get_run(runs[first]).info.lifecycle_stage == "deleted"
    assert [int(v.version) for v in find_versions(registry.client, PIPELINE, {})] == [second]


def test_only_what_was_named_is_set_right(registry):
    first, second = registry.registered(1), registry.registered(2)
    client = registry.client
    client.set_registered_model_alias(PIPELINE, "champion", str(second))
    client.set_registered_model_alias(PIPELINE, "challenger", str(first))
    known = {"champion": first, "challengers": [second], "newest": second}
    strayed = ask(registry, **known)["strayed"]
    assert strayed == [
        f"alias 'champion' names version {second}, and should name version {first}",
        f"alias 'challenger' names version {first}, and should name none",
    ]
    ask(registry, **known, revert=strayed[:1])
    assert registry.aliases() == {"champion": first, "challenger": first}
    # and what is just being registered is no stranger
    assert ask(registry, champion=first, challengers=[], newest=0)["strayed"] == []
