"""The ledger: an append-only, hash-chained record of what was decided, and the states that are read from it.

One table, one writer of a pipeline at a time: every change reads the record and adds to it in one transaction, so that
of several processes that decide at once each sees what the one before decided. Pipelines do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from millrace.contract import Artifact
from millrace.core.errors import LedgerError
from millrace.ledger import (
    chain,
    champions,
    lifecycle,
    releases,
    retrains,
    rollouts,
    runs,
    verdicts,
    verification,
    windows,
)
from millrace.ledger.chain import Entry
from millrace.ledger.champions import Champion
from millrace.ledger.database import Database
from millrace.ledger.event import Event
from millrace.ledger.events import (
    STATES,
    Answer,
    ArmRecord,
    Denied,
    Erasure,
    GateVerdict,
    JobDone,
    JobInput,
    MaterializedWindow,
    MonitoredWindow,
    Moved,
    Planned,
    Quarantined,
    Registered,
    ReleaseRequest,
    RetrainDecision,
    Rollout,
    Source,
    Touched,
    Trained,
    TrainingRun,
    Unmonitored,
)
from millrace.ledger.lifecycle import Life, may_be_challenger
from millrace.ledger.quarantine import words as quarantine_words
from millrace.ledger.releases import words
from millrace.ledger.rollbacks import RolledBack
from millrace.ledger.rollouts import words as rollout_words
from millrace.ledger.serving import ServingLedger
from millrace.ledger.verification import Chain

__all__ = [
    "Anchor",
    "Answer",
    "ArmRecord",
    "Chain",
    "Champion",
    "Denied",
    "Entry",
    "Erasure",
    "GateVerdict",
    "JobDone",
    "JobInput",
    "Ledger",
    "LedgerError",
    "Life",
    "MaterializedWindow",
    "MonitoredWindow",
    "Moved",
    "Planned",
    "Quarantined",
    "Registered",
    "ReleaseRequest",
    "RetrainDecision",
    "RolledBack",
    "Rollout",
    "Source",
    "Touched",
    "Trained",
    "TrainingRun",
    "Unmonitored",
    "may_be_challenger",
    "mirror",
    "quarantine_words",
    "rollout_words",
    "words",
]


Anchor = Callable[[str, int, str], None]
"""Puts an anchor where nobody can change it: pipeline, number and hash of an entry. Raises LedgerError where another
entry has been anchored under this number."""


class Ledger(ServingLedger):
    """The control-plane database of a project. Every method is one transaction, safe from any process or thread.

    Raises Unavailable when the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str) -> Ledger:
        """Open the ledger at a SQLAlchemy URL (SQLite file or PostgreSQL), making its table if it is new."""
        return cls(Database(url))

    def record(self, event: Event) -> Entry:
        """Add a fact to the record; the same fact again, as a retry has it, adds nothing and returns the entry it has.

        Raises LedgerError for a body that is not JSON, or an event that has a method of its own.
        """
        if isinstance(event, STATES):
            raise LedgerError("events of this kind are written by the ledger itself", given=event.kind)
        with self._database.write(event.pipeline) as connection:
            return chain.append(connection, event)

    def entries(
        self,
        pipeline: str | None = None,
        kind: str | None = None,
        subject: str | None = None,
        limit: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Entry]:
        """Entries in the order of all, those of a pipeline in that of its chain. See `chain.entries`."""
        with self._database.read() as connection:
            return chain.entries(connection, pipeline, kind, subject, limit, since, until)

    def chains(self, anchors: verification.Anchors | None = None) -> list[Chain]:
        """Check all chains, against the anchors where they are given, and say of each what was found."""
        with self._database.read() as connection:
            return verification.verify(chain.rows(connection), anchors)

    def verify(self, anchors: verification.Anchors | None = None) -> int:
        """Check all chains and return the number of entries. Raises LedgerError naming the first bad one of each."""
        found = self.chains(anchors)
        if bad := [each.problem for each in found if each.problem]:
            raise LedgerError("; ".join(bad))
        return sum(each.entries for each in found)

    def export(self, write: Callable[[Mapping[str, Any]], None]) -> int:
        """Hand over all entries as they lie, in the order of all; returns how many."""
        count = 0
        with self._database.read() as connection:
            for count, row in enumerate(chain.rows(connection), 1):  # noqa: B007
                write(row)
        return count

    def champion(self, pipeline: str, at: datetime | None = None) -> Champion | None:
        """The champion of record, now or at an aware moment; None before the first promotion."""
        with self._database.read() as connection:
            return champions.champion(connection, pipeline, at)

    def champions(self, pipeline: str) -> list[Champion]:
        """All champions there were, the first one first."""
        with self._database.read() as connection:
            return champions.champions(connection, pipeline)

    def verdicts_on(self, pipeline: str, snapshots: Collection[Source]) -> dict[Source, GateVerdict]:
        """The newest verdict on exactly each of these Snapshots; one that no gate ran on is left out."""
        with self._database.read() as connection:
            return verdicts.on(connection, pipeline, snapshots)

    def verdicts(self, pipeline: str, dataset: str) -> list[GateVerdict]:
        """The newest verdict on each partition of a dataset, in partition order."""
        with self._database.read() as connection:
            return verdicts.verdicts(connection, pipeline, dataset)

    def registered(self, pipeline: str, version: int) -> Registered | None:
        """What a version was registered with, None for one that never was."""
        with self._database.read() as connection:
            return chain.state(connection, Registered, pipeline, f"v{version}")

    def versions(self, pipeline: str) -> list[Registered]:
        """All registered versions, lowest number first."""
        with self._database.read() as connection:
            return sorted(chain.states(connection, Registered, pipeline), key=lambda r: r.version)

    def lives(self, pipeline: str) -> list[Life]:
        """How every registered version stands, lowest number first."""
        with self._database.read() as connection:
            return lifecycle.lives(connection, pipeline)

    def move(self, event: Moved) -> Life:
        """Put a version into quarantine, let it out again, or retire it. See `lifecycle.move`."""
        with self._database.write(event.pipeline) as connection:
            return lifecycle.move(connection, event)

    def erasure(self, pipeline: str, keys: str) -> Erasure | None:
        """What is on record of the subjects whose keys have this digest."""
        with self._database.read() as connection:
            return chain.state(connection, Erasure, pipeline, keys.removeprefix("sha256:"))

    def jobs_of(self, pipeline: str, run: str) -> dict[str, JobDone]:
        """Job -> how it ended last in a run, `<dag id>/<run id>`."""
        with self._database.read() as connection:
            return runs.jobs(connection, pipeline, run)

    def training_of(self, pipeline: str, run: str) -> TrainingRun | None:
        """What a run of the training DAG, `<dag id>/<run id>`, took up last; None where it has not yet."""
        with self._database.read() as connection:
            return runs.training(connection, pipeline, run)

    def ask_release(
        self,
        pipeline: str,
        version: int,
        evidence_digest: str,
        *,
        run_id: str,
        reason: str = "",
        requesters: Sequence[str] = (),
        expires: datetime | None = None,
    ) -> ReleaseRequest:
        """Ask that a version follow the present champion. See `releases.ask`."""
        with self._database.write(pipeline) as connection:
            lifecycle.check_may_be_released(connection, pipeline, version)
            return releases.ask(
                connection, pipeline, version, evidence_digest,
                run_id=run_id, reason=reason, requesters=requesters, expires=expires,
            )  # fmt: skip

    def release_of(self, pipeline: str, run_id: str) -> ReleaseRequest | None:
        """The request that a run of the release DAG has made."""
        with self._database.read() as connection:
            return releases.of_run(connection, pipeline, run_id)

    def answer(
        self,
        pipeline: str,
        request_id: str,
        said: Answer,
        *,
        enough: int = 1,
        external: Collection[str] = (),
        now: datetime | None = None,
    ) -> ReleaseRequest:
        """Record an answer to a release request. See `releases.answer`."""
        now = now or datetime.now(UTC)
        with self._database.write(pipeline) as connection:
            return releases.answer(connection, pipeline, request_id, said, enough=enough, external=external, now=now)

    def look(self, pipeline: str, request_id: str, now: datetime | None = None) -> ReleaseRequest:
        """A release request as it stands now; one whose time has passed ends by this. See `releases.look`."""
        with self._database.write(pipeline) as connection:
            return releases.look(connection, pipeline, request_id, now=now or datetime.now(UTC))

    def refuse(self, pipeline: str, request_id: str, why: str) -> ReleaseRequest:
        """Close a release request that did not pass the check before promotion. See `releases.refuse`."""
        with self._database.write(pipeline) as connection:
            return releases.refuse(connection, pipeline, request_id, why)

    def promote(
        self,
        pipeline: str,
        request_id: str,
        evidence: Artifact,
        trained: Trained,
        *,
        approval: bool,
        anchor: Anchor,
        promotion: Artifact | None = None,
        signer: str | None = None,
    ) -> Champion:
        """Carry out a release request by compare-and-set; it counts once it is anchored. See `champions.promote`.

        Killed in between, the promotion does not count until `settle` or the next promotion anchors it.
        """
        self.settle(pipeline, anchor)
        with self._database.write(pipeline) as connection:
            rollouts.check_promotable(connection, pipeline, request_id)
            champions.promote(
                connection, pipeline, request_id, evidence, trained,
                approval=approval, promotion=promotion, signer=signer,
            )  # fmt: skip
        self.settle(pipeline, anchor)
        with self._database.read() as connection:
            made = champions.of_release(connection, pipeline, request_id)
        assert made is not None
        return made

    def settle(self, pipeline: str, anchor: Anchor) -> None:
        """Anchor a promotion that was begun and does not count yet; nothing where there is none."""
        with self._database.read() as connection:
            begun = champions.not_anchored(connection, pipeline)
        if begun is not None:
            assert begun.number is not None
            anchor(pipeline, begun.number, begun.hash)
            with self._database.write(pipeline) as connection:
                champions.anchored(connection, begun)

    def claim(
        self, pipeline: str, partition: str, reason: str, message: str = "", half_life: float | None = None
    ) -> RetrainDecision | None:
        """Take the one waiting slot of a pipeline for a partition; None where another decision stands.

        See `flight.ask`. An alarm that changes nothing waits for no writer.
        """
        given = (pipeline, partition, reason, message, half_life)
        with self._database.read() as connection:
            plan = retrains.asked(connection, *given)
        if plan.record:
            with self._database.write(pipeline) as connection:
                return retrains.carry_out(connection, retrains.asked(connection, *given))
        return plan.answer

    def take(
        self, pipeline: str, partition: str, reason: str, message: str = "", *, run_id: str, since: datetime
    ) -> RetrainDecision | None:
        """Let a run that somebody, the clock or another system asked for at `since` begin, with what waits; None where
        a retraining that began after that has answered it. See `flight.take`."""
        with self._database.write(pipeline) as connection:
            return retrains.take(connection, pipeline, partition, reason, message, run_id=run_id, since=since)

    def start(self, decision_id: str, run_id: str) -> bool:
        """Let a run take up a decision; False when it was superseded or has ended. See `flight.start`."""
        with self._database.write(self._pipeline_of(decision_id)) as connection:
            return retrains.start(connection, decision_id, run_id)

    def finish(self, decision_id: str, state: retrains.End) -> RetrainDecision:
        """End a decision and return it as it stands. See `retrains.finish`."""
        with self._database.write(self._pipeline_of(decision_id)) as connection:
            return retrains.finish(connection, decision_id, state)

    def _pipeline_of(self, decision_id: str) -> str:
        with self._database.read() as connection:
            return retrains.get(connection, decision_id).pipeline

    def standing(self, pipeline: str, asking: str | None = None) -> list[RetrainDecision]:
        """The decisions that neither failed nor were superseded, by partition, for the cooldown and the budget of a
        partition that is `asking`. See `retrains.standing`."""
        with self._database.read() as connection:
            return retrains.standing(connection, pipeline, asking)

    def retrains(self, pipeline: str) -> list[RetrainDecision]:
        """All decisions of a pipeline as they stand, in the order they were made."""
        with self._database.read() as connection:
            return retrains.decisions(connection, pipeline)

    def windows(self, pipeline: str, view: str) -> list[MaterializedWindow]:
        """What is in the online store, in partition order."""
        with self._database.read() as connection:
            return windows.windows(connection, pipeline, view)

    def stale(self, pipeline: str, view: str, current: Mapping[str, str]) -> list[str]:
        """Partitions (-> Snapshot digest) that must still be materialised: gaps and corrected ones."""
        with self._database.read() as connection:
            return windows.stale(connection, pipeline, view, current)

    def monitoring(self, pipeline: str, champion_version: int | None = None) -> list[MonitoredWindow]:
        """The newest record of each partition, under one champion or under any, in partition order."""
        with self._database.read() as connection:
            return windows.monitoring(connection, pipeline, champion_version)


def mirror(read: Callable[[], Champion | None], set_alias: Callable[[Champion], None]) -> Champion | None:
    """Let an alias elsewhere follow the ledger: set it, read the ledger again, and repeat until both agree.

    Of two racing promoters the slower one may set its alias last; it then finds that the ledger moved on and sets
    the newer one. Returns the champion that the alias names now.
    """
    seen = read()
    while seen is not None:
        set_alias(seen)
        now = read()
        if now == seen:
            break
        seen = now
    return seen
