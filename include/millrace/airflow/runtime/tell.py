"""Tell people: by the Airflow notifiers that the environment names."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any
from urllib.parse import quote

from airflow.sdk import get_current_context
from airflow.sdk.configuration import conf

from millrace.airflow.runtime.site import Site
from millrace.spec.environment import Happening

log = logging.getLogger(__name__)


def tell(
    site: Site, happening: Happening, subject: str, text: str, *, link: str | None = None, context: Any = None
) -> None:
    """Call every notifier that the environment wants told of this. `link` is by default the task's log.

    A notifier that cannot be made or called is said in the log: nothing waits for a message, and none is tried again.
    """
    context = context or get_current_context()
    told = {
        "happening": happening,
        "subject": f"[{site.settings.environment}] {subject}",
        "text": text,
        "link": link or getattr(context.get("ti"), "log_url", None) or "",
        "pipeline": site.name,
        "environment": site.settings.environment,
    }
    for wanted in site.placed.environment.notify:
        if happening not in wanted.of:
            continue
        try:
            module, _, name = wanted.notifier.rpartition(".")
            # The Airflow notifier's own errors it logs itself.
            getattr(import_module(module), name)(**wanted.arguments)({**context, "millrace": told})
            log.info("told %s of '%s'", wanted.notifier, happening)
        except Exception as err:
            log.warning("could not tell %s of '%s': %s: %s", wanted.notifier, happening, type(err).__name__, err)


def of_a_missed_deadline(root: str, pipeline: str, limit: str, context: dict[str, Any]) -> None:
    """What Airflow calls, in a process of its executor, where a run is not done in time; `limit` is how long it had."""
    run = context["dag_run"]
    dag_id, run_id = str(run["dag_id"]), str(run["dag_run_id"])
    what = f"{dag_id}: run {run_id} is not done {limit} after it was queued"
    base = conf.get("api", "base_url", fallback="") or ""
    link = f"{base.rstrip('/')}/dags/{dag_id}/runs/{quote(run_id, safe='')}" if base else None
    text = f"{what} (it is {run.get('state')})"
    tell(Site.at(root, pipeline), "missed_deadline", what, text, link=link, context=context)


def of_a_failed_run(root: str, pipeline: str) -> Callable[[Any], None]:
    """The callback of a DAG whose run failed."""

    def callback(context: Any) -> None:
        run = context["dag_run"]
        what = f"{run.dag_id}: run {run.run_id} failed"
        tell(Site.at(root, pipeline), "failed_run", what, f"{what} ({context.get('reason')})", context=context)

    return callback
