"""Attacks one pipeline's controls on a real Airflow, with the rights of its users, and prints what came of it as JSON.

Usage: attack_driver.py PROJECT PIPELINE DATA_FOLDER FIRST_DAY .. LAST_DAY
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import driver
from driver import known, waiting
from mlflow import MlflowClient

from millrace.core.errors import MillraceError
from millrace.core.settings import Settings
from millrace.ledger import Ledger
from millrace.local.stack import down, up
from millrace.spec import ProjectTree
from millrace.store import Tables, open_store

until = partial(driver.until, limit_s=900)
"""A machine that does much else takes its time; what hangs is found by the test's own limit."""
USERS = {"bob": "op", "mallory": "op", "uma": "user", "ann": "op"}
CEO = {"chosen_options": ["Approve"], "params_input": {}, "responded_by_user": {"id": "1", "name": "the-ceo"}}


class Attack:
    """What somebody with a user's rights does to runs, through Airflow's REST API."""

    def __init__(self, running: Any, pipeline: str, ledger: Ledger) -> None:
        self.running, self.pipeline, self.ledger = running, pipeline, ledger
        self.outcome: dict[str, Any] = {}
        self._apis = {name: running.api_of(name) for name in ("admin", *USERS)}

    def call(self, user: str, method: str, path: str, body: Any = None) -> Any:
        return self._apis[user].call(method, path, body)

    def dag(self, part: str) -> str:
        return f"/dags/{self.pipeline}__{part}"

    def run(self, part: str, run_id: str) -> str:
        return f"{self.dag(part)}/dagRuns/{run_id}"

    def start(self, user: str, part: str, run_id: str, conf: dict[str, Any], partition: str | None = None) -> None:
        body = {"conf": conf, "logical_date": None, "dag_run_id": run_id, "partition_key": partition}
        self.call(user, "POST", f"{self.dag(part)}/dagRuns", {k: v for k, v in body.items() if v is not None} | {
            "logical_date": None})  # fmt: skip

    def state(self, part: str, run_id: str) -> str:
        return str(self.call("admin", "GET", self.run(part, run_id))["state"])

    def task(self, part: str, run_id: str, task: str) -> str:
        return str(self.call("admin", "GET", f"{self.run(part, run_id)}/taskInstances/{task}")["state"])

    def ends(self, part: str, run_id: str) -> str:
        until(lambda: self.state(part, run_id) in ("success", "failed"), f"{part} {run_id}")
        return self.state(part, run_id)

    def mark(self, user: str, part: str, run_id: str, task: str) -> None:
        """Mark a task as a success."""
        path = f"{self.run(part, run_id)}/taskInstances/{task}"
        self.call(user, "PATCH", path, {"new_state": "success", "include_downstream": False})

    def paste(self, user: str, part: str, run_id: str, task: str, value: Any) -> None:
        """Add an XCom to a task, or change the one it has."""
        path = f"{self.run(part, run_id)}/taskInstances/{task}/xcomEntries"
        try:
            self.call(user, "POST", path, {"key": "return_value", "value": value})
        except MillraceError as err:
            if "409" not in str(err):
                raise
            self.call(user, "PATCH", f"{path}/return_value", {"value": value})

    def clear(self, user: str, part: str, run_id: str, *tasks: str, downstream: bool = False) -> None:
        self.call(user, "POST", f"{self.dag(part)}/clearTaskInstances", {
            "dry_run": False, "dag_run_id": run_id, "task_ids": list(tasks), "only_failed": False,
            "include_downstream": downstream, "reset_dag_runs": True,
        })  # fmt: skip

    def force(self, user: str, run_id: str) -> str:
        """Mark the approval as given by somebody, and have the promotion done."""
        self.mark(user, "release", run_id, "approve")
        self.paste(user, "release", run_id, "approve", CEO)
        self.clear(user, "release", run_id, "promote")
        return self.ends("release", run_id)

    def asks(self, run_id: str) -> bool:
        return any(f"/{run_id}/" in path for path in waiting(self._apis["admin"], f"{self.pipeline}__release"))

    def answer(self, user: str, run_id: str, option: str, taken: Callable[[], bool]) -> None:
        """Answer until it is `taken`: Airflow loses an answer that comes before its scheduler has read that the task
        waits, and refuses one while the task looks around; both times the request stands there again."""
        path = f"{self.run('release', run_id)}/taskInstances/approve/-1/hitlDetails"

        def done() -> bool:
            if not taken() and self.asks(run_id):
                try:
                    self.call(user, "PATCH", path, {"chosen_options": [option], "params_input": {}})
                except MillraceError as err:
                    if "409" not in str(err):
                        raise
            return taken()

        until(done, f"the answer of {user} to {run_id}")

    def request(self, run_id: str) -> Any:
        return self.ledger.release_of(self.pipeline, run_id)

    def champion(self) -> int | None:
        champion = self.ledger.champion(self.pipeline)
        return champion.version if champion else None


