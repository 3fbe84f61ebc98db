"""The event of a release request, with what was answered to it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from millrace.ledger.event import Digest, Event, Text, Upgrade


class Answer(BaseModel):
    """What somebody said to a release request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Text = Field(description="User name, as Airflow authenticated it; for the environment itself its name.")
    user_id: str | None = Field(default=None, description="The same user's id, where it is another word.")
    verdict: Literal["approve", "reject"]
    how: Literal["person", "automatic", "external"] = "person"
    at: str | None = Field(default=None, description="When, ISO 8601; null where it was not kept.")


class ReleaseRequest(Event):
    """Somebody asks that a version become champion. Its `id` names version, Evidence, the generation it would follow
    and the attempt, so that what was decided about it decides nothing about the version at another time."""

    kind: ClassVar[str] = "approval"
    upgrades: ClassVar[tuple[Upgrade, ...]] = (
        lambda _, subject, body: {
            "id": subject,  # the version: such a request is read and can be voided, but no more promoted
            "version": body["version"],
            "evidence": body["evidence_digest"],
            "expected_generation": None,
            "rollback": False,
            "reason": "",
            "runs": (),
            "state": body["state"],
            "by": body["by"],
            "newer": body["newer"],
            "note": None,
        },
        lambda _, __, body: {
            **{name: value for name, value in body.items() if name != "by"},
            "attempt": 1,
            "requesters": (),
            "expires": None,
            "answers": [{"by": body["by"], "verdict": "reject" if body["state"] == "rejected" else "approve"}]
            if body["by"]
            else [],
        },
        lambda _, __, body: {**body, "reuses": None},
    )

    id: Text
    version: int
    evidence: Digest = Field(description="What was shown to whoever answers.")
    expected_generation: int | None
    attempt: int = Field(default=1, description="Counts the requests for this version at this generation.")
    rollback: bool = Field(description="Whether the version was champion before.")
    reason: str = ""
    runs: tuple[str, ...] = Field(default=(), description="Runs of the release DAG that ask for it.")
    requesters: tuple[str, ...] = Field(default=(), description="Who asked for it, and may not approve it.")
    expires: str | None = Field(default=None, description="Until when it waits, ISO 8601; null: for ever.")
    state: Literal["waiting", "approved", "rejected", "expired", "void", "refused", "promoted"] = "waiting"
    answers: tuple[Answer, ...] = Field(default=(), description="Those that counted, in the order they came.")
    newer: int | None = Field(default=None, description="Version of the challenger that voided it.")
    note: str | None = Field(default=None, description="Why the check before promotion refused it.")
    reuses: str | None = Field(
        default=None, description="Id of the release whose answers these are, where a guard brought its version back."
    )

    @property
    def subject(self) -> str:
        """The request."""
        return self.id

    @property
    def by(self) -> str:
        """Who answered, for a person."""
        return " and ".join(answer.by for answer in self.answers) or "nobody"
