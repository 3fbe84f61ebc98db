"""`make attack`: the product of what somebody may do who may edit runs, on a real Airflow, through its REST API.

ATTACK_SEED=1 ATTACK_SECONDS=.. python tests/loop/attack_campaign.py

For every task of every DAG of a small pipeline, as admin and as op: mark it as a success; mark it as failed and clear
it; paste each of some values into its XCom; each time have what comes after it done. And runs by hand with generated
confs. The runs attacked are of data that failed their gate, of a model that failed its evaluation, of a release that
waits for an approval, and of monitoring. After each round: nothing ungated is published, registered or champion, what
was decided stands, and each attempt is in the audit trail. Ended, it goes on where it was; state and report lie in
.millrace/attack/<seed>/. Ends with 1 where something was wrong.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

import driver  # noqa: E402
from attack_driver import CEO, USERS, Attack, until  # noqa: E402
from support.small import clean, small  # noqa: E402

from millrace.core.errors import MillraceError  # noqa: E402
from millrace.core.settings import Settings  # noqa: E402
from millrace.ledger import Ledger  # noqa: E402
from millrace.local.stack import down, up  # noqa: E402
from millrace.spec import ProjectTree  # noqa: E402
from millrace.store import Tables, open_store  # noqa: E402

PIPELINE, DAYS, BAD = "orders", ("2024-01-01", "2024-01-02"), "2024-01-03"
PARTS = ("features", "training", "release", "monitoring")
BASE = {"features": "bad", "training": "poor", "release": "release__v1"}
"""Runs that must come to nothing, whatever is done to them. Monitoring has one of its own."""
CONFS: tuple[dict[str, Any], ...] = (
    {"version": "1", "reason": "mine"}, {"version": "99"}, {"version": "-1"}, {"version": "1", "evidence": "sha256:0"},
    {"partition": BAD}, {"partition": "2024-13-99"}, {"until": "2030-01-01"}, {"learner": {"rounds": "many"}},
    {"learner": {"trees": 4}}, {"decision": "none-such"}, {"approved_by": "the-ceo"}, {"rebuild": True}, {},
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One attack: what is done to which task of which DAG, by whom."""

    part: str
    task: str
    action: str
    user: str
    value: int = 0


def plan(tasks: dict[str, list[str]], seed: int) -> list[Step]:
    """All of them, in an order that the seed says, so that a part of them is a sample of all."""
    steps = [
        Step(part, task, action, user, value)
        for part, user in product(PARTS, ("admin", "mallory"))
        for task in tasks[part]
        for action, values in (("success", 1), ("failed", 1), ("paste", 5))
        for value in range(values)
    ]
    steps += [Step(p, "", "conf", u, n) for p, u, n in product(PARTS, ("admin", "mallory"), range(len(CONFS)))]
    random.Random(seed).shuffle(steps)
    return steps


