"""Drives one pipeline through a real Airflow and prints what happened as JSON. Run as a script by the loop tests.

Usage: driver.py PROJECT PIPELINE BACKFILL_FIRST BACKFILL_LAST BY_REST BY_HAND [OTHER_PROJECT]
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from zoneinfo import ZoneInfo

from millrace.core.settings import Settings
from millrace.ledger import Ledger
from millrace.local.stack import AIRFLOW, airflow_environment, down, up
from millrace.spec import Placed, ProjectTree
from millrace.store import Tables, open_store

LIMIT_S = 400
PARTS = ("features", "training", "release", "monitoring")


def main(root: str, pipeline: str, first: str, last: str, by_rest: str, by_hand: str, *others: str) -> dict:
    tree = ProjectTree(Path(root))
    settings = Settings.load(tree.root)
    more = [ProjectTree(Path(o)) for o in others]
    began = time.monotonic()
    running = up(tree, settings, more)
    try:
        assert up(tree, settings, more) == running, "a second Airflow beside the first"
        report = drive(running.api, tree, settings, pipeline, first, last, by_rest, by_hand)
        report["other_dags"] = [
            d["dag_id"]
            for d in running.api.call("GET", "/dags?limit=100")["dags"]
            if not d["dag_id"].startswith(pipeline)
        ]
        report["died"] = [p.name for p in running.processes if not p.alive]
        report["interfaces"] = [name for _, name in socket.if_nameindex()]
        report["processes"] = {p.name: p.pid for p in running.processes}
    finally:
        down(settings)
    report["seconds"] = round(time.monotonic() - began, 1)
    return report


def drive(api, tree, settings, pipeline, first, last, by_rest, by_hand) -> dict:
    partitioning = tree.spec(pipeline).partitioning
    env = {**os.environ, **airflow_environment(tree, settings)}
    dag = {part: f"{pipeline}__{part}" for part in PARTS}
    until(lambda: all(known(api, d) for d in dag.values()), "the DAGs to be parsed")

    def cli(*words):
        done = subprocess.run([*AIRFLOW, *words], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]

    def runs(part):
        return api.call("GET", f"/dags/{dag[part]}/dagRuns?limit=100")["dag_runs"]

    def ended(part, count):
        found = runs(part)
        return len(found) >= count and all(r["state"] in ("success", "failed") for r in found)

    history = list(partitioning.range(first, last))
    cli(
        "backfill",
        "create",
        "--dag-id",
        dag["features"],
        "--from-date",
        wall_clock(partitioning, first),
        "--to-date",
        wall_clock(partitioning, last),
        "--max-active-runs",
        "2",
        "--run-backwards",
    )
    until(lambda: ended("features", len(history)), "the backfill")
    cli("dags", "trigger", dag["training"], "--conf", json.dumps({"reason": "first model"}))
    until(lambda: ended("training", 1), "the training")
    assert runs("training")[0]["state"] == "success", explain(api, dag)
    ledger = Ledger.open(settings.ledger)
    human = Placed.of(tree, settings.environment, pipeline).approval.by == "human"
    if human:
        until(lambda: waiting(api, dag["release"]), "the request for an approval")
        assert ledger.champion(pipeline) is None, "promoted before anybody approved"
    answers = 0

    def released() -> bool:
        nonlocal answers
        for request in waiting(api, dag["release"]) if human else ():
            api.call("PATCH", request, {"chosen_options": ["Approve"], "params_input": {}})
            answers += 1
        return ended("release", 1)

    until(released, "the release")
    # An answer that comes before the scheduler has read that the task waits makes it try the task once more, and ask
    # again. Then it says so, and nothing else needs another answer.
    lost = f"reported that the task instance <TaskInstance: {dag['release']}.approve "
    said = (settings.home / "logs" / "scheduler.log").read_text(errors="replace").count(lost)
    assert answers <= 1 + said, f"asked {answers} times, {said} answers were lost"
    first_champion = ledger.champion(pipeline)
    assert first_champion is not None, explain(api, dag)
    api.call("POST", f"/dags/{dag['features']}/dagRuns", {"logical_date": None, "partition_key": by_rest, "conf": {}})
    cli("dags", "trigger", dag["features"], "--conf", json.dumps({"partition": by_hand}))
    nameless = api.trigger(dag["features"], {})
    until(lambda: ended("features", len(history) + 3), "the later partitions")
    until(lambda: ended("monitoring", len(history) + 2), "monitoring in all ways of starting")
    until(lambda: ended("training", 1) and ended("release", 1), "what monitoring set off")
    tables = Tables(open_store(settings.store))
    decided = {r.partition: r for r in ledger.monitoring(pipeline)}
    return {
        "history": history,
        "states": {part: sorted(r["state"] for r in runs(part)) for part in PARTS},
        "nameless": api.call("GET", f"/dags/{dag['features']}/dagRuns/{nameless}")["state"],
        "monitored": sorted(r["partition_key"] for r in runs("monitoring")),
        "published": tables.partitions(f"{pipeline}/features"),
        "predicted": tables.partitions(f"{pipeline}/predictions"),
        "first_champion": {"version": first_champion.version, "trained_to": first_champion.trained.trained_to},
        "decisions": {key: [seen.action, seen.reason] for key, seen in decided.items()},
        "approvals": [e.body for e in ledger.entries(pipeline, kind="approval")],
        "ledger_entries": ledger.verify(),
    }


def wall_clock(partitioning, key) -> str:
    """A partition's start as `airflow backfill create` wants it: clock time in the DAG's own zone."""
    return partitioning.start(key).astimezone(ZoneInfo(partitioning.timezone)).replace(tzinfo=None).isoformat()


def waiting(api, dag_id) -> list[str]:
    """Paths of the unanswered requests of a DAG, as a person sees them under 'Required actions'."""
    found = api.call("GET", f"/dags/{dag_id}/dagRuns/~/hitlDetails?response_received=false")["hitl_details"]
    tasks = [request["task_instance"] for request in found]
    return [f"/dags/{t['dag_id']}/dagRuns/{t['dag_run_id']}/taskInstances/{t['task_id']}/-1/hitlDetails" for t in tasks]


def known(api, dag_id) -> bool:
    from millrace.core.errors import MillraceError

    problems = api.call("GET", "/importErrors")["import_errors"]
    assert not problems, problems
    try:
        api.call("GET", f"/dags/{dag_id}")
    except MillraceError:
        return False
    return True


def until(done, what, limit_s=LIMIT_S) -> None:
    limit = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < limit, f"waited {limit_s} s for {what}"
        time.sleep(0.5)


def explain(api, dag) -> str:
    """State of every task of the last runs, for the message of a failed test."""
    lines = []
    for part in dag.values():
        for run in api.call("GET", f"/dags/{part}/dagRuns?limit=3&order_by=-id")["dag_runs"]:
            tasks = api.call("GET", f"/dags/{part}/dagRuns/{run['dag_run_id']}/taskInstances")["task_instances"]
            lines.append(f"{run['dag_run_id']}: " + ", ".join(f"{t['task_id']}={t['state']}" for t in tasks))
    return "\n".join(lines)


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