def main(root: str, pipeline: str, data: str, *days: str) -> dict[str, Any]:
    tree = ProjectTree(Path(root))
    settings = Settings.load(tree.root)
    began = time.monotonic()
    running = up(tree, settings, people=USERS)
    try:
        attack = Attack(running, pipeline, Ledger.open(settings.ledger))
        until(lambda: all(known(running.api, f"{pipeline}__{part}") for part in ("features", "training", "release",
                                                                     "retirement")),
              "the DAGs to be parsed")  # fmt: skip
        print(f"{time.monotonic() - began:.0f} s: up", file=sys.stderr)
        for step in (train, forge_an_approval, forge_a_release, void_by_a_newer_one, forge_a_rejection,
                     approve_oneself, train_again):  # fmt: skip
            step(attack, days) if step is train else step(attack)
            print(f"{time.monotonic() - began:.0f} s: {step.__name__}: {attack.outcome}", file=sys.stderr)
        pass_a_failed_gate(attack, Path(data), days)
        train_for_two(attack)
        change_an_alias(attack, settings)
        tables = Tables(open_store(settings.store))
        return {
            **attack.outcome,
            "published": tables.partitions(f"{pipeline}/features"),
            "champion": attack.champion(),
            "champions": [c.version for c in attack.ledger.champions(pipeline)],
            "denied": [e.event.task for e in attack.ledger.entries(pipeline, "denied")],
            "requester": attack.ledger.registered(pipeline, 1).requester,
            "ledger_entries": attack.ledger.verify(),
            "died": [p.name for p in running.processes if not p.alive],
            "seconds": round(time.monotonic() - began, 1),
        }
    finally:
        down(settings)


def train(attack: Attack, days: tuple[str, ...]) -> None:
    """Given published days, and a first model that somebody trained by hand and that waits for an approval."""
    for day in days[:-1]:
        attack.start("uma", "features", f"day-{day}", {}, day)
    for day in days[:-1]:
        assert attack.ends("features", f"day-{day}") == "success", day
    attack.start("bob", "training", "first", {"reason": "a first model"})
    assert attack.ends("training", "first") == "success"
    until(lambda: attack.asks("release__v1"), "the first request")


def forge_an_approval(attack: Attack) -> None:
    """Mark `approve` as done, paste an approver, have `promote` done."""
    attack.outcome["parked"] = slices(attack, "release__v1")
    attack.outcome["forged approval"] = attack.force("mallory", "release__v1")
    attack.outcome["then"] = (attack.request("release__v1").state, attack.champion())
    attack.clear("mallory", "release", "release__v1", "approve", downstream=True)
    until(lambda: attack.asks("release__v1"), "the first request to be asked again")


def slices(attack: Attack, run_id: str) -> int:
    """In how many slices a task has waited, once the end of the first has resumed it and it has parked again."""
    seen, path = set(), f"{attack.run('release', run_id)}/taskInstances/approve"

    def again() -> bool:
        found = attack.call("admin", "GET", path)
        if found["state"] == "awaiting_input":
            seen.add(found["queued_when"])
        return len(seen) > 1

    until(again, f"{run_id} to wait in a second slice")
    return len(seen)


def forge_a_release(attack: Attack) -> None:
    """Ask for a version that never was, and with a form that says nonsense."""
    confs = {"v99": {"version": "99"}, "word": {"version": "one"}, "key": {"versoin": "1"}}
    states = {}
    for name, conf in confs.items():
        try:
            attack.start("uma", "release", f"by-hand-{name}", conf)
        except MillraceError as err:
            states[name] = f"refused by the form: {'400' in str(err)}"
            continue
        states[name] = attack.ends("release", f"by-hand-{name}")
    attack.outcome["forged release"] = states
    attack.outcome["waits on"] = attack.request("release__v1").state


def void_by_a_newer_one(attack: Attack) -> None:
    """A newer challenger voids the request; it leaves 'Required actions', and cannot be brought back."""
    attack.start("bob", "training", "second", {"reason": "another", "learner": {"rounds": 7}})
    assert attack.ends("training", "second") == "success"
    until(lambda: attack.asks("release__v2"), "the second request")
    attack.outcome["voided run"] = attack.ends("release", "release__v1")
    attack.outcome["withdrawn"] = not attack.asks("release__v1")
    attack.outcome["forged void"] = attack.force("mallory", "release__v1")
    attack.outcome["void stays"] = (attack.request("release__v1").state, attack.champion())


