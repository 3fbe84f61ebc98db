"""The whole stack on a real engine: closed, the reduced loop with servers that crash, an older volume."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from compose_stack import Stack, until
from compose_store import InStack, put_online
from docker_engine import docker
from support.recorded import differences, replay, replayed_here, write
from support.served import Served

from millrace.core.errors import MillraceError

pytestmark = [pytest.mark.timeout(2400), pytest.mark.loop]
PIPELINE = "flight_delays"
PARTS = ("features", "training", "release", "monitoring")
DAG = {part: f"{PIPELINE}__{part}" for part in PARTS}
LONG_S = 900
STATE = """
import json, os
from pathlib import Path
from millrace.ledger import Ledger
from millrace.core.settings import Settings
from millrace.store import Tables, open_store
settings = Settings.load(Path("/project"))
ledger, objects = Ledger.open(settings.ledger), open_store(settings.store)
import redis
online = redis.Redis.from_url(settings.feast_online, password=os.environ["REDISCLI_AUTH"])
from mlflow import MlflowClient
runs = [r.info.run_id for e in MlflowClient(settings.mlflow).search_experiments()
        for r in MlflowClient(settings.mlflow).search_runs([e.experiment_id])]
champion = ledger.champion("flight_delays")
print(json.dumps({
    "verified": ledger.verify(),
    "entries": {str(e.seq): [e.kind, e.subject] for e in ledger.entries("flight_delays", limit=10000)},
    "champion": champion and champion.version,
    "signed": champion is not None and champion.signer is not None,
    "decided": sorted(r.partition for r in ledger.monitoring("flight_delays")),
    "objects": {o.key: o.size for o in objects.list("")},
    "published": Tables(objects).partitions("flight_delays/features"),
    "predicted": Tables(objects).partitions("flight_delays/predictions"),
    "online": {k.decode(): online.hlen(k) for k in online.keys("*")},
    "mlflow": runs,
}))
"""


def test_only_the_pages_are_published_and_nobody_is_root(stack: Stack):
    published, users = {}, {}
    for line in stack.compose("ps", "--format", "{{.Service}} {{.ID}}").split("\n"):
        if not line:
            continue
        service, found = line.split()
        seen = json.loads(docker("inspect", found).stdout)[0]
        for port in (p for bound in seen["NetworkSettings"]["Ports"].values() for p in bound or []):
            published.setdefault(service, set()).add(port["HostIp"])
        users[service] = {line.split()[1] for line in docker("top", found, "-eo", "pid,uid").stdout.splitlines()[1:]}
        assert seen["HostConfig"]["ReadonlyRootfs"] and seen["HostConfig"]["CapDrop"] == ["ALL"]
        assert seen["HostConfig"]["Memory"] > 0 and seen["HostConfig"]["PidsLimit"] > 0
    assert published == {name: {"127.0.0.1"} for name in ("api-server", "mlflow", "serving")}
    assert len(users) == 9 and not any("0" in uids for uids in users.values()), users


def test_no_secret_stands_in_what_the_engine_or_a_log_shows(stack: Stack):
    secrets = {p.name: p.read_text().strip() for p in (stack.folder / "secrets").iterdir()}
    shown = stack.compose("logs", "--no-color") + stack.compose("config")
    for found in stack.compose("ps", "--all", "--quiet").split():
        shown += docker("inspect", found).stdout + docker("top", found, "-eo", "pid,args", check=False).stdout
    assert [name for name, value in secrets.items() if value.splitlines()[-1].split(" = ")[-1] in shown] == []


def test_a_stranger_is_refused(stack: Stack):
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{stack.airflow}/api/v2/dags", timeout=30)
    assert caught.value.code == 401
    # MLflow answers under its own names only
    runs = f"{stack.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
    assert urllib.request.urlopen(runs, timeout=30).status == 200
    asked = urllib.request.Request(runs, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(asked, timeout=30)
    assert caught.value.code == 403


def test_the_loop_outlives_its_servers(stack: Stack):
    began, api = time.monotonic(), stack.api
    until(lambda: all(known(api, dag) for dag in DAG.values()), "the DAGs to be parsed", 180, stack.logs)
    for dag in DAG.values():
        api.pause(dag, False)
    # Given four months by backfill from the command line, as a first model needs to beat a constant, and it by REST
    stack.run("scheduler", "airflow", "backfill", "create", "--dag-id", DAG["features"], "--from-date", "2013-01-01",
              "--to-date", "2013-04-01", "--max-active-runs", "2", "--run-backwards")  # fmt: skip
    until(lambda: ended(api, "features", 4), "the backfill", LONG_S, lambda: explain(api))
    assert {r["state"] for r in runs(api, "features")} == {"success"}, explain(api)
    api.trigger(DAG["training"], {"reason": "first model"})
    until(lambda: ended(api, "training", 1) and ended(api, "release", 1), "training", LONG_S, lambda: explain(api))
    before = stack.python(STATE)
    assert (before["champion"], before["signed"]) == (1, True), explain(api)
    # signed, and all that stands behind it found as it was
    entry = "/opt/millrace/platform/entrypoint.sh"
    stack.run("scheduler", entry, "millrace", "evidence", PIPELINE, "1", "--project", "/project")
    print(f"four months and a model: {time.monotonic() - began:.0f} s")
    # When each server crashes while two more months are on their way
    month = {"logical_date": None, "partition_key": "2013-05", "conf": {}}
    api.call("POST", f"/dags/{DAG['features']}/dagRuns", month)
    stack.run("scheduler", "airflow", "dags", "trigger", DAG["features"], "--conf", '{"partition": "2013-06"}')
    crashed = []
    for service in ("s3", "redis", "postgres"):
        until(lambda: patient(lambda: running(api)), "a task at work", 240, lambda: explain(api))
        stack.kill(service)
        crashed.append(service)
        until(lambda service=service: healthy(stack, service), f"{service} to come back", 120, stack.logs)
    assert len(crashed) == 3
    until(lambda: patient(lambda: settled(api, 6)), "the later months", LONG_S, lambda: explain(api))
    # Then nothing is stuck, and everything went through
    states = {part: sorted(r["state"] for r in runs(api, part)) for part in PARTS}
    assert states["features"] == ["success"] * 6, explain(api)
    assert set(states["monitoring"]) == {"success"} and len(states["monitoring"]) == 6, explain(api)
    assert set(states["release"]) == {"success"}, explain(api)
    after = stack.python(STATE)
    assert after["published"] == [f"2013-{month:02d}" for month in range(1, 7)]
    assert {"2013-05", "2013-06"} <= set(after["predicted"])
    assert set(after["decided"]) == {"2013-05", "2013-06"}
    # and what had been acknowledged before the crashes is there
    assert after["verified"] > before["verified"]
    assert before["entries"].items() <= after["entries"].items()
    assert {k for k in before["objects"] if not k.startswith("checkpoints/")} <= set(after["objects"])
    assert set(before["mlflow"]) <= set(after["mlflow"])
    assert before["online"] and all(after["online"][name] >= count for name, count in before["online"].items())
    print(f"the loop with three crashes: {time.monotonic() - began:.0f} s")


FLIGHT = """
import json
from pathlib import Path
from millrace.core.settings import Settings
from millrace.store import SnapshotStore, Tables, open_store
objects = open_store(Settings.load(Path("/project")).store)
found = Tables(objects).resolve("flight_delays/features", "2013-06").artifact
table = SnapshotStore(objects).read(found.uri, found.digest, columns=["flight_id"])
print(json.dumps(table["flight_id"][0].as_py()))
"""
SHIPPED = """
import json
from pathlib import Path
from millrace.core.settings import Settings
from millrace.store import layout, open_store
from millrace.store.served import unpack
objects = open_store(Settings.load(Path("/project")).store)
lines = [l for o in objects.list(layout.all_served("flight_delays")) for l in unpack(objects.get(o.key), o.key)]
print(json.dumps([json.loads(line)["id"] for line in lines]))
"""


def test_the_champion_answers_who_has_a_token(stack: Stack):
    # Given the champion of the loop, whose release wrote a plan
    flight = stack.python(FLIGHT)
    until(lambda: predicted(stack, flight)[0] == 200, "an answer", 60, lambda: str(predicted(stack, flight)))
    code, answer = predicted(stack, flight)
    assert code == 200, answer
    (row,) = answer["predictions"]
    assert row["version"] == 1 and row["found"] in ("found", "stale")
    assert predicted(stack, "x", token="another")[0] == 401
    # What was acknowledged is there when it was killed
    stack.kill("serving")
    until(lambda: healthy(stack, "serving"), "the server to come back", 120, stack.logs)
    stack.compose("restart", "serving")  # asked to leave, it ships what it has
    until(lambda: healthy(stack, "serving"), "the server to come back", 120, stack.logs)
    assert answer["id"] in stack.python(SHIPPED)


def test_a_recorded_rollout_is_decided_as_on_one_machine(stack: Stack, tmp_path: Path):
    # Given a pipeline beside that of the project, whose features lie in Redis
    served = Served.make(tmp_path / "served")
    put_online(stack, served)
    # When the same requests are asked here and there
    recording = write(tmp_path / "traffic.jsonl")
    there = replay(recording, InStack(stack), served)
    # Then they are answered, counted and decided alike
    assert differences(there, replayed_here(recording, served, tmp_path / "here")) == []


def predicted(stack: Stack, flight: str, token: str | None = None) -> tuple[int, dict]:
    """What the server says to a flight."""
    asked = urllib.request.Request(
        f"{stack.serving}/predict/{PIPELINE}", json.dumps({"entities": [{"flight_id": flight}]}).encode(),
        {"authorization": f"Bearer {token or stack.token}", "content-type": "application/json"},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(asked, timeout=30) as said:
            return said.status, json.loads(said.read())
    except urllib.error.HTTPError as err:
        return err.code, json.loads(err.read())


def test_an_older_volume_is_migrated_and_keeps_its_data(stack: Stack):
    # Given the volumes of the loop as an older Airflow left them
    before, head = stack.python(STATE), revision(stack)
    stack.down()
    old = f'airflow db downgrade --yes --to-version 3.2.0 && python -c "{REVISION}"'
    older = stack.compose("run", "--rm", "prepare", "sh", "-c", old, timeout=600).split()[-1]
    assert older != head
    # When it is started
    print(f"compose up from an older volume: {stack.up():.0f} s")
    # Then it is of this version, with what it held
    assert revision(stack) == head
    # (a server that leaves still ships what it has answered, and counts under a plan go with it)
    after = stack.python(STATE)
    assert kept(after) == kept(before) and before["objects"].keys() <= after["objects"].keys()
    assert len(runs(stack.api, "features")) == 6
    # and the password is still the first one
    assert stack.api.call("GET", "/dags")["total_entries"] > 0


def kept(state: dict[str, Any]) -> dict[str, Any]:
    """What the platform holds, without the logs and counts of servers."""
    of_servers = ("served/", "tallies/")
    return state | {"objects": {k: v for k, v in state["objects"].items() if not k.startswith(of_servers)}}


REVISION = (
    "import psycopg2; c = psycopg2.connect('host=postgres user=millrace dbname=airflow').cursor(); "
    "c.execute('select version_num from alembic_version'); print(c.fetchone()[0])"
)


def revision(stack: Stack) -> str:
    return stack.run("scheduler", "python", "-c", REVISION).split()[-1]


def known(api, dag_id: str) -> bool:
    problems = api.call("GET", "/importErrors")["import_errors"]
    assert not problems, problems
    try:
        api.call("GET", f"/dags/{dag_id}")
    except MillraceError:
        return False
    return True


def runs(api, part: str) -> list[dict]:
    return api.call("GET", f"/dags/{DAG[part]}/dagRuns?limit=100")["dag_runs"]


def ended(api, part: str, count: int) -> bool:
    found = runs(api, part)
    return len(found) >= count and all(r["state"] in ("success", "failed") for r in found)


def settled(api, months: int) -> bool:
    """Whether all features runs and what they set off have ended."""
    counts = {"features": months, "monitoring": months, "training": 1, "release": 1}
    return all(ended(api, part, count) for part, count in counts.items())


def running(api) -> bool:
    """Whether a task of the later months is at work, or all is over already."""
    at_work = [
        t for run in runs(api, "features") if run["state"] == "running"
        for t in api.call("GET", f"/dags/{DAG['features']}/dagRuns/{run['dag_run_id']}/taskInstances")["task_instances"]
        if t["state"] == "running"
    ]  # fmt: skip
    return bool(at_work) or settled(api, 6)


def patient(ask) -> bool:
    """What `ask` says; False while the API cannot answer, as without its database."""
    try:
        return bool(ask())
    except MillraceError:
        return False


def healthy(stack: Stack, service: str) -> bool:
    found = docker("inspect", "--format", "{{.State.Health.Status}}", stack.container(service))
    return found.stdout.strip() == "healthy"


def explain(api) -> str:
    """State of every task of the last runs."""
    lines = []
    for dag in DAG.values():
        for run in api.call("GET", f"/dags/{dag}/dagRuns?limit=4&order_by=-id")["dag_runs"]:
            tasks = api.call("GET", f"/dags/{dag}/dagRuns/{run['dag_run_id']}/taskInstances")["task_instances"]
            lines.append(
                f"{run['dag_run_id']}: {run['state']}: " + ", ".join(f"{t['task_id']}={t['state']}" for t in tasks)
            )
    return "\n".join(lines)
