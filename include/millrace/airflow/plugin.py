"""MillracePlugin: what a project's plugins/millrace_plugin.py imports."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class MillracePlugin(AirflowPlugin):
    """Names Millrace to Airflow."""

    name = "millrace"
