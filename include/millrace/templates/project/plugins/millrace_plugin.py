from millrace.airflow.plugin import MillracePlugin  # noqa: F401
