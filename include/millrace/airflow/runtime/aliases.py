"""MLflow's aliases follow what the ledger has decided; nothing is decided by them."""

from __future__ import annotations

import logging

from airflow.sdk import get_current_context

from millrace.airflow.runtime.run import outcome_of, unstored
from millrace.airflow.runtime.site import Site

log = logging.getLogger(__name__)


def crown(site: Site, version: int, model_digest: str) -> None:
    """Let the alias `champion` name the version that the ledger promoted."""
    request = site.request(
        "promote", scope=(), params={"version": version, "model_digest": model_digest}, context=get_current_context()
    )
    outcome_of(unstored(request))


def withdraw(site: Site, version: int) -> None:
    """Take the alias `challenger` from a version whose release ended without a promotion."""
    outcome_of(unstored(site.request("withdraw", scope=(), params={"version": version}, context=get_current_context())))
