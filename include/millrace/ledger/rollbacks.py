"""Rollbacks: one recorded decision takes a version out of the plan, puts its model into quarantine, and where it was
champion asks the champion before back by the approval that it had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from millrace.core.errors import Conflict, LedgerError
from millrace.ledger import chain, champions, lifecycle, quarantine, releases, rollouts
from millrace.ledger.champions import Champion
from millrace.ledger.events import (
    Answer,
    ArmRecord,
    Moved,
    Planned,
    Quarantined,
    Registered,
    ReleaseRequest,
    Rollout,
)
from millrace.ledger.events.serving import How


@dataclass(frozen=True)
class RolledBack:
    """What a rollback decided. `release`: the request that brings the champion before back, None where none does."""

    quarantined: Quarantined
    planned: Planned | None
    release: ReleaseRequest | None


def roll_back(
    connection: Connection, pipeline: str, version: int, *, why: str, by: str, how: How, approval: bool
) -> RolledBack:
    """Decide that a version answers and shadows no more. Said again, it is what was decided.

    `approval`: persons must have approved the champion that comes back; by that approval it does, so that nobody is
    asked again. Raises LedgerError for a version that the plan does not name and that is not champion, Conflict while
    a promotion is half made.
    """
    if champions.not_anchored(connection, pipeline) is not None:
        raise Conflict(f"a promotion of {pipeline} is just being made", next_step="Try again")
    stands, champion = rollouts.plan(connection, pipeline), champions.champion(connection, pipeline)
    model = _model(connection, pipeline, version, champion)
    left = [arm for arm in (stands.versions if stands else ()) if not _is(arm, version, model)]
    named = stands is not None and len(left) < len(stands.versions)
    serving = champion is not None and (champion.version == version or champion.model_digest == model)
    decided = quarantine.of(connection, pipeline, model)
    if decided is not None and not named:
        release = releases.get(connection, pipeline, decided.release) if decided.release else None
        if not serving or release is None or release.state in ("approved", "promoted"):
            return RolledBack(decided, stands, release)
    if not named and not serving:
        served = sorted({arm.version for arm in stands.versions}) if stands is not None else []
        raise LedgerError(f"{pipeline} version {version} answers nothing and is not champion", allowed=served)
    before = _before(connection, pipeline, version, model, approval=approval) if serving else None
    request = None if before is None else _ask_back(connection, pipeline, before, version, why=why, by=by)
    ended = _end_rollouts(connection, pipeline, version, model, serving=serving, why=why, by=by, how=how)
    if stands is not None:
        stands = _without(connection, stands, version, model, before, ended, why=why, by=by)
    quarantined = Quarantined(
        pipeline=pipeline, model=model, version=version, why=why, by=by, how=how,
        rollout=ended.id if ended else None, release=request.id if request else None,
    )  # fmt: skip
    chain.append(connection, quarantined)
    _move(connection, pipeline, version, why=why, by=by)
    return RolledBack(quarantined, stands, request)


def _without(
    connection: Connection,
    stands: Planned,
    version: int,
    model: str,
    before: Champion | None,
    ended: Rollout | None,
    *,
    why: str,
    by: str,
) -> Planned:
    """The plan without a version: what it had is the champion's, or where it was that, the champion's before."""
    champion, former = stands.champion, stands.former
    changes: dict[str, Any] = {"reason": why, "by": by, "rollout": ended.id if ended else stands.rollout}
    if former is not None and _is(former, version, model):
        former = None
    if champion is not None and _is(champion, version, model):
        back = rollouts.arm_of(connection, stands.pipeline, before.version) if before is not None else None
        champion, former = back or former, None
        changes |= _alone(champion)
    elif any(_is(arm, version, model) for arm in (*stands.arms, stands.shadow) if arm is not None):
        changes |= _alone(champion)
    return rollouts.replan(connection, stands, former=former, **changes)


def _alone(champion: ArmRecord | None) -> dict[str, Any]:
    """Traffic of one version, or of none."""
    arms = () if champion is None else (champion.model_copy(update={"role": "champion", "share": 1.0}),)
    return {"arms": arms, "shadow": None}


def _end_rollouts(
    connection: Connection, pipeline: str, version: int, model: str, *, serving: bool, why: str, by: str, how: How
) -> Rollout | None:
    """The rollout of the version ends as rolled back, in whatever state it was; that of another version that was
    compared with it is superseded. Releases that are open end with them."""
    other, mine = rollouts.open_(connection, pipeline), None
    for each in chain.states(connection, Rollout, pipeline, holding=[model]):
        if each.model == model and (each.open or (each.state == "done" and serving)):
            mine = rollouts.end(connection, each, state="rolled_back", how=how, by=by, reason=why)
            releases.refuse(connection, pipeline, each.id, f"its rollout was rolled back by {by}: {why}")
    if other is not None and other.model != model and serving:
        because = f"version {version}, with which it was compared, was rolled back"
        rollouts.end(connection, other, state="superseded", how=how, by=by, reason=because)
        releases.refuse(connection, pipeline, other.id, because)
    return mine


def _before(connection: Connection, pipeline: str, version: int, model: str, *, approval: bool) -> Champion | None:
    """The newest champion before that may come back: not of this model, in no quarantine, and approved."""
    for each in reversed(champions.champions(connection, pipeline)):
        if each.version == version or each.model_digest == model:
            continue
        moved = chain.state(connection, Moved, pipeline, f"v{each.version}")
        if (moved is not None and moved.to != "candidate") or quarantine.of(connection, pipeline, each.model_digest):
            continue
        if not approval or any(said.how == "person" for said in _answers(connection, each)):
            return each
    return None


def _answers(connection: Connection, champion: Champion) -> tuple[Answer, ...]:
    """What was answered to the release that made a champion; none if its environment approved by itself."""
    if champion.release is None:
        return ()
    said = releases.get(connection, champion.pipeline, champion.release).answers
    return () if any(answer.how == "automatic" for answer in said) else said


def _ask_back(
    connection: Connection, pipeline: str, before: Champion, version: int, *, why: str, by: str
) -> ReleaseRequest:
    """An approved request for a champion that was: with the answers that its release had, or else the environment's."""
    said = _answers(connection, before) or (Answer(by=by, verdict="approve", how="automatic"),)
    name = f"rollback__v{version}"  # no run of the release DAG: whichever run finds it carries it out
    asked = releases.ask(connection, pipeline, before.version, before.evidence_digest, run_id=name, reason=why)
    return releases.record(connection, asked, state="approved", answers=said, reuses=before.release)


def _move(connection: Connection, pipeline: str, version: int, *, why: str, by: str) -> None:
    """Let the version's life say so, too."""
    moved = Moved(pipeline=pipeline, version=version, to="quarantined", reason=why, by=by)
    for life in lifecycle.lives(connection, pipeline):
        if life.version == version and "quarantined" in lifecycle.MOVES[life.state]:
            chain.append(connection, moved)


def _model(connection: Connection, pipeline: str, version: int, champion: Champion | None) -> str:
    if champion is not None and champion.version == version:
        return champion.model_digest
    if (arm := rollouts.arm_of(connection, pipeline, version)) is not None:
        return arm.model
    registered = chain.state(connection, Registered, pipeline, f"v{version}")
    if registered is None:
        raise LedgerError(f"no such version of {pipeline} was registered", given=version)
    return registered.model.digest


def _is(arm: ArmRecord, version: int, model: str) -> bool:
    return arm.version == version or arm.model == model
