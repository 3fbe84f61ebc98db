"""Approvals of releases: asked for, answered, or voided by a newer challenger."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from millrace.ledger import chain
from millrace.ledger.schema import APPROVALS


@dataclass(frozen=True)
class Approval:
    """An answer about one version and the Evidence it was shown with. States: waiting, approved, rejected, void."""

    pipeline: str
    version: int
    evidence_digest: str
    state: str
    by: str | None


def get(connection: Connection, pipeline: str, version: int) -> Approval | None:
    """The approval of a version, whatever its state."""
    query = select(APPROVALS).where(APPROVALS.c.pipeline == pipeline, APPROVALS.c.version == version)
    row = connection.execute(query).mappings().first()
    return None if row is None else Approval(**row)


def ask(connection: Connection, pipeline: str, version: int, evidence_digest: str) -> None:
    """Record that an approval is asked for; asking again for the same Evidence changes nothing."""
    found = get(connection, pipeline, version)
    if found is not None and found.evidence_digest == evidence_digest:
        return
    values = {"evidence_digest": evidence_digest, "state": "waiting", "by": None}
    if found is None:
        connection.execute(insert(APPROVALS).values(pipeline=pipeline, version=version, **values))
    else:
        _set(connection, pipeline, version, **values)
    chain.append(connection, pipeline, "approval", f"v{version}", {"state": "waiting", "evidence": evidence_digest})


def answer(
    connection: Connection, pipeline: str, version: int, evidence_digest: str, *, approved: bool, by: str
) -> None:
    """Record a person's answer; ignored for an approval that is void, answered, or about other Evidence."""
    found = get(connection, pipeline, version)
    if found is None or found.state != "waiting" or found.evidence_digest != evidence_digest:
        return
    state = "approved" if approved else "rejected"
    _set(connection, pipeline, version, state=state, by=by)
    chain.append(connection, pipeline, "approval", f"v{version}",
                 {"state": state, "by": by, "evidence": evidence_digest})


def void_older(connection: Connection, pipeline: str, version: int) -> int:
    """Void waiting approvals of versions older than this one; returns how many."""
    query = select(APPROVALS).where(
        APPROVALS.c.pipeline == pipeline, APPROVALS.c.version < version, APPROVALS.c.state == "waiting"
    )
    older = [Approval(**row) for row in connection.execute(query).mappings()]
    for each in older:
        _set(connection, pipeline, each.version, state="void")
        chain.append(connection, pipeline, "approval", f"v{each.version}", {"state": "void", "newer": version})
    return len(older)


def _set(connection: Connection, pipeline: str, version: int, **values: object) -> None:
    connection.execute(
        update(APPROVALS).where(APPROVALS.c.pipeline == pipeline, APPROVALS.c.version == version).values(**values)
    )
