"""What an environment may say of compute: another cluster, image or key, never how much a job is given."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from millrace.spec.base import Mistakes, Model
from millrace.spec.compute import Compute, ComputeProfile, Label, ProfileName, SecretKey, Toleration, refuse_secrets


class ProfileOverlay(Model):
    """Where the pods of a profile go here. Their size, and what follows it, are the project's."""

    node_selector: dict[str, str] | None = Field(default=None, description="In place of the profile's.")
    tolerations: tuple[Toleration, ...] | None = Field(default=None, description="In place of the profile's.")
    runtime_class: Label | None = Field(default=None, description="In place of the profile's.")
    priority_class: Label | None = Field(default=None, description="In place of the profile's.")
    service_account: Label | None = Field(default=None, description="In place of the profile's.")
    namespace: Label | None = Field(default=None, description="In place of the profile's.")
    secrets: dict[str, SecretKey] | None = Field(default=None, description="By variable, over the profile's own.")
    image: str | None = Field(default=None, description="In place of the profile's.")


class ComputeOverlay(Model):
    """Over include/compute.yaml: `env` and `secrets` by variable, all else in its place. What is left out stays."""

    image: str | None = Field(default=None, description="In place of the file's.")
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] | None = Field(
        default=None, description="In place of the file's."
    )
    image_pull_secrets: tuple[Label, ...] | None = Field(default=None, description="In place of the file's.")
    namespace: Label | None = Field(default=None, description="In place of the file's.")
    service_account: Label | None = Field(default=None, description="In place of the file's.")
    connection: str | None = Field(default=None, description="Airflow Connection of the cluster.")
    env: dict[str, str] = Field(default_factory=dict, description="Variables of every pod; no secret.")
    secrets: dict[str, SecretKey] = Field(default_factory=dict, description="Variable -> key of a Secret.")
    profiles: dict[ProfileName, ProfileOverlay] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _no_secret(self) -> ComputeOverlay:
        wrong = Mistakes()
        refuse_secrets(self.env, wrong)
        wrong.done()
        return self


def overlaid(compute: Compute, overlay: ComputeOverlay) -> Compute:
    """The project's compute as an environment has it. Raises KeyError for a profile that the project does not have."""
    profiles = dict(compute.profiles)
    for name, said in overlay.profiles.items():
        profiles[name] = _profile(profiles[name], said)
    # A variable has one value: said under `secrets` here, it is none of the project's `env`, and the reverse.
    return compute.model_copy(
        update={
            **_said(overlay),
            "env": {n: v for n, v in compute.env.items() if n not in overlay.secrets} | overlay.env,
            "secrets": {n: k for n, k in compute.secrets.items() if n not in overlay.env} | overlay.secrets,
            "profiles": profiles,
        }
    )


def _profile(profile: ComputeProfile, said: ProfileOverlay) -> ComputeProfile:
    changed = _said(said)
    if said.secrets is not None:
        changed["secrets"] = (profile.secrets or {}) | said.secrets
    return profile.model_copy(update=changed)


def _said(overlay: Model) -> dict[str, Any]:
    return {name: value for name in type(overlay).model_fields if (value := getattr(overlay, name)) is not None}
