"""Drive the pipeline's DAGs as a user would, and read back what happened from Airflow and the ledger."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from millrace.core.errors import MillraceError
from millrace.core.settings import Settings
from millrace.ledger import Ledger
from millrace.local.rest import AirflowApi
from millrace.local.stack import AIRFLOW
from millrace.spec import Partitioning, ProjectTree
from millrace.store import Tables, open_store

PARTS = ("features", "training", "release", "monitoring")
ENDED = ("success", "failed")
LIMIT_S = 600


@dataclass(frozen=True)
class Month:
    """One row of the demo's table."""

    month: str
    rows: int = 0
    drift: str = ""
    decision: str = ""
    reason: str = ""
    champion: str = ""
    log_loss: float | None = None

    def summary(self, frozen: float | None, monthly: float | None) -> dict[str, Any]:
        """The row as the summary file has it."""
        return {
            "month": self.month, "rows": self.rows, "drift": self.drift, "decision": self.decision,
            "reason": self.reason, "champion": self.champion, "log_loss": self.log_loss,
            "log_loss_frozen": frozen, "log_loss_monthly": monthly,
        }  # fmt: skip


class Loop:
    """One pipeline's DAGs through the REST API and the `airflow` command."""

    def __init__(self, tree: ProjectTree, settings: Settings, api: AirflowApi, env: dict[str, str], pipeline: str):
        self.tree, self.settings, self.api, self.env, self.pipeline = tree, settings, api, env, pipeline
        self.ledger = Ledger.open(settings.ledger)
        self.tables = Tables(open_store(settings.store))

    def dag(self, part: str) -> str:
        """DAG id."""
        return f"{self.pipeline}__{part}"

    def ready(self) -> None:
        """Wait until Airflow has parsed the pipeline's DAGs. Raises MillraceError."""
        limit = time.monotonic() + LIMIT_S
        for part in PARTS:
            while True:
                try:
                    self.api.call("GET", f"/dags/{self.dag(part)}")
                    break
                except MillraceError as err:
                    if "404" not in str(err):
                        raise
                    if time.monotonic() > limit:
                        raise MillraceError(
                            "Airflow did not find the DAG",
                            given=self.dag(part),
                            next_step="Run 'make down', then the demo again: it starts Airflow with both projects",
                        ) from err
                    problems = self.api.call("GET", "/importErrors")["import_errors"]
                    if problems:
                        raise MillraceError(problems[0]["stack_trace"].strip().splitlines()[-1]) from err
                    time.sleep(0.5)

    def backfill(self, first: str, last: str) -> None:
        """`airflow backfill create` over the partitions, two at a time; waits for the end."""
        if all(self.tables.get(f"{self.pipeline}/features", k) for k in self._cut().range(first, last)):
            return
        partitioning = self._cut()
        begin, end = (wall_clock(partitioning, key) for key in (first, last))
        command = [
            *AIRFLOW, "backfill", "create", "--dag-id", self.dag("features"),
            "--from-date", begin, "--to-date", end,
            "--max-active-runs", "2", "--reprocess-behavior", "failed",
        ]  # fmt: skip
        done = subprocess.run(command, env=self.env, capture_output=True, text=True)
        if done.returncode:
            raise MillraceError("'airflow backfill create' failed", given=(done.stdout + done.stderr)[-800:])
        self.wait(lambda: self._all_ended("features", len(list(partitioning.range(first, last)))))
        self._settled("monitoring")
        self._refuse_failed("features")

    def first_champion(self, until: str) -> None:
        """Start a training by hand and wait until its model is champion."""
        if self.ledger.champion(self.pipeline) is not None:
            return
        self.train("first model", until)
        if self.ledger.champion(self.pipeline) is None:
            raise MillraceError(
                "the first model was not promoted", next_step=f"Look at {self.dag('release')} in the UI"
            )

    def features(self, month: str) -> None:
        """Publish a month's features by hand. Raises MillraceError where that fails."""
        run = self.api.trigger(self.dag("features"), {"partition": month})
        self.wait(lambda: self._state("features", run) in ENDED)
        if self._state("features", run) == "failed":
            raise MillraceError(f"features of {month} failed", next_step="Look at the run in the UI")

    def train(self, reason: str, until: str) -> None:
        """Start a training by hand, and wait until the release of what it registers has ended, however it does."""
        run = self.api.trigger(self.dag("training"), {"reason": reason, "until": until})
        self.wait(lambda: self._state("training", run) in ENDED)
        self._refuse_failed("training")
        self._settled("release")

    def arrive(self, month: str, say: Callable[[str], None]) -> None:
        """Run one partition by hand, and follow what it sets off to its end."""
        if not self._judged(month):
            self.features(month)
            say("monitoring")
            self.wait(lambda: self._judged(month))
            self._settled("monitoring")
        decision = self._decision(month)
        if decision and decision["action"] == "retrain":
            say(f"retraining ({decision['reason']})")
            self._settled("training")
            say("release")
            self._settled("release")

    def month(self, month: str) -> Month:
        """What the ledger and the tables say about a partition."""
        pointer = self.tables.get(f"{self.pipeline}/features", month)
        decision = self._decision(month) or {}
        drift = decision.get("drift") or {}
        performance = decision.get("performance") or {}
        columns = drift.get("columns") or {}
        drifted = sum(1 for c in columns.values() if c.get("drifted"))
        verdict = "" if not drift else f"{'drift' if drift.get('drifted') else 'no drift'} ({drifted}/{len(columns)})"
        champion = decision.get("champion")
        return Month(
            month=month,
            rows=int(pointer.current.rows or 0) if pointer else 0,
            drift=verdict,
            decision=decision.get("action", "none" if not decision else ""),
            reason=decision.get("reason", "no_champion"),
            champion=f"v{champion}" if champion else "",
            log_loss=(performance.get("metrics") or {}).get("log_loss"),
        )

    def _cut(self) -> Any:
        return self.tree.spec(self.pipeline).partitioning

    def _decision(self, month: str) -> dict[str, Any] | None:
        for record in self.ledger.monitoring(self.pipeline):
            if record.partition == month:
                return record.model_dump()
        return None

    def _judged(self, month: str) -> bool:
        return self._decision(month) is not None

    def _runs(self, part: str) -> list[dict[str, Any]]:
        return list(self.api.call("GET", f"/dags/{self.dag(part)}/dagRuns?limit=100&order_by=-id")["dag_runs"])

    def _state(self, part: str, run: str) -> str:
        return str(self.api.call("GET", f"/dags/{self.dag(part)}/dagRuns/{run}")["state"])

    def _all_ended(self, part: str, at_least: int) -> bool:
        runs = self._runs(part)
        return len(runs) >= at_least and all(r["state"] in ENDED for r in runs)

    def _settled(self, part: str) -> None:
        """Wait until a part has no run under way; one that is about to be created gets a moment to appear."""
        time.sleep(1.5)
        self.wait(lambda: self._all_ended(part, 0))

    def _refuse_failed(self, part: str) -> None:
        failed = [r["dag_run_id"] for r in self._runs(part)[:1] if r["state"] == "failed"]
        if failed:
            raise MillraceError(f"{self.dag(part)} failed", given=failed[0], next_step="Look at the run in the UI")

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait until it is so. Raises MillraceError where it never is."""
        limit = time.monotonic() + LIMIT_S
        while not done():
            if time.monotonic() > limit:
                raise MillraceError(f"nothing happened for {LIMIT_S} s", next_step="Look at the runs in the UI")
            time.sleep(0.5)


def wall_clock(partitioning: Partitioning, key: str) -> str:
    """A partition's start as `airflow backfill create` wants it: it reads the clock time in the DAG's own zone."""
    return partitioning.start(key).astimezone(ZoneInfo(partitioning.timezone)).replace(tzinfo=None).isoformat()
