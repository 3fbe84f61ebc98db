"""The life of a ModelVersion: which state it is in follows from the record, and moves that must not be are refused.

candidate ──ask──> challenger ──promote──> champion ──another is promoted──> candidate (a rollback asks for it again)
    └──────┬──────────┴─────quarantine─────────┘
      quarantined ──reinstate──> candidate; candidate, quarantined ──retire──> retired, for good
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection

from millrace.core.errors import LedgerError
from millrace.ledger import chain, champions, quarantine, releases
from millrace.ledger.events import Moved, Registered, ReleaseRequest

State = Literal["candidate", "challenger", "champion", "retired", "quarantined"]
MOVES: Mapping[State, tuple[State, ...]] = {
    "candidate": ("challenger", "quarantined", "retired"),
    "challenger": ("champion", "candidate", "quarantined"),
    "champion": ("candidate", "quarantined"),
    "quarantined": ("candidate", "champion", "retired"),
    "retired": (),
}
"""From each state where a version may go. A challenger becomes a candidate again when its release ends otherwise;
what is reinstated while it is still the champion of record is champion."""


@dataclass(frozen=True)
class Life:
    """How a version stands. `serving`: it is the champion of record, which one in quarantine stays until another is;
    `ended`: its last release ended without a promotion; `moved` is who moved it last, and why."""

    version: int
    state: State
    serving: bool
    ended: bool
    moved: Moved | None


def state(*, serving: bool, asked: bool, moved: Moved | None) -> State:
    """State of a version, of what the record says: whether it is champion of record, whether a request for it is open,
    and where somebody moved it last."""
    if moved is not None and moved.to != "candidate":
        return moved.to
    if serving:
        return "champion"
    return "challenger" if asked else "candidate"


def lives(connection: Connection, pipeline: str) -> list[Life]:
    """All registered versions, lowest number first."""
    champion = champions.champion(connection, pipeline)
    asked = {request.version for request in releases.open_(connection, pipeline)}
    last_of = {request.version: request for request in chain.states(connection, ReleaseRequest, pipeline)}
    moved = {each.version: each for each in chain.states(connection, Moved, pipeline)}
    found = []
    for version in sorted({each.version for each in chain.states(connection, Registered, pipeline)}):
        serving, last = champion is not None and champion.version == version, moved.get(version)
        is_in = state(serving=serving, asked=version in asked, moved=last)
        ended = version in last_of and version not in asked and last_of[version].state != "promoted"
        found.append(Life(version=version, state=is_in, serving=serving, ended=ended, moved=last))
    return found


def may_be_challenger(lives: Collection[Life], champion: int) -> set[int]:
    """Versions that MLflow's alias `challenger` may name: asked for, or newer than the champion and not turned down."""
    return {
        life.version
        for life in lives
        if life.state == "challenger" or (life.state == "candidate" and life.version > champion and not life.ended)
    }


def move(connection: Connection, event: Moved) -> Life:
    """Move a version; its open requests end. Said again, it changes nothing.

    Raises LedgerError for a version that was never registered, and for a move that must not be.
    """
    pipeline, what = event.pipeline, f"{event.pipeline} version {event.version}"
    known = {life.version: life for life in lives(connection, pipeline)}
    if event.version not in known:
        raise LedgerError(f"no such version of {pipeline} was registered", given=event.version, allowed=known)
    now = known[event.version]
    if now.moved == event or now.state == event.to:
        return now
    if event.to not in MOVES[now.state] or (event.to == "retired" and now.serving):
        is_now = f"{now.state}{', and still the champion of record' if now.serving and now.state != 'champion' else ''}"
        raise LedgerError(f"{what} is {is_now}: it cannot become {event.to}", given=event.to, allowed=MOVES[now.state],
                          next_step="Release another version first" if now.serving else None)  # fmt: skip
    if event.to == "candidate" and now.state != "quarantined":
        raise LedgerError(f"{what} is {now.state}: only what is in quarantine is reinstated")
    for request in releases.open_(connection, pipeline):
        if request.version == event.version:
            releases.refuse(connection, pipeline, request.id, f"{event.to} by {event.by}: {event.reason}")
    chain.append(connection, event)
    if event.to == "candidate":
        quarantine.release(connection, pipeline, event.version, by=event.by, reason=event.reason)
    return next(life for life in lives(connection, pipeline) if life.version == event.version)


def check_may_be_released(connection: Connection, pipeline: str, version: int) -> None:
    """Raises LedgerError for a version in quarantine, itself or by its model, and for one that has retired."""
    moved = chain.state(connection, Moved, pipeline, f"v{version}")
    if moved is not None and moved.to != "candidate":
        raise LedgerError(
            f"{pipeline} version {version} is {moved.to} and cannot be released: {moved.reason} ({moved.by})",
            next_step="Reinstate it first" if moved.to == "quarantined" else "Train again",
        )
    quarantine.check(connection, pipeline, version)
