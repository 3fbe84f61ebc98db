"""The only importer of airflow: DAG builders, warm executor, retry, approval, plugin."""

from millrace.airflow.build import build_dags

__all__ = ["build_dags"]
