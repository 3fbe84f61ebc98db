"""`millrace rebuild`: make the features of stale partitions anew, through the project's own Airflow."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from urllib.parse import quote
from zoneinfo import ZoneInfo

from millrace.core.errors import MillraceError, Unavailable
from millrace.core.settings import Settings
from millrace.local.rest import AirflowApi
from millrace.local.stack import current
from millrace.spec import Partitioning, ProjectTree
from millrace.spec.recipe import Recipe, listed, short
from millrace.store import Tables, open_store

CONF = {"rebuild": True}
"""Of the runs: they neither score nor let monitoring run."""
POLL_S = 2.0


@dataclass(frozen=True)
class Stale:
    """Published partitions of a pipeline that another recipe made than the present one, and all that are published."""

    pipeline: str
    recipe: str
    made_by: dict[str, str | None] = field(default_factory=dict)
    """Stale partition -> its recipe."""
    published: int = 0

    @property
    def text(self) -> str:
        """One line for a person, empty when nothing is stale."""
        if not self.made_by:
            return ""
        others = sorted({short(recipe) for recipe in self.made_by.values()})
        return (
            f"{self.pipeline}: {len(self.made_by):,} of {self.published:,} published partitions are stale "
            f"({listed(self.made_by)}): their features were made by {', '.join(others)}, now it is "
            f"{short(self.recipe)}. Make them anew: millrace rebuild {self.pipeline}"
        )


def stale(tree: ProjectTree, settings: Settings, pipeline: str) -> Stale:
    """What of a pipeline's features is stale."""
    recipe = Recipe.of(tree.bundle(pipeline))
    made_by = Tables(open_store(settings.store)).recipes(f"{pipeline}/features")
    left = {key: made for key, made in made_by.items() if not recipe.takes(made)}
    return Stale(pipeline, recipe.digest, left, len(made_by))


def rebuild(
    tree: ProjectTree,
    settings: Settings,
    pipeline: str,
    first: str | None,
    last: str | None,
    say: Callable[[str], None],
) -> int:
    """Start what makes the stale partitions between two, both included, anew, oldest first; returns how many.

    One backfill where Airflow would make exactly these; else, as in an environment without a schedule, a run each, one
    after the other, waited for. Raises MillraceError where no Airflow of this project runs, or its DAG is paused.
    """
    partitioning = tree.spec(pipeline).partitioning
    for given in (first, last):
        if given is not None:
            partitioning.check(given)
    wanted = [
        key
        for key in stale(tree, settings, pipeline).made_by
        if (first is None or key >= first) and (last is None or key <= last)  # keys of one grain sort by time
    ]
    if not wanted:
        return 0
    dag = f"{pipeline}__features"
    running = current(settings)
    if running is None or not running.alive():
        raise MillraceError(
            f"{len(wanted):,} partitions are stale ({listed(wanted)}), and no Airflow of this project runs here",
            next_step="Start it with 'millrace up'. Elsewhere run the DAG for each of them, oldest first: "
            f'airflow dags trigger {dag} --conf \'{{"partition": "{wanted[0]}", "rebuild": true}}\'',
        )
    make_anew(running.api, dag, partitioning, wanted, say)
    return len(wanted)


def make_anew(
    api: AirflowApi, dag: str, partitioning: Partitioning, wanted: list[str], say: Callable[[str], None]
) -> None:
    """Run the features DAG for these partitions, in order. Raises MillraceError for a paused DAG or a failed run."""
    if api.call("GET", f"/dags/{dag}")["is_paused"]:
        raise MillraceError("the DAG is paused, so that nothing it is asked for would begin", given=dag,
                            next_step=f"Unpause it in the UI, or with 'airflow dags unpause {dag}'")  # fmt: skip
    body = _backfill(api, dag, partitioning, wanted)
    if body is not None:
        try:
            number = api.call("POST", "/backfills", body)["id"]
        except MillraceError as err:
            if "409" not in str(err):
                raise
            raise MillraceError("a backfill of this DAG is running already", given=dag,
                                next_step="Wait for its end, then run this again") from err  # fmt: skip
        say(f"{dag}: backfill {number} makes {wanted[0]} to {wanted[-1]} anew, one after the other; see it in the UI")
        return
    for key in wanted:
        _wait(api, dag, api.run_partition(dag, key, CONF), key)
        say(f"{dag}: {key} made anew")


def _backfill(api: AirflowApi, dag: str, partitioning: Partitioning, wanted: list[str]) -> dict[str, object] | None:
    """The backfill of just these partitions, None where Airflow refuses it or would make others too."""
    for zone in (
        ZoneInfo(partitioning.timezone),
        UTC,
    ):  # Airflow reads the dates of a partitioned DAG as clock time in its zone
        first, last = (partitioning.start(key).astimezone(zone).replace(tzinfo=UTC) for key in (wanted[0], wanted[-1]))
        body: dict[str, object] = {
            "dag_id": dag,
            "from_date": first.isoformat(),
            "to_date": last.isoformat(),
            "dag_run_conf": CONF,
            "reprocess_behavior": "completed",
            "max_active_runs": 1,  # what a partition looks back to is made anew before it
        }
        try:
            found = api.call("POST", "/backfills/dry_run", body)["backfills"]
        except Unavailable:
            raise
        except MillraceError:
            return None
        if [each["partition_key"] for each in found] == wanted:
            return body
    return None


def _wait(api: AirflowApi, dag: str, run: str, key: str) -> None:
    """Until a run has ended. Raises MillraceError where it failed."""
    while True:
        state = api.call("GET", f"/dags/{dag}/dagRuns/{quote(run, safe='')}")["state"]
        if state == "success":
            return
        if state == "failed":
            raise MillraceError(f"{dag} failed for {key}; those after it were not begun", given=run,
                                next_step="Look at the run in the UI, then run this again")  # fmt: skip
        time.sleep(POLL_S)
