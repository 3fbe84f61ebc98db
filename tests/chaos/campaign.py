"""A campaign of kills: its rounds, and its state, which a campaign that was ended begins with."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from invariants import overtaken, wrong
from support.small import small, visits
from victims import children, choose, left, living, phase, present, title

from millrace.core.errors import MillraceError, Unavailable
from millrace.core.settings import Settings
from millrace.ledger import Ledger
from millrace.local.stack import down, up
from millrace.spec import ProjectTree

PIPELINE = "orders"
PARTS = ("features", "training", "release", "monitoring")
PATIENCE_S, IDLE_S = 2, 60
"""How long a kill waits for one DAG to be at work, and for any."""
FIRST = date(2024, 1, 1)
LIMIT_S = 900
"""What a round's runs have to end in, once nobody kills any more."""
CLEARS = 4
"""How often a run that failed is cleared, as a person would: each of its tasks has three tries more."""
STARTS = 5
VARIABLES = {
    # A task whose process is gone is found by its heartbeat. Airflow's own five and ten minutes are for slow networks.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__WORKERS__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "40",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
    # What a dead scheduler had queued is another's once this one's last heartbeat is so old.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "30",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
}


class Campaign:
    """One project that is killed at. `state` is what the report is made of."""

    def __init__(self, home: Path, seed: int, ledger: str, per_round: int = 10) -> None:
        self.per_round = per_round
        self.home, self.root, self.file = home, home / "project", home / "state.json"
        self.state: dict[str, Any] = {"seed": seed, "ledger": ledger, "round": 0, "kills": [], "wrong": [], "days": [],
                                      "trainings": [], "cleared": 0, "seconds": 0.0}  # fmt: skip
        if self.file.is_file():
            self.state = json.loads(self.file.read_text())
        os.environ.update(VARIABLES)

    @property
    def kills(self) -> int:
        return len(self.state["kills"])

    @property
    def wrong(self) -> list[str]:
        found: list[str] = self.state["wrong"]
        return found

    def begin(self) -> None:
        """Make the project where there is none, and start its Airflow."""
        if not (self.root / "include").is_dir():
            small(self.root, [str(FIRST)], **{"tolerance: 0.02": "tolerance: 0.5", "max_age: P14D": "max_age: P999D"})
        self.tree = ProjectTree(self.root)
        self.settings = Settings.load(self.root)
        self.database = self.settings.home / "airflow" / "airflow.db"
        command = [sys.executable, "-m", "millrace.cli.app", "apply", "--project", str(self.root)]
        subprocess.run(command, check=True, capture_output=True)
        self.revive()
        self.until(lambda: all(self.known(part) for part in PARTS),
                   "the DAGs")  # fmt: skip
        if not self.state["days"]:  # what a first model is trained on, undisturbed
            self.start_day()
            self.until(lambda: not self.at_work(), "the first day")

    def end(self) -> None:
        if hasattr(self, "settings"):
            down(self.settings)
        self.save()

    def save(self) -> None:
        temporary = self.file.with_suffix(".new")
        temporary.write_text(json.dumps(self.state))
        temporary.replace(self.file)

    def round(self, kills: int) -> None:
        """Start a day and a training, kill so many times while they are at work, then see what must hold."""
        began, number = time.monotonic(), self.state["round"]
        try:
            self._round(kills, number)
        finally:
            self.state["seconds"] += round(time.monotonic() - began, 1)
            self.save()
        print(f"round {number}: {time.monotonic() - began:.0f} s, wrong: {self.wrong}", file=sys.stderr, flush=True)

    def _round(self, kills: int, number: int) -> None:
        chance = random.Random(f"{self.state['seed']} {number} {self.kills}")
        self.start_day()
        self.start_training()
        done = 0
        while done < kills:
            self.await_work(chance)
            victim = choose(self.running.processes, self.database, chance)
            if victim is not None and victim.kill():
                done += 1
                self.state["kills"].append([victim.kind, victim.phase])
                self.save()
                print(f"{time.strftime('%H:%M:%S')} round {number}, kill {self.kills}: {victim.kind} at {victim.phase}",
                      file=sys.stderr, flush=True)  # fmt: skip
        self.settle()
        self.state["round"] = number + 1

    def await_work(self, chance: random.Random) -> None:
        """Wait for a moment when a DAG that is chosen at random is at work, so that kills do not all come at the first
        tasks; after a while for any, as it may have nothing to do. A project that only recovers from the last kill is
        left alone for longer: it would be killed before it has begun again."""
        wanted, began = chance.choice(PARTS), time.monotonic()
        while (waited := time.monotonic() - began) < IDLE_S:
            if not self.running.alive():
                time.sleep(chance.uniform(0, 2))
                self.revive()
            now = phase(self.database)
            alive = present(self.running.processes)["task"]  # a task whose process was killed is at work by the record
            if alive and (f"{wanted}." in now or (now != "none" and waited > PATIENCE_S)):
                break
            if now == "none" and not self.at_work():  # all has ended: there is something more to do
                self.start_day()
                self.start_training()
            time.sleep(0.1)
        time.sleep(chance.uniform(0, 0.3))

    def settle(self) -> None:
        """Let all end, clear what failed, and see what must hold."""
        for left_over in range(CLEARS, -1, -1):
            try:
                self.until(lambda: not self.at_work(), "all runs to end")
            except TimeoutError as err:
                self.wrong.append(f"a stuck run: {err}: {self.unended()}")
                return
            failed = self.failed()
            if not failed or not left_over:  # cleared once more it would be at work, and not be seen to fail
                break
            self.state["cleared"] += len(failed)
            for dag, run in failed:
                self.call("POST", f"/dags/{dag}/clearTaskInstances", {
                    "dry_run": False, "dag_run_id": run, "only_failed": True, "reset_dag_runs": True})  # fmt: skip
        found = [f"{dag} {run} fails again and again" for dag, run in self.failed()]
        self.wrong.extend(found)
        ledger = Ledger.open(self.settings.ledger)
        self.state["versions"] = len(ledger.versions(PIPELINE))
        self.state["champions"] = len(ledger.champions(PIPELINE))
        self.wrong.extend(wrong(self.settings, PIPELINE, self.state["days"], self.state["trainings"]))
        try:
            self.until(lambda: not self.litter(), "task processes to end", 60)
        except TimeoutError:
            self.wrong.append(f"left running: {self.litter()}")

    def litter(self) -> list[str]:
        """Processes of tasks and jobs, though no run is at work, and what belongs to no component."""
        there, parents = present(self.running.processes), living()
        found = [f"{pid} {title(pid)[:100]}" for kind in ("task", "job") for pid in there[kind]]
        known = {*there["worker"]}
        for scheduler in there["scheduler"]:
            found += [f"{pid} {title(pid)[:100]}" for pid in children(scheduler, parents)
                      if pid not in known and "serve-logs" not in title(pid)]  # fmt: skip
        return found + left(self.root, self.running.processes)

    def start_day(self) -> None:
        day = str(FIRST + timedelta(days=len(self.state["days"])))
        (self.root / "data" / PIPELINE / f"{day}.csv").write_text(visits(day))
        body = {"conf": {}, "logical_date": None, "partition_key": day, "dag_run_id": f"day-{day}"}
        self.start("features", body)
        self.state["days"].append(day)
        self.save()

    def start_training(self) -> None:
        name = f"training-{len(self.state['trainings']):04d}"
        conf = {"reason": "chaos", "learner": {"rounds": 10 + len(self.state["trainings"]) % 7}}
        self.start("training", {"conf": conf, "logical_date": None, "dag_run_id": name})
        self.state["trainings"].append(name)
        self.save()

    def start(self, part: str, body: dict[str, Any]) -> None:
        """Start a run; asked for again after a kill, it is there already."""
        try:
            self.call("POST", f"/dags/{PIPELINE}__{part}/dagRuns", body)
        except MillraceError as err:
            if "409" not in str(err):
                raise

    def runs(self, state: str) -> list[tuple[str, str]]:
        found = self.call("GET", f"/dags/~/dagRuns?state={state}&limit=100")["dag_runs"]
        return [(run["dag_id"], run["dag_run_id"]) for run in found]

    def failed(self) -> list[tuple[str, str]]:
        """Runs that failed though they need not."""
        late = {f"release__v{n}" for n in overtaken(Ledger.open(self.settings.ledger), PIPELINE)}
        return [(dag, run) for dag, run in self.runs("failed") if run not in late]

    def unended(self) -> list[tuple[str, str]]:
        return [run for state in ("queued", "running") for run in self.runs(state)]

    def at_work(self) -> bool:
        """Whether a run is at work, or about to be started by what an ended one left."""
        if self.unended():
            return True
        time.sleep(2)  # the scheduler makes a run of an asset's event at its next look
        return bool(self.unended())

    def known(self, part: str) -> bool:
        try:
            return bool(self.call("GET", f"/dags/{PIPELINE}__{part}"))
        except MillraceError:
            return False

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Ask Airflow, again while it does not answer, as its servers are killed too."""
        for wait in (0.5, 1, 2, 4, 8, 16, 0):
            try:
                return self.running.api.call(method, path, body)
            except Unavailable:
                if not wait:
                    raise
                if not self.running.alive():
                    self.revive()
                time.sleep(wait)

    def revive(self) -> None:
        """Start what is dead, again where a busy machine takes longer than a start may."""
        for left_over in range(STARTS, 0, -1):
            try:
                self.running = up(self.tree, self.settings)
                return
            except MillraceError:
                if left_over == 1:
                    raise

    def until(self, done: Any, what: str, limit_s: float = LIMIT_S) -> None:
        limit = time.monotonic() + limit_s
        while not done():
            if time.monotonic() > limit:
                raise TimeoutError(f"waited {limit_s} s for {what}")
            if not self.running.alive():
                self.revive()
            time.sleep(0.5)
