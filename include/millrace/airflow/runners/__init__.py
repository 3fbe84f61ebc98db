"""Runners, a module each: where and with what a job runs, told apart by the kind of its profile
(`millrace.spec.compute`). A further one is a model there, a module here, and a line below."""

from __future__ import annotations

from airflow.sdk import DAG

from millrace.airflow.runners.pods import PODS
from millrace.airflow.runners.process import PROCESS
from millrace.airflow.runners.runner import Planned, Runner
from millrace.airflow.runtime.site import Site
from millrace.spec.compute import ComputeProfile, ProcessProfile, Profile

RUNNERS: dict[type[Profile], Runner] = {ProcessProfile: PROCESS, ComputeProfile: PODS}

__all__ = ["RUNNERS", "Planned", "Runner", "close", "runner_of"]


def runner_of(profile: Profile) -> Runner:
    """The runner of a profile's kind."""
    return RUNNERS[type(profile)]


def close(site: Site, dag: DAG) -> None:
    """End a DAG with what its jobs' runners have to put away."""
    for runner in RUNNERS.values():
        if runner.close is not None:
            runner.close(site, dag)
