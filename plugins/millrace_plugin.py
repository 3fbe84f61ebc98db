from millrace.airflow.plugin import MillracePlugin