def forge_a_rejection(attack: Attack) -> None:
    """Turn a rejection into an approval."""
    attack.answer("ann", "release__v2", "Reject", lambda: attack.request("release__v2").state != "waiting")
    attack.outcome["rejected run"] = attack.ends("release", "release__v2")
    attack.outcome["forged rejection"] = attack.force("mallory", "release__v2")
    attack.clear("mallory", "release", "release__v2", "open", downstream=True)
    attack.outcome["cleared rejection"] = attack.ends("release", "release__v2")
    request = attack.request("release__v2")
    attack.outcome["rejection stays"] = (request.state, request.by, attack.champion())


def approve_oneself(attack: Attack) -> None:
    """Ask again, and approve what one has asked for; then somebody else approves it."""
    attack.start("mallory", "release", "again", {"version": "2", "reason": "please"})
    for requester in ("mallory", "bob"):
        attack.answer(requester, "again", "Approve", lambda name=requester: denials(attack, name))
    attack.outcome["approved by requesters"] = (attack.request("again").state, attack.champion())
    attack.answer("ann", "again", "Approve", lambda: attack.request("again").state != "waiting")
    attack.outcome["approved run"] = attack.ends("release", "again")
    request = attack.request("again")
    attack.outcome["approved"] = (request.state, request.by, attack.champion())


def denials(attack: Attack, name: str) -> bool:
    return any(name in entry.event.why for entry in attack.ledger.entries(attack.pipeline, "denied"))


def train_again(attack: Attack) -> None:
    """The same data, spec and code once more."""
    attack.start("ann", "training", "third", {"reason": "again", "learner": {"rounds": 7}})
    attack.outcome["same bytes"] = attack.ends("training", "third")
    attack.outcome["same bytes registered"] = [v.version for v in attack.ledger.versions(attack.pipeline)]


def pass_a_failed_gate(attack: Attack, data: Path, days: tuple[str, ...]) -> None:
    """Mark a failed gate as passed, paste the landing into it, and have the rest of the run done."""
    day = days[-1]
    path = data / f"{day}.csv"
    path.write_text(path.read_text().replace(",north,", ",norht,"))
    attack.start("uma", "features", "bad", {}, day)
    attack.outcome["bad data"] = attack.ends("features", "bad")
    landed = attack.call("mallory", "GET", f"{attack.run('features', 'bad')}/taskInstances/land.visits/xcomEntries/"
                         "return_value?deserialize=true")["value"]  # fmt: skip
    attack.mark("mallory", "features", "bad", "gate_raw")
    attack.paste("mallory", "features", "bad", "gate_raw", {"visits": landed})
    attack.clear("mallory", "features", "bad", "transform", downstream=True)
    attack.outcome["forged gate"] = (attack.ends("features", "bad"), attack.task("features", "bad", "transform"))
    attack.mark("mallory", "features", "bad", "transform")
    attack.clear("mallory", "features", "bad", "gate_features", downstream=True)
    attack.outcome["forged transform"] = attack.ends("features", "bad")
    for task in ("gate_features",):
        attack.mark("mallory", "features", "bad", task)
    attack.clear("mallory", "features", "bad", "publish", downstream=True)
    attack.outcome["forged features gate"] = attack.ends("features", "bad")


def train_for_two(attack: Attack) -> None:
    """Two ask for a retraining at the same time."""
    for user in ("ann", "bob"):
        attack.start(user, "training", f"by-{user}", {"reason": "please"})
    attack.outcome["asked twice"] = [attack.ends("training", f"by-{user}") for user in ("ann", "bob")]
    attack.outcome["trained"] = sorted(attack.task("training", f"by-{user}", "train") for user in ("ann", "bob"))


def change_an_alias(attack: Attack, settings: Settings) -> None:
    """Name another champion in MLflow, past the ledger; the retirement DAG sets it right, and retires what is old."""
    client = MlflowClient(settings.mlflow)
    client.set_registered_model_alias(attack.pipeline, "champion", "1")
    attack.start("ann", "retirement", "by-hand", {})
    attack.outcome["retirement"] = attack.ends("retirement", "by-hand")
    attack.outcome["alias"] = str(client.get_registered_model(attack.pipeline).aliases["champion"])
    attack.outcome["lives"] = {life.version: life.state for life in attack.ledger.lives(attack.pipeline)}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
