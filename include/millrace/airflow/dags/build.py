"""The DAGs of one pipeline, from its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from millrace.airflow.runtime.site import Site
from millrace.spec.project import find_root

if TYPE_CHECKING:
    from airflow.sdk import DAG

from pathlib import Path


def build(pipeline: str, file: str) -> list[DAG]:
    """Build the DAGs of a pipeline; Airflow registers them with the DAG file that calls this.

    `file` is the DAG file's `__file__`: it says which project is meant. A mistake in the pipeline raises SpecError,
    which Airflow shows as this file's import error and no other's.
    """
    from millrace.airflow.dags import features, monitoring, release, retirement, rollback, training

    site = Site.at(str(find_root(Path(file).parent)), pipeline)
    dags = [features.build(site)]
    if site.spec.training is not None:
        dags += [training.build(site), release.build(site)]
        if site.spec.serving is not None:
            dags.append(rollback.build(site))
    if site.spec.monitoring is not None:
        dags.append(monitoring.build(site))
    if retirement.wanted(site):
        dags.append(retirement.build(site))
    return dags