class Campaign:
    """One project that is attacked. `state` is what the report is made of."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home, self.file, self.root, self.seed = home, home / "state.json", home / "project", seed
        self.state: dict[str, Any] = {"seed": seed, "ready": False, "done": [], "wrong": [], "seconds": 0.0}
        if self.file.is_file():
            self.state = json.loads(self.file.read_text())

    def save(self) -> None:
        temporary = self.file.with_suffix(".new")
        temporary.write_text(json.dumps(self.state))
        temporary.replace(self.file)

    def begin(self) -> None:
        """Make the project and the runs that are attacked."""
        if not (self.root / "include").is_dir():
            data = small(self.root, (*DAYS, BAD), approval="human\n  look_every: PT20S")
            path = data / f"{BAD}.csv"
            path.write_text(path.read_text().replace(",north,", ",norht,"))
            command = [sys.executable, "-m", "millrace.cli.app", "apply", "--project", str(self.root)]
            subprocess.run(command, check=True, capture_output=True, env=clean())
        self.tree, self.settings = ProjectTree(self.root), Settings.load(self.root)
        self.running = up(self.tree, self.settings, people=USERS)
        self.attack = Attack(self.running, PIPELINE, Ledger.open(self.settings.ledger))
        until(lambda: all(driver.known(self.running.api, f"{PIPELINE}__{part}") for part in PARTS), "the DAGs")
        if not self.state["ready"]:
            self._runs()
            self.state["ready"] = True
            self.save()
        newest = self.attack.call("admin", "GET", f"{self.attack.dag('monitoring')}/dagRuns?limit=1")["dag_runs"]
        self.base = {**BASE, "monitoring": newest[0]["dag_run_id"]}
        self.tasks = {
            part: [t["task_id"] for t in self.attack.call("admin", "GET", f"{self.attack.dag(part)}/tasks")["tasks"]]
            for part in PARTS
        }

    def _runs(self) -> None:
        attack = self.attack
        for day in DAYS:
            attack.start("uma", "features", f"day-{day}", {}, day)
        for day in DAYS:
            assert attack.ends("features", f"day-{day}") == "success", day
        attack.start("uma", "features", "bad", {}, BAD)
        attack.start("bob", "training", "first", {"reason": "a first model"})
        assert attack.ends("training", "first") == "success"
        assert attack.ends("features", "bad") == "failed"
        until(lambda: attack.asks("release__v1"), "the request")
        # a model that learns next to nothing, and fails its evaluation
        poor = {"reason": "poor", "learner": {"rounds": 1, "learning_rate": 0.001}}
        attack.start("bob", "training", "poor", poor)
        assert attack.ends("training", "poor") == "failed", "the poor model passed"

    def round(self, steps: list[Step], number: int) -> None:
        """Do one attack to each of some DAGs, let all end, and see what must hold."""
        runs = [(step, self.strike(step, f"{number}-{n}")) for n, step in enumerate(steps)]
        for step, run_id in runs:
            if run_id is not None and step.part != "release":
                self.attack.ends(step.part, run_id)
            elif run_id is not None:
                until(lambda r=run_id: self.rests(r), f"release {run_id} to end or to wait")
        for step, run_id in runs:
            self.wrong(step, run_id)
            self.state["done"].append([*asdict(step).values(), "refused" if run_id is None else "done"])

    def rests(self, run_id: str) -> bool:
        state = self.attack.state("release", run_id)
        return state in ("success", "failed") or self.attack.task("release", run_id, "approve") == "awaiting_input"

    def strike(self, step: Step, name: str) -> str | None:
        """Do it; None where Airflow itself refuses."""
        attack, run_id = self.attack, self.base[step.part]
        values = (None, {}, [], CEO, {"visits": [{"partition": BAD, "artifact": {"digest": "sha256:" + "0" * 64}}]})
        try:
            if step.action == "conf":
                key = BAD if step.part == "features" else None
                attack.start(step.user, step.part, f"by-hand-{name}", CONFS[step.value], key)
                return f"by-hand-{name}"
            self.mark(step, run_id, "failed" if step.action == "failed" else "success")
            if step.action == "failed":
                attack.clear(step.user, step.part, run_id, step.task, downstream=True)
                return run_id
            if step.action == "paste":
                attack.paste(step.user, step.part, run_id, step.task, values[step.value])
            after = self.after(step)
            if after:
                attack.clear(step.user, step.part, run_id, *after)
        except MillraceError as err:
            if not any(f" {code}:" in str(err) for code in (400, 403, 404, 409, 422)):
                raise
            return None
        return run_id

    def mark(self, step: Step, run_id: str, state: str) -> None:
        """Mark a task; Airflow calls it a conflict where it stands so already."""
        path = f"{self.attack.run(step.part, run_id)}/taskInstances/{step.task}"
        try:
            self.attack.call(step.user, "PATCH", path, {"new_state": state, "include_downstream": False})
        except MillraceError as err:
            if " 409:" not in str(err):
                raise

    def after(self, step: Step) -> list[str]:
        """The tasks that come after one, so that what was marked stays marked."""
        tasks = self.attack.call("admin", "GET", f"{self.attack.dag(step.part)}/tasks")["tasks"]
        following = {each["task_id"]: each["downstream_task_ids"] for each in tasks}
        found: list[str] = []
        todo = list(following[step.task])
        while todo:
            if (name := todo.pop()) not in found:
                found.append(name)
                todo += following[name]
        return found

    def wrong(self, step: Step, run_id: str | None) -> None:
        """Put on record what an attack has reached, and where it is not in the audit trail."""
        ledger, tables = self.attack.ledger, Tables(open_store(self.settings.store))
        found = []
        if tables.partitions(f"{PIPELINE}/features") != list(DAYS):
            found.append(f"published are {tables.partitions(f'{PIPELINE}/features')}")
        if (champion := ledger.champion(PIPELINE)) is not None:
            found.append(f"version {champion.version} is champion")
        if BAD in tables.partitions(f"{PIPELINE}/predictions"):
            found.append("what failed its gate was scored")
        poor = [each.version for each in ledger.versions(PIPELINE) if each.run == f"{PIPELINE}__training/poor"]
        if poor:
            found.append(f"the poor model was registered as {poor}")
        first = ledger.release_of(PIPELINE, "release__v1")
        if first is None or (first.answers and first.state == "approved"):
            found.append(f"the request is {first}")
        if run_id is not None:
            logs = f"/eventLogs?dag_id={PIPELINE}__{step.part}&owner={step.user}&limit=1"
            if not self.attack.call("admin", "GET", logs)["event_logs"]:
                found.append("Airflow's audit log does not name it")
            found += self.unsaid(step, run_id)
        ledger.verify()
        self.state["wrong"] += [f"{step}: {each}" for each in found]

    def unsaid(self, step: Step, run_id: str) -> list[str]:
        """Tasks that were reached with what was never decided, refused, and did not put that on record."""
        if step.action not in ("success", "paste"):
            return []
        path = f"{self.attack.run(step.part, run_id)}/taskInstances"
        states = {t["task_id"]: t["state"] for t in self.attack.call("admin", "GET", path)["task_instances"]}
        denied = {e.event.task for e in self.attack.ledger.entries(PIPELINE, "denied")
                  if e.event.run == f"{PIPELINE}__{step.part}/{run_id}"}  # fmt: skip
        forged = {"features": ("gate_raw", "transform", "gate_features"), "training": ("evaluate",),
                  "release": ("approve",), "monitoring": ()}[step.part]  # fmt: skip
        if step.task not in forged:
            return []
        failed = [task for task in self.after(step) if states.get(task) == "failed"]
        return [f"'{task}' failed and is not on record as denied" for task in failed if task not in denied]


def markdown(state: dict[str, Any], planned: int) -> str:
    """Counts by DAG and action, and all that was wrong."""
    actions = ("success", "failed", "paste", "conf")
    counted = Counter((part, action) for part, _, action, *_ in state["done"])
    refused = sum(each[-1] == "refused" for each in state["done"])
    lines = [
        f"{len(state['done'])} of {planned} attacks in {state['seconds']:.0f} s, seed {state['seed']}; {refused} "
        "refused by Airflow itself.",
        "",
        "| DAG | marked as success | marked as failed, cleared | XCom pasted | by hand with a conf |",
        "|---|---|---|---|---|",
        *(f"| {part} | " + " | ".join(str(counted[part, a]) for a in actions) + " |" for part in PARTS),
        "",
    ]
    return "\n".join([*lines, "\n".join(f"- {each}" for each in state["wrong"]) or "Nothing was wrong.", ""])


def main(home: Path, seed: int, seconds: float) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends with it
    home.mkdir(parents=True, exist_ok=True)
    campaign, until_ = Campaign(home, seed), time.monotonic() + seconds
    planned: list[Step] = []
    try:
        campaign.begin()
        planned = plan(campaign.tasks, seed)
        done = len(campaign.state["done"])
        while done < len(planned) and time.monotonic() < until_:
            began, steps = time.monotonic(), planned[done : done + 1]
            for step in planned[done + 1 : done + 4]:  # beside each other while they are of different runs
                if step.part in {each.part for each in steps}:
                    break
                steps.append(step)
            campaign.round(steps, done)
            done += len(steps)
            campaign.state["seconds"] += round(time.monotonic() - began, 1)
            campaign.save()
            print(f"{time.strftime('%H:%M:%S')} {done} of {len(planned)}, {len(campaign.state['wrong'])} wrong",
                  file=sys.stderr, flush=True)  # fmt: skip
    finally:
        if hasattr(campaign, "settings"):
            down(campaign.settings)
    report = markdown(campaign.state, len(planned))
    (home / "report.md").write_text(report)
    print(report)
    return int(bool(campaign.state["wrong"]))


if __name__ == "__main__":
    seed = int(os.environ.get("ATTACK_SEED", "1"))
    where = Path(os.environ.get("ATTACK_HOME", ROOT / ".millrace" / "attack" / str(seed)))
    sys.exit(main(where, seed, float(os.environ.get("ATTACK_SECONDS", "1e9"))))
