"""Rollouts and the traffic plans that follow from them: each change writes both, in one transaction.

A pipeline has one open rollout at most. Its plans are numbered in the transaction that looked at the newest one, so
that of several who decide at once each sees what the one before decided; the copy in the store only follows.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection

from millrace.core.errors import Conflict, LedgerError
from millrace.ledger import chain, champions, quarantine, releases
from millrace.ledger.events import ArmRecord, Planned, ReleaseRequest, Rollout, Switched, Toggled
from millrace.ledger.events.serving import How

Steering = Literal["pause", "resume", "hasten", "abort"]
_OPEN = [f'"state":"{state}"' for state in ("shadow", "step", "full")]


def plan(connection: Connection, pipeline: str) -> Planned | None:
    """The plan in force, None before the first one."""
    found = chain.entries(connection, pipeline, Planned.kind, limit=1)
    return chain.of(Planned, found[0]) if found else None


def get(connection: Connection, pipeline: str, rollout_id: str) -> Rollout | None:
    """A rollout as it stands, None where it has not begun."""
    return chain.state(connection, Rollout, pipeline, rollout_id)


def open_(connection: Connection, pipeline: str) -> Rollout | None:
    """The rollout that goes on, None where there is none."""
    found = [each for each in chain.states(connection, Rollout, pipeline, holding=_OPEN) if each.open]
    return found[-1] if found else None


def arm_of(connection: Connection, pipeline: str, version: int) -> ArmRecord | None:
    """A version as the newest plan that named it had it, None for one that was never served."""
    for entry in reversed(chain.holding(connection, pipeline, Planned.kind, f'"version":{version}')):
        for arm in chain.of(Planned, entry).versions:
            if arm.version == version:
                return arm
    return None


def begin(
    connection: Connection,
    pipeline: str,
    request_id: str,
    new: ArmRecord,
    *,
    serving: Mapping[str, Any],
    shadow: float | None,
    steps: tuple[float, ...],
    reason: str = "",
) -> Rollout:
    """Let an approved version begin to take over from the champion, which answers by the plan in force. Said again, the
    rollout stands as it is; another open one of the pipeline ends.

    Raises LedgerError for a release that is not approved and for a model in quarantine, Conflict where another version
    became champion meanwhile or a newer one is on its way.
    """
    if (known := get(connection, pipeline, request_id)) is not None:
        return known
    request = releases.get(connection, pipeline, request_id)
    what = f"the rollout of {pipeline} version {new.version}"
    if request.state != "approved" or request.version != new.version:
        raise LedgerError(f"{what} cannot begin: its release is {releases.words(request)}")
    quarantine.check(connection, pipeline, new.version, new.model)
    if shadow is None and not steps:
        raise LedgerError(f"{what} has neither a shadow nor a step: it is promoted at once")
    stands, champion = plan(connection, pipeline), champions.champion(connection, pipeline)
    if champion is None or champion.generation != request.expected_generation:
        raise Conflict(f"{what} cannot begin: another version became champion meanwhile",
                       next_step="Start the release again")  # fmt: skip
    if stands is None or stands.champion is None or stands.champion.version != champion.version:
        raise Conflict(f"{what} cannot begin: the champion answers by no plan, so that nothing stands beside it")
    _end_other(connection, pipeline, request, f"version {new.version} follows")
    generation = stands.generation + 1
    made = Rollout(
        pipeline=pipeline, id=request_id, version=new.version, model=new.model, deployment=new.deployment,
        former=champion.version, since=generation, shadow=shadow, steps=steps,
        state="step" if shadow is None else "shadow", step=1 if shadow is None else 0, planned=generation,
        began=_now(connection, pipeline), how="automatic", by=request.by, reason=reason or request.reason, seen={},
    )  # fmt: skip
    chain.append(connection, made)
    former = stands.former if stands.former is None or not _is(stands.former, new.version, new.model) else None
    _plan(connection, stands, made, serving=dict(serving), since=generation, salt=secrets.token_hex(8), former=former,
          **_traffic(stands, made))  # fmt: skip
    return made


def advance(
    connection: Connection,
    pipeline: str,
    rollout_id: str,
    stage: int,
    *,
    seen: Mapping[str, Any],
    reason: str,
    how: How = "automatic",
    by: str = "its rules",
) -> Rollout:
    """Go on to the next step, by its number. One that has ended, is there already, or was paused meanwhile stays.

    Raises LedgerError for a step that is not the next one."""
    known = _known(connection, pipeline, rollout_id)
    if not known.open or known.paused or known.stage >= stage:
        return known
    if stage != known.stage + 1 or stage > len(known.steps):
        raise LedgerError(f"the rollout of {pipeline} version {known.version} cannot go on to step {stage}",
                          given=words(known), allowed=f"the next of {len(known.steps)} steps")  # fmt: skip
    stands = _stands(connection, pipeline)
    made = _record(connection, known, state="step", step=stage, planned=stands.generation + 1, hastened=False,
                   began=_now(connection, pipeline), seen=dict(seen), reason=reason, how=how, by=by)  # fmt: skip
    _plan(connection, stands, made, **_traffic(stands, made))
    return made


def full(
    connection: Connection,
    pipeline: str,
    request_id: str,
    new: ArmRecord,
    *,
    serving: Mapping[str, Any],
    former: ArmRecord | None = None,
    seen: Mapping[str, Any] | None = None,
    reason: str = "",
) -> Rollout | None:
    """Let the champion that a release made answer everything, with the one before kept warm to go back to.

    A version that took over without a shadow or a step begins its rollout by this. `former` is that champion where no
    plan has named it. Said again, the rollout stands as it is; None where another version became champion since.
    """
    champion, known = champions.champion(connection, pipeline), get(connection, pipeline, request_id)
    if champion is None or champion.release != request_id:
        return known
    if known is not None and (not known.open or known.state == "full"):
        return known
    if quarantine.of(connection, pipeline, new.model) is not None:
        return known  # rolled back before it was planned
    request, stands = releases.get(connection, pipeline, request_id), plan(connection, pipeline)
    _end_other(connection, pipeline, request, f"version {new.version} became champion")
    generation = stands.generation + 1 if stands else 1
    was = stands.champion if stands is not None else None
    before = former if was is None or was.version == new.version else was
    if before is not None and (before.version == new.version or quarantine.of(connection, pipeline, before.model)):
        before = None
    given: dict[str, Any] = {
        "state": "full", "step": 0, "planned": generation, "began": _now(connection, pipeline), "paused": False,
        "hastened": False, "how": "automatic", "by": request.by, "reason": reason or request.reason,
        "seen": dict(seen or {}),
    }  # fmt: skip
    if known is None:
        made = Rollout(pipeline=pipeline, id=request_id, version=new.version, model=new.model,
                       deployment=new.deployment, former=before.version if before else None, since=generation,
                       shadow=None, steps=(), **given)  # fmt: skip
        chain.append(connection, made)
    else:
        made = _record(connection, known, **given)
    changes: dict[str, Any] = {
        "arms": (new.model_copy(update={"role": "champion", "share": 1.0}),),
        "shadow": None,
        "former": before.model_copy(update={"role": "champion", "share": 1.0}) if before else None,
    }
    if known is None:
        changes |= {"serving": dict(serving), "since": generation, "salt": secrets.token_hex(8)}
    _plan(connection, stands, made, **changes)
    return made


def done(connection: Connection, pipeline: str, rollout_id: str, *, seen: Mapping[str, Any], reason: str) -> Rollout:
    """End a rollout whose version was watched long enough, and the watch; one that is not watched stays as it is."""
    known = _known(connection, pipeline, rollout_id)
    if known.state != "full" or known.paused:
        return known
    made = _record(connection, known, state="done", seen=dict(seen), reason=reason, how="automatic", by="its rules")
    _plan(connection, _stands(connection, pipeline), made)
    return made


def steer(
    connection: Connection,
    pipeline: str,
    what: Steering,
    *,
    by: str,
    reason: str,
    how: How = "person",
    rollout_id: str | None = None,
    seen: Mapping[str, Any] | None = None,
) -> Rollout:
    """Pause, resume, hasten or abort the open rollout: it waits, goes on, goes on without waiting, or ends with the
    champion answering alone. `rollout_id`: that one only, and as it stands where it has ended.

    Raises LedgerError where none is open, and for an abort of a version that is champion already.
    """
    known = open_(connection, pipeline) if rollout_id is None else _known(connection, pipeline, rollout_id)
    if known is None:
        raise LedgerError(f"no rollout of {pipeline} is under way", given=what)
    if rollout_id is not None and not known.open:
        return known
    moved = {"by": by, "how": how, "reason": reason, "seen": dict(seen or {})}
    if what != "abort":
        changes = {
            "pause": {"paused": True},
            "resume": {"paused": False},
            "hasten": {"hastened": True, "paused": False},
        }
        return _record(connection, known, **moved, **changes[what])
    if known.state == "full":
        raise LedgerError(f"{pipeline} version {known.version} is champion already: it cannot be aborted",
                          next_step="Roll it back")  # fmt: skip
    made = _record(connection, known, state="aborted", **moved)
    releases.refuse(connection, pipeline, known.id, f"its rollout was aborted by {by}: {reason}")
    stands = _stands(connection, pipeline)
    _plan(connection, stands, made, **_traffic(stands, made))
    return made


def toggle(
    connection: Connection, pipeline: str, *, by: str, reason: str, stopped: bool = False, version: int | None = None
) -> Planned:
    """Stop all models, let one version of the plan answer everything, or neither. Said again, it changes nothing.

    Raises LedgerError where there is no plan, and for a version that it does not name.
    """
    stands = _stands(connection, pipeline)
    if version is not None and version not in (known := sorted({arm.version for arm in stands.versions})):
        raise LedgerError(f"the plan of {pipeline} does not name this version", given=version, allowed=known)
    wanted = Switched(stopped=stopped, version=version)
    if stands.toggles == wanted:
        return stands
    chain.append(connection, Toggled(pipeline=pipeline, stopped=stopped, version=version, by=by, reason=reason))
    return _plan(connection, stands, None, toggles=wanted, reason=reason, by=by, rollout=stands.rollout)


def check_promotable(connection: Connection, pipeline: str, request_id: str) -> None:
    """Raise LedgerError for a release whose rollout is not at its last step."""
    known = get(connection, pipeline, request_id)
    if known is not None and known.state != "full" and known.open and known.stage < len(known.steps):
        raise LedgerError(f"{pipeline} version {known.version} cannot be promoted: its rollout is {words(known)}")


def replan(connection: Connection, stands: Planned, **changes: Any) -> Planned:
    """Add the plan that follows one, with what a rollback changes of it."""
    return _plan(connection, stands, None, **changes)


def end(connection: Connection, rollout: Rollout, **changes: Any) -> Rollout:
    """Put on record how a rollout ended."""
    return _record(connection, rollout, **changes)


def words(rollout: Rollout) -> str:
    """How a rollout stands, for a person."""
    at = {
        "shadow": "in shadow",
        "step": f"at step {rollout.step} of {len(rollout.steps)}",
        "full": "answering everything, watched",
        "done": "done",
        "rolled_back": f"rolled back by {rollout.by}: {rollout.reason}",
        "aborted": f"aborted by {rollout.by}: {rollout.reason}",
        "superseded": f"superseded: {rollout.reason}",
    }[rollout.state]
    paused = f", paused by {rollout.by}: {rollout.reason}" if rollout.open and rollout.paused else ""
    return at + paused + (", hastened" if rollout.open and rollout.hastened else "")


def _traffic(stands: Planned, rollout: Rollout) -> dict[str, Any]:
    """Arms and shadow of the plan that follows from a rollout before its version is champion."""
    assert stands.champion is not None
    champion = stands.champion.model_copy(update={"share": 1.0})
    new = ArmRecord(role="challenger", version=rollout.version, model=rollout.model, deployment=rollout.deployment,
                    share=rollout.shadow or 0.0)  # fmt: skip
    if rollout.state == "shadow":
        return {"arms": (champion,), "shadow": new}
    if rollout.state == "step":
        share = rollout.steps[rollout.step - 1]
        arms = (champion.model_copy(update={"share": 1.0 - share}), new.model_copy(update={"share": share}))
        return {"arms": arms, "shadow": None}
    return {"arms": (champion,), "shadow": None}


def _plan(connection: Connection, stands: Planned | None, cause: Rollout | None, **changes: Any) -> Planned:
    """Add the plan after the one that stands; guards look while a rollout is open. A version that persons let answer
    everything is forgotten once the plan no longer names it."""
    if cause is not None:
        changes = {"reason": cause.reason, "rollout": cause.id, "by": cause.by, **changes}
    of = stands or cause
    assert of is not None
    changes["watched"] = open_(connection, of.pipeline) is not None
    if stands is None:
        made = Planned(pipeline=of.pipeline, generation=1, **changes)
    else:
        made = stands.model_copy(update={"generation": stands.generation + 1, **changes})
    if made.toggles.version is not None and made.toggles.version not in {arm.version for arm in made.versions}:
        made = made.model_copy(update={"toggles": Switched(stopped=made.toggles.stopped)})
    chain.append(connection, made)
    return made


def _end_other(connection: Connection, pipeline: str, request: ReleaseRequest, why: str) -> None:
    """End another open rollout, and its release where that made no champion. Raises Conflict where it is of a newer
    version, unless a version comes back."""
    other = open_(connection, pipeline)
    if other is None or other.id == request.id:
        return
    if (
        other.version > request.version
        and other.state != "full"
        and request.state == "approved"
        and not request.rollback
    ):
        raise Conflict(f"a rollout of {pipeline} version {other.version} is under way, and version {request.version} "
                       "is older", next_step="Abort that one first, if this one shall take its place")  # fmt: skip
    _record(connection, other, state="superseded", how="automatic", by=request.by, reason=why, seen={})
    releases.refuse(connection, pipeline, other.id, f"its rollout was superseded: {why}")


def _record(connection: Connection, rollout: Rollout, **changes: Any) -> Rollout:
    changed = rollout.model_copy(update=changes)
    chain.append(connection, changed)
    return changed


def _known(connection: Connection, pipeline: str, rollout_id: str) -> Rollout:
    found = get(connection, pipeline, rollout_id)
    if found is None:
        raise LedgerError(f"no such rollout of {pipeline} has begun", given=rollout_id)
    return found


def _stands(connection: Connection, pipeline: str) -> Planned:
    found = plan(connection, pipeline)
    if found is None:
        raise LedgerError(f"{pipeline} has no traffic plan: nothing of it is served yet",
                          next_step="Release a version of it with 'serving' in pipeline.yaml")  # fmt: skip
    return found


def _is(arm: ArmRecord, version: int, model: str) -> bool:
    return arm.version == version or arm.model == model


def _now(connection: Connection, pipeline: str) -> str:
    return chain.not_before(connection, pipeline, datetime.now(UTC)).isoformat()
