"""Verdicts in a task: passed goes on, failed ends the task without retry and says on one screen why."""

from __future__ import annotations

import logging

from airflow.sdk.exceptions import AirflowFailException

from millrace.airflow.runtime.site import Site
from millrace.contract import Outcome
from millrace.rules.verdicts import summary

log = logging.getLogger(__name__)


def require(site: Site, outcome: Outcome, partition: str, dataset: str) -> None:
    """Raise AirflowFailException when the verdict is fail or absent (a gate fails closed)."""
    verdict = outcome.verdict
    if verdict is None:
        raise AirflowFailException(f"{site.name} {dataset} {partition}: the gate gave no verdict, which counts as fail")
    report = outcome.outputs.get("report")
    address = site.objects.url(report.uri) if report else "(no report)"
    text = summary(verdict, site.name, partition, dataset, address)
    if not verdict.passed:
        raise AirflowFailException(text)
    log.info("%s", text)
