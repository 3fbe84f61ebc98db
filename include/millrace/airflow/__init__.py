"""The only importer of airflow: DAG builders, warm executor, retry, approval, plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import DAG


def build_dags(pipeline: str, file: str) -> list[DAG]:
    """Build the DAGs of a pipeline; what a DAG file calls with its pipeline's name and its own `__file__`.

    Imported only when called: Airflow also comes here for the executor and the plugin, which build no DAG.
    """
    from millrace.airflow.dags.build import build

    return build(pipeline, file)
