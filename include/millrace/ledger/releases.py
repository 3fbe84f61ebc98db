"""Release requests: made for a version at a generation, answered by a person, or voided by a newer challenger."""

from __future__ import annotations

from sqlalchemy import Connection

from millrace.core.canonical import digest
from millrace.core.errors import Conflict, LedgerError
from millrace.ledger import chain
from millrace.ledger.events import Promoted, ReleaseRequest


def ask(
    connection: Connection, pipeline: str, version: int, evidence_digest: str, *, run_id: str, reason: str
) -> ReleaseRequest:
    """Ask that a version follow the present champion; asking again while that is open changes nothing.

    A version that was champion before on this Evidence is asked back (a rollback). Any other one is a challenger: it
    voids the waiting requests of older challengers, and is void at once where a newer one waits. Rollbacks neither
    void nor are voided. A request that was rejected or refused waits again. Raises Conflict for the present champion.
    """
    promoted = [chain.of(Promoted, entry) for entry in chain.entries(connection, pipeline, Promoted.kind)]
    generation = promoted[-1].generation if promoted else 0
    mine = [p.generation for p in promoted if (p.version, p.evidence.digest) == (version, evidence_digest)]
    if generation in mine:
        raise Conflict(f"{pipeline} version {version} is champion already", given=f"generation {generation}")
    name = digest([pipeline, version, evidence_digest, generation]).removeprefix("sha256:")[:12]
    request = chain.state(connection, ReleaseRequest, pipeline, name) or ReleaseRequest(
        pipeline=pipeline, id=name, version=version, evidence=evidence_digest, expected_generation=generation,
        rollback=bool(mine), reason=reason,
    )  # fmt: skip
    runs = request.runs if run_id in request.runs else (*request.runs, run_id)
    if request.state in ("approved", "promoted"):
        return record(connection, request, runs=runs)
    others = [] if mine else _waiting_challengers(connection, pipeline)
    if newer := [other.version for other in others if other.version > version]:
        return record(connection, request, runs=runs, state="void", newer=max(newer), by=None)
    for older in others:
        if older.version < version:
            record(connection, older, state="void", newer=version)
    return record(connection, request, runs=runs, reason=reason, state="waiting", newer=None, by=None, note=None)


def answer(connection: Connection, pipeline: str, request_id: str, *, approved: bool, by: str) -> ReleaseRequest:
    """Record a person's answer, and return the request as it stands: one that no more waits for an answer stays."""
    request = get(connection, pipeline, request_id)
    if request.state in ("void", "promoted"):
        return request
    return record(connection, request, state="approved" if approved else "rejected", by=by)


def refuse(connection: Connection, pipeline: str, request_id: str, why: str) -> ReleaseRequest:
    """Close a request that did not pass the check before promotion, so that it holds up no other."""
    request = get(connection, pipeline, request_id)
    if request.state in ("rejected", "void", "promoted"):
        return request
    return record(connection, request, state="refused", note=why)


def get(connection: Connection, pipeline: str, request_id: str) -> ReleaseRequest:
    """A request as it stands. Raises LedgerError when it was never made."""
    found = chain.state(connection, ReleaseRequest, pipeline, request_id)
    if found is None:
        raise LedgerError(f"no such release was asked for of {pipeline}", given=request_id,
                          next_step="Start the release again from its first task")  # fmt: skip
    return found


def of_run(connection: Connection, pipeline: str, run_id: str) -> ReleaseRequest | None:
    """The request that a run of the release DAG stands for: of several, after it was cleared, that of the latest
    generation."""
    found = [request for request in chain.states(connection, ReleaseRequest, pipeline) if run_id in request.runs]
    return max(found, key=lambda request: request.expected_generation or 0, default=None)


def words(request: ReleaseRequest) -> str:
    """How a request stands, for a person."""
    return {
        "waiting": "not answered yet",
        "approved": f"approved by {request.by}",
        "rejected": f"rejected by {request.by}",
        "void": f"void, since version {request.newer} is newer",
        "refused": f"refused: {request.note}",
        "promoted": "done",
    }[request.state]


def record(connection: Connection, request: ReleaseRequest, **changes: object) -> ReleaseRequest:
    """Add a request as it stands now."""
    changed = request.model_copy(update=changes)
    chain.append(connection, changed)
    return changed


def _waiting_challengers(connection: Connection, pipeline: str) -> list[ReleaseRequest]:
    found = chain.states(connection, ReleaseRequest, pipeline)
    return sorted((r for r in found if r.state == "waiting" and not r.rollback), key=lambda r: r.version)
