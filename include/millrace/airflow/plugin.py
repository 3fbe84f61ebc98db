"""MillracePlugin: what a project's plugins/millrace_plugin.py imports."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from millrace.airflow import listener
from millrace.airflow.runtime.timetable import PartitionTimetable


class MillracePlugin(AirflowPlugin):
    """Names Millrace to Airflow, in each of its processes."""

    name = "millrace"
    timetables = [PartitionTimetable]
    listeners = [listener]
