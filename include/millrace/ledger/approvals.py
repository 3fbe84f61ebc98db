"""Approvals of releases: asked for, answered, or voided by a newer challenger."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

from sqlalchemy import Connection

from millrace.errors import LedgerError
from millrace.ledger import chain

KIND = "approval"


@dataclass(frozen=True)
class Approval:
    """A request about one version and the Evidence it was shown with, and its answer by a person."""

    pipeline: str
    version: int
    evidence_digest: str
    state: Literal["waiting", "approved", "rejected", "void"] = "waiting"
    by: str | None = None
    newer: int | None = None
    """Version of the challenger that voided it."""


def get(connection: Connection, pipeline: str, version: int) -> Approval | None:
    """The request about a version, whatever its state."""
    found = chain.entries(connection, pipeline, KIND, f"v{version}", limit=1)
    return _approval(found[0]) if found else None


def ask(connection: Connection, pipeline: str, version: int, evidence_digest: str) -> Approval:
    """Record that an approval is asked for; asking again while it waits or is approved changes nothing.

    It is void at once where a newer challenger waits already.
    """
    found = get(connection, pipeline, version)
    if found and found.evidence_digest == evidence_digest and found.state in ("waiting", "approved"):
        return found
    newer = [a.version for a in _waiting(connection, pipeline) if a.version > version]
    asked = Approval(pipeline, version, evidence_digest)
    if newer:
        asked = replace(asked, state="void", newer=max(newer))
        if asked == found:
            return asked
    return _record(connection, asked)


def answer(
    connection: Connection, pipeline: str, version: int, evidence_digest: str, *, approved: bool, by: str
) -> Approval:
    """Record a person's answer, and return the request as it stands: a void one stays void.

    Raises LedgerError when nobody asked about this version with this Evidence.
    """
    found = get(connection, pipeline, version)
    if found is None or found.evidence_digest != evidence_digest:
        raise LedgerError(
            f"no approval was asked for {pipeline} version {version} with this Evidence",
            given=evidence_digest,
            allowed=[found.evidence_digest] if found else None,
            next_step="Start the release again from its first task",
        )
    answered = replace(found, state="approved" if approved else "rejected", by=by)
    if found.state == "void" or answered == found:
        return found
    return _record(connection, answered)


def void_older(connection: Connection, pipeline: str, version: int) -> list[int]:
    """Void the waiting requests about versions older than this one; returns those versions."""
    older = [a for a in _waiting(connection, pipeline) if a.version < version]
    for each in older:
        _record(connection, replace(each, state="void", newer=version))
    return [each.version for each in older]


def _waiting(connection: Connection, pipeline: str) -> list[Approval]:
    found = [_approval(entry) for entry in chain.latest(connection, pipeline, KIND).values()]
    return sorted((a for a in found if a.state == "waiting"), key=lambda a: a.version)


def _record(connection: Connection, approval: Approval) -> Approval:
    body = {name: value for name, value in asdict(approval).items() if name != "pipeline"}
    chain.append(connection, approval.pipeline, KIND, f"v{approval.version}", body)
    return approval


def _approval(entry: chain.Entry) -> Approval:
    return Approval(pipeline=entry.pipeline, **entry.body)
