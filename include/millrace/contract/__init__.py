"""The job contract: what crosses the border between an orchestrator and a Job.

`python -m millrace.jobs <job> --request F --result F` reads a JobRequest and writes a JobResult,
the same in the task's own process, a container or a pod.

What is stored is read for ever within a major version: a later minor only adds fields, each with a default. In what is
digested (Identity and Outcome with all that is in them) such a field has `exclude_if` for its default, so that the
digests of what an earlier minor wrote stay; in the rest a default is enough.
"""

from millrace.contract.artifact import Artifact, Classification
from millrace.contract.code import code_digest
from millrace.contract.request import CONTRACT_VERSION, Identity, Input, JobRequest, Means, Place, Run, Service
from millrace.contract.result import Check, JobError, JobResult, Metric, Observed, Outcome, Verdict

__all__ = [
    "CONTRACT_VERSION",
    "Artifact",
    "Check",
    "Classification",
    "Identity",
    "Input",
    "JobError",
    "JobRequest",
    "JobResult",
    "Means",
    "Metric",
    "Observed",
    "Outcome",
    "Place",
    "Run",
    "Service",
    "Verdict",
    "code_digest",
]
