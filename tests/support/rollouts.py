"""Versions that take over step by step, for tests of the ledger and of what carries its decisions out."""

from __future__ import annotations

from typing import Any

from millrace.ledger import ArmRecord, Ledger, Planned, ReleaseRequest, Rollout
from support.ledger import artifact, asked, digest, evidence, promoted, said, trained, unanchored

PIPELINE = "flights"
SERVING = {"unit": "entity"}
STEPS = (0.1, 0.5)


def arm(version: int, **changes: Any) -> ArmRecord:
    """A version as a plan names it, made of the model that `support.ledger.trained` gives it."""
    given = {"model": digest(version), "deployment": artifact("deployment", 3000 + version), "share": 1.0}
    return ArmRecord(role="challenger", version=version, **{**given, **changes})


def approved(ledger: Ledger, version: int, run_id: str = "") -> ReleaseRequest:
    """A release that a person approved."""
    return ledger.answer(PIPELINE, asked(ledger, version, run_id=run_id).id, said())


def serving(ledger: Ledger, version: int) -> Rollout:
    """A champion that answers by a plan; approved by a person."""
    request = approved(ledger, version)
    ledger.promote(PIPELINE, request.id, evidence(version), trained(version), approval=True, anchor=unanchored)
    made = ledger.complete_rollout(PIPELINE, request.id, arm(version), serving=SERVING)
    assert made is not None
    return ledger.end_rollout(PIPELINE, made.id, seen={}, reason="watched")


def begun(ledger: Ledger, version: int, shadow: float | None = 1.0, steps: tuple[float, ...] = STEPS) -> Rollout:
    """A rollout of an approved version beside the champion."""
    request = approved(ledger, version)
    return ledger.begin_rollout(PIPELINE, request.id, arm(version), serving=SERVING, shadow=shadow, steps=steps)


def step(ledger: Ledger, rollout: Rollout, number: int) -> Rollout:
    """Go on to a step."""
    return ledger.advance_rollout(PIPELINE, rollout.id, number, seen={"units": 100}, reason="enough seen")


def promote(ledger: Ledger, rollout: Rollout) -> Rollout:
    """Make a rollout's version champion, and let it answer everything."""
    version = rollout.version
    ledger.promote(PIPELINE, rollout.id, evidence(version), trained(version), approval=True, anchor=unanchored)
    made = ledger.complete_rollout(PIPELINE, rollout.id, arm(version), serving=SERVING)
    assert made is not None
    return made


def roll_back(ledger: Ledger, version: int, **more: Any) -> Any:
    """What a guard's word against a version makes of it."""
    given = {"why": "units met errors", "by": "server-1", "how": "guard", "approval": True, **more}
    return ledger.roll_back(PIPELINE, version, **given)


def traffic(planned: Planned | None) -> tuple[dict[int, float], int | None, int | None]:
    """Shares of the arms, version in shadow, former version of a plan."""
    assert planned is not None
    return (
        {arm.version: round(arm.share, 6) for arm in planned.arms},
        planned.shadow.version if planned.shadow else None,
        planned.former.version if planned.former else None,
    )


__all__ = [
    "PIPELINE", "SERVING", "STEPS", "approved", "arm", "begun", "promote", "promoted", "roll_back", "serving", "step",
    "traffic",
]  # fmt: skip
