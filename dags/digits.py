# The names of airflow modules here let the DAG processor load them once, before it forks.
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator  # noqa: F401
from airflow.providers.standard.operators.hitl import ApprovalOperator  # noqa: F401
from millrace.airflow import build_dags

build_dags("digits", __file__)
