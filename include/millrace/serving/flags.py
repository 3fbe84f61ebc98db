"""Flags: what a traffic plan says, as an application asks for it by OpenFeature's words.

Each pipeline has three, `PIPELINE/stopped`, `PIPELINE/version` and `PIPELINE/role`. They are read from what is in
force, by the function that says which version answers a request: an application that gives the unit as its targeting
key sees the server's own assignment. Nobody changes a plan here; that goes by the ledger, with a name and a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from millrace.serving.following import PlanFollower
from millrace.serving.in_force import InForce
from millrace.serving.refused import Refused

Reason = Literal["STATIC", "SPLIT", "DISABLED", "STALE"]
Code = Literal["FLAG_NOT_FOUND", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "TYPE_MISMATCH", "PROVIDER_NOT_READY"]
FLAGS: Mapping[str, type] = {"stopped": bool, "version": int, "role": str}
"""Flag of a pipeline -> type of its value."""
_STATUS: Mapping[Code, int] = {"FLAG_NOT_FOUND": 404, "PROVIDER_NOT_READY": 503}


class FlagRefused(Refused):
    """A flag has no value for who asks; `code` says why in OpenFeature's words."""

    def __init__(self, code: Code, message: str, **parts: object) -> None:
        self.code = code
        super().__init__(_STATUS.get(code, 400), message, **parts)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Flag:
    """A flag as it was evaluated. `value` None: no version answers, and the application's default counts."""

    key: str
    value: bool | int | str | None
    reason: Reason
    variant: str
    metadata: dict[str, bool | int | str] = field(default_factory=dict)


def keys(pipeline: str) -> list[str]:
    """The flags of a pipeline."""
    return [f"{pipeline}/{name}" for name in FLAGS]


def pipeline_of(key: str) -> tuple[str, str]:
    """Pipeline and name of a flag by its key. Raises FlagRefused, FLAG_NOT_FOUND."""
    pipeline, _, name = key.rpartition("/")
    if not pipeline or name not in FLAGS:
        raise FlagRefused("FLAG_NOT_FOUND", "no such flag", given=key, allowed=keys("PIPELINE"))
    return pipeline, name


def evaluate(follower: PlanFollower, key: str, unit: str | None) -> Flag:
    """What a flag says to a unit, by its name in requests; None where who asks names none.

    `stopped`: whether a person lets no model answer. `version`, `role`: of the version that the unit meets; without a
    value where none answers. Raises FlagRefused for a flag that there is not, for a plan that was not read yet, and
    for a unit that is lacking, or is no text in Unicode, where units meet different versions.
    """
    pipeline, name = pipeline_of(key)
    now = follower.of(pipeline)
    if now is None:
        if follower.stale(pipeline):
            raise FlagRefused("PROVIDER_NOT_READY", "its plan could not be read yet", given=key)
        known = [each for other in follower.all() for each in keys(other.plan.pipeline)]
        raise FlagRefused("FLAG_NOT_FOUND", "no such flag", given=key, allowed=known[:20])
    said: dict[str, bool | int | str] = {
        "generation": now.plan.generation, "vetoed": ",".join(map(str, sorted(now.vetoed))),
        "forced": now.forced is not None,
    }  # fmt: skip
    reason: Reason = "STALE" if follower.stale(pipeline) else "STATIC"
    if name == "stopped":
        return Flag(key, now.stopped, reason, "stopped" if now.stopped else "answering", said)
    if now.met[1] is not None and reason == "STATIC":
        reason = "SPLIT"
    arm = now.arm(_unit(now, key, unit))
    if arm is None:
        return Flag(key, None, "DISABLED", "none", said)
    said["model"] = arm.model
    return Flag(key, arm.version if name == "version" else arm.role, reason, arm.role, said)


def _unit(now: InForce, key: str, unit: str | None) -> str:
    """The unit that is asked for; any where all meet the same version."""
    if now.met[1] is None:
        return ""
    if not unit:
        raise FlagRefused(
            "TARGETING_KEY_MISSING", "units meet different versions", where=key,
            next_step="Give the unit as the targeting key: what requests say in x-unit, or else the entity",
        )  # fmt: skip
    try:
        unit.encode()
    except UnicodeEncodeError:
        raise FlagRefused("INVALID_CONTEXT", "the targeting key is no text in Unicode", where=key) from None
    return unit
