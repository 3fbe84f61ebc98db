"""ComputeProfiles: where and with what a job runs. One file for a project, include/compute.yaml."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from millrace.spec.base import Mistakes, Model
from millrace.spec.durations import Duration

ProfileName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
"""An amount as Kubernetes writes it: 500m, 2, 4Gi."""
Label = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
PROCESS = "process"
CUSTOM_CODE = "custom_code"
"""Limit of a request's means: `process` lets jobs execute custom code in the task's own process."""
TIME_LIMIT = Duration("PT6H")
"""How long a job may run where the spec does not say it."""
SECRET = re.compile(r"secret|passw|token|credential|access_key|api_?key|private", re.IGNORECASE)
"""Names of variables whose value has no place in a file."""


class SecretKey(Model):
    """One key of a Secret of the pods' namespace."""

    secret: Label = Field(description="Name of the Secret.")
    key: str = Field(min_length=1, description="Which of its keys.")


class Toleration(Model):
    """As in Kubernetes."""

    key: str | None = Field(default=None, description="Key of the taint; none: every taint.")
    operator: Literal["Exists", "Equal"] = Field(
        default="Equal", description="Whether the taint's value must be `value`."
    )
    value: str | None = Field(default=None, description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; none: every effect."
    )


class ProcessProfile(Model):
    """The task's own process, by the name `process`: it is always there, and has no size of its own."""


class ComputeProfile(Model):
    """A pod's size and place. Threads are not said here: they decide the bytes of an outcome, so the spec has them."""

    cpu: Quantity = Field(default="1", description="What a pod asks for.")
    cpu_limit: Quantity | None = Field(default=None, description="None: it may use what the node has left.")
    memory: Quantity = Field(default="2Gi", description="Request and limit alike: more means out of memory.")
    gpu: int = Field(default=0, ge=0, le=16, description="nvidia.com/gpu, under limits.")
    shm: Quantity | None = Field(default=None, description="Memory for /dev/shm.")
    scratch: Quantity = Field(default="10Gi", description="Largest size of /tmp, on the node's disk.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels that a node must have.")
    tolerations: tuple[Toleration, ...] = ()
    runtime_class: Label | None = Field(default=None, description="RuntimeClass of the pod, such as nvidia.")
    priority_class: Label | None = Field(default=None, description="PriorityClass of the pod.")
    service_account: Label | None = Field(default=None, description="None: the file's.")
    namespace: Label | None = Field(default=None, description="None: the file's.")
    secrets: dict[str, SecretKey] | None = Field(
        default=None, description="Variable -> key of a Secret. None: the file's."
    )
    image: str | None = Field(default=None, description="None: the file's. By digest where a registry has one.")
    pool: str | None = Field(default=None, description="Airflow pool; none: what runs in pods takes no slot here.")
    slots: int = Field(default=1, ge=1, description="Slots of the pool that one job takes.")
    deferrable: bool = Field(default=True, description="Wait in the triggerer; false for short jobs: the task waits.")
    schedule_timeout: Duration = Field(default=Duration("PT10M"), description="How long it waits for quota or a node.")
    startup_timeout: Duration = Field(default=Duration("PT10M"), description="How long images may take to arrive.")
    larger: ProfileName | None = Field(default=None, description="Taken once when memory was too small.")
    fallback: ProfileName | None = Field(default=None, description="Taken when no node can give the GPU.")
    cost_per_hour: float = Field(default=0.0, ge=0, description="Of one pod, in the currency of the site.")


Profile = ProcessProfile | ComputeProfile
"""Where and with what a job runs: a union, for each of which `airflow/runners` has a module."""


class Compute(Model):
    """The file: what all pods share, and the profiles by name. `process`, the task's own process, is always there."""

    version: Literal[1] = Field(description="Version of this format.")
    image: str = Field(
        default="millrace-jobs:latest", description="The jobs image, by digest where a registry has one."
    )
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent", description="As in Kubernetes."
    )
    image_pull_secrets: tuple[Label, ...] = Field(
        default=(), description="Secrets with a registry's password, in the pods' namespace."
    )
    namespace: Label = Field(default="millrace-jobs", description="Where pods are made.")
    service_account: Label = Field(default="millrace-job", description="Of the pods; it needs no rights.")
    connection: str = Field(default="kubernetes_default", description="Airflow Connection of the cluster.")
    env: dict[str, str] = Field(default_factory=dict, description="Variables of every pod; no secret.")
    secrets: dict[str, SecretKey] = Field(default_factory=dict, description="Variable -> key of a Secret.")
    pod_template: str | None = Field(default=None, description="A site's pod template, a path in the project.")
    allow_privileged: bool = Field(default=False, description="Let a pod template loosen the restricted standard.")
    profiles: dict[ProfileName, ComputeProfile] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> Compute:
        wrong = Mistakes()
        if PROCESS in self.profiles:
            wrong.add("'process' is the task's own process and has no size", "profiles", PROCESS)
        for name, profile in self.profiles.items():
            for key in ("larger", "fallback"):
                other = getattr(profile, key)
                if other is not None and (other not in self.profiles or other == name):
                    wrong.add(
                        "no such other profile", "profiles", name, key, given=other, allowed=sorted(self.profiles)
                    )
            if profile.fallback and not profile.gpu:
                wrong.add("is for profiles with a gpu", "profiles", name, "fallback", given=profile.fallback)
        refuse_secrets(self.env, wrong)
        wrong.done()
        return self


def refuse_secrets(env: dict[str, str], wrong: Mistakes) -> None:
    """Note each variable under `env` whose name says that its value is a secret."""
    for name in env:
        if SECRET.search(name):
            wrong.add("a secret has no place here; name a key of a Secret under 'secrets'", "env", name, given=name)
