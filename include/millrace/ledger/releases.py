"""Release requests: made for a version at a generation, answered by persons, voided by a newer challenger, or expired.

A decided request never becomes another. Who wants another answer starts another run, which makes another request.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import Conflict, LedgerError
from millrace.ledger import chain
from millrace.ledger.events import Answer, Promoted, ReleaseRequest

OPEN = ("waiting", "approved")
"""States of a request that is not at its end."""


def ask(
    connection: Connection,
    pipeline: str,
    version: int,
    evidence_digest: str,
    *,
    run_id: str,
    reason: str,
    requesters: Sequence[str] = (),
    expires: datetime | None = None,
) -> ReleaseRequest:
    """Ask that a version follow the present champion; a run that has asked gets its request as it stands.

    A version that was champion before on this Evidence is asked back (a rollback). Any other one is a challenger: it
    voids the waiting requests of older challengers, and is void at once where a newer one waits. Rollbacks neither
    void nor are voided. A second run for what waits already joins that request. Raises Conflict for the present
    champion.
    """
    if (mine := of_run(connection, pipeline, run_id)) is not None and (mine.version, mine.evidence) == (
        version,
        evidence_digest,
    ):
        return mine
    generation = _generation(connection, pipeline)
    on_this = (chain.of(Promoted, e) for e in chain.holding(connection, pipeline, Promoted.kind, evidence_digest))
    before = [p.generation for p in on_this if (p.version, p.evidence.digest) == (version, evidence_digest)]
    if generation in before:
        raise Conflict(f"{pipeline} version {version} is champion already", given=f"generation {generation}")
    asked, attempt = sorted({name for name in requesters if name}), 1
    about = (pipeline, version, evidence_digest, generation)
    while (known := chain.state(connection, ReleaseRequest, pipeline, _id(*about, attempt))) is not None:
        if known.state in OPEN:
            return record(
                connection, known, runs=(*known.runs, run_id), requesters=tuple(sorted({*known.requesters, *asked}))
            )
        attempt += 1
    request = ReleaseRequest(
        pipeline=pipeline, id=_id(*about, attempt), version=version, evidence=evidence_digest,
        expected_generation=generation, attempt=attempt, rollback=bool(before), reason=reason, runs=(run_id,),
        requesters=tuple(asked), expires=_end(connection, pipeline, expires),
    )  # fmt: skip
    others = [] if before else _waiting_challengers(connection, pipeline)
    if newer := [other.version for other in others if other.version > version]:
        return record(connection, request, state="void", newer=max(newer))
    for older in others:
        if older.version < version:
            record(connection, older, state="void", newer=version)
    return record(connection, request)


def answer(
    connection: Connection,
    pipeline: str,
    request_id: str,
    said: Answer,
    *,
    enough: int = 1,
    external: Collection[str] = (),
    now: datetime,
) -> ReleaseRequest:
    """Record an answer, and return the request as it stands: one that no more waits stays as it was decided.

    One rejection rejects; `enough` distinct persons approve, with every system of `external`. An answer after the
    request's end comes too late.
    """
    request = look(connection, pipeline, request_id, now=now)
    if request.state != "waiting":
        return request
    if said.verdict == "reject":
        return record(connection, request, state="rejected", answers=(said,))
    answers = (*(each for each in request.answers if (each.how, each.by) != (said.how, said.by)), said)
    systems = {each.by for each in answers if each.how == "external"}
    decided = len(answers) - len(systems) >= enough and systems >= set(external)
    return record(connection, request, answers=answers, state="approved" if decided else "waiting")


def look(connection: Connection, pipeline: str, request_id: str, *, now: datetime) -> ReleaseRequest:
    """A request as it stands at an aware moment: one whose time has passed, or whose champion has, ends here.

    A moment before the record's newest entry counts as that entry's: a clock set back revives nothing."""
    request = get(connection, pipeline, request_id)
    if request.state != "waiting":
        return request
    now = chain.not_before(connection, pipeline, now)
    if request.expires is not None and now >= datetime.fromisoformat(request.expires):
        return record(connection, request, state="expired")
    if _generation(connection, pipeline) != request.expected_generation:
        return record(connection, request, state="refused", note="another version became champion meanwhile")
    return request


def refuse(connection: Connection, pipeline: str, request_id: str, why: str) -> ReleaseRequest:
    """Close a request that did not pass the check before promotion, so that it holds up no other."""
    request = get(connection, pipeline, request_id)
    if request.state not in OPEN:
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
    """The request that a run of the release DAG stands for. Runs of earlier versions of Millrace may have made
    several, when they were cleared: of those that of the latest generation."""
    named = chain.states(connection, ReleaseRequest, pipeline, holding=[canonical_json(run_id).decode()])
    found = [request for request in named if run_id in request.runs]
    return max(found, key=lambda request: (request.expected_generation or 0, request.attempt), default=None)


def join(connection: Connection, pipeline: str, request_id: str, run_id: str) -> ReleaseRequest:
    """Let another run of the release DAG stand for a request, however it stands."""
    request = get(connection, pipeline, request_id)
    return request if run_id in request.runs else record(connection, request, runs=(*request.runs, run_id))


def words(request: ReleaseRequest) -> str:
    """How a request stands, for a person."""
    return {
        "waiting": "not answered yet",
        "approved": f"approved by {request.by}",
        "rejected": f"rejected by {request.by}",
        "expired": f"expired: nobody answered until {request.expires}",
        "void": f"void, since version {request.newer} is newer",
        "refused": f"refused: {request.note}",
        "promoted": "done",
    }[request.state]


def record(connection: Connection, request: ReleaseRequest, **changes: object) -> ReleaseRequest:
    """Add a request as it stands now."""
    changed = request.model_copy(update=changes)
    chain.append(connection, changed)
    return changed


def open_(connection: Connection, pipeline: str) -> list[ReleaseRequest]:
    """The requests that are not at their end, in the order in which they were last spoken of."""
    pieces = [f'"state":"{state}"' for state in OPEN]
    return [r for r in chain.states(connection, ReleaseRequest, pipeline, holding=pieces) if r.state in OPEN]


def _waiting_challengers(connection: Connection, pipeline: str) -> list[ReleaseRequest]:
    found = open_(connection, pipeline)
    return sorted((r for r in found if r.state == "waiting" and not r.rollback), key=lambda r: r.version)


def _generation(connection: Connection, pipeline: str) -> int:
    """The generation that the next one would follow."""
    last = chain.entries(connection, pipeline, Promoted.kind, limit=1)
    return chain.of(Promoted, last[0]).generation if last else 0


def _end(connection: Connection, pipeline: str, expires: datetime | None) -> str | None:
    """When a request ends: as long after the record's time as it should by the clock."""
    if expires is None:
        return None
    now = datetime.now(UTC)
    return (expires + (chain.not_before(connection, pipeline, now) - now)).isoformat()


def _id(pipeline: str, version: int, evidence_digest: str, generation: int, attempt: int) -> str:
    name = digest([pipeline, version, evidence_digest, generation, *([attempt] if attempt > 1 else [])])
    return name.removeprefix("sha256:")[:12]
