"""The ledger: an append-only, hash-chained record of what was decided, and the states that are read from it.

One table, one writer at a time: every change reads the record and adds to it in one transaction, so that of several
processes that decide at once each sees what the one before decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from millrace.errors import LedgerError
from millrace.ledger import approvals, chain, champions, retrains, windows
from millrace.ledger.approvals import Approval
from millrace.ledger.chain import Entry
from millrace.ledger.champions import Champion
from millrace.ledger.database import Database
from millrace.ledger.retrains import RetrainDecision
from millrace.ledger.schema import PROMOTED
from millrace.ledger.windows import MaterializedWindow, MonitoredWindow

__all__ = [
    "Approval",
    "Champion",
    "Entry",
    "Ledger",
    "LedgerError",
    "MaterializedWindow",
    "MonitoredWindow",
    "RetrainDecision",
    "mirror",
]

OWN_KINDS = (PROMOTED, retrains.KIND, approvals.KIND, windows.MATERIALIZED, windows.MONITORING)
"""Kinds of entries that carry a state; each is written by its own method only."""


class Ledger:
    """The control-plane database of a project. Every method is one transaction, safe from any process or thread.

    Raises Unavailable when the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str) -> Ledger:
        """Open the ledger at a SQLAlchemy URL (SQLite file or PostgreSQL), making its table if it is new."""
        return cls(Database(url))

    def append(self, pipeline: str, kind: str, subject: str, body: dict[str, Any]) -> Entry:
        """Add a fact to the record. Raises LedgerError for a body that is not JSON, or a kind with its own method."""
        if kind in OWN_KINDS:
            raise LedgerError("entries of this kind are written by the ledger itself", given=kind)
        with self._database.write() as connection:
            return chain.append(connection, pipeline, kind, subject, body)

    def entries(
        self, pipeline: str | None = None, kind: str | None = None, subject: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Entries in the order they were made; with `limit` the newest ones."""
        with self._database.read() as connection:
            return chain.entries(connection, pipeline, kind, subject, limit)

    def verify(self, anchor: str | None = None) -> int:
        """Check the hash chain and return its length. Raises LedgerError naming the first bad entry.

        A cut tail is seen only with an `anchor`: an earlier `head` that was kept elsewhere.
        """
        with self._database.read() as connection:
            return chain.verify(connection, anchor)

    def head(self) -> str:
        """Hash of the newest entry, to be anchored elsewhere."""
        with self._database.read() as connection:
            return chain.head(connection)

    def champion(self, pipeline: str, at: datetime | None = None) -> Champion | None:
        """The champion of record, now or at an aware moment; None before the first promotion."""
        with self._database.read() as connection:
            return champions.champion(connection, pipeline, at)

    def promote(
        self,
        pipeline: str,
        *,
        version: int,
        model_digest: str,
        evidence_digest: str,
        expected_generation: int,
        body: dict[str, Any],
    ) -> Champion:
        """Make a version champion by compare-and-set; `body` is what scoring and monitoring need of it.

        Asking again for what is champion already changes nothing. Raises Conflict when another was promoted first.
        """
        with self._database.write() as connection:
            return champions.promote(
                connection,
                pipeline,
                version=version,
                model_digest=model_digest,
                evidence_digest=evidence_digest,
                expected_generation=expected_generation,
                body=body,
            )

    def claim(self, pipeline: str, partition: str, reason: str, body: dict[str, Any]) -> RetrainDecision | None:
        """Take the one waiting slot of a pipeline; None where another decision stands. See `retrains.claim`."""
        with self._database.write() as connection:
            return retrains.claim(connection, pipeline, partition, reason, body)

    def start(self, decision_id: str, run_id: str) -> bool:
        """Let a run take up a decision; False when it was superseded or has ended. See `retrains.start`."""
        with self._database.write() as connection:
            return retrains.start(connection, decision_id, run_id)

    def finish(self, decision_id: str, state: retrains.End) -> RetrainDecision:
        """End a decision and return it as it stands. See `retrains.finish`."""
        with self._database.write() as connection:
            return retrains.finish(connection, decision_id, state)

    def last_retrain(self, pipeline: str, asking: str | None = None) -> RetrainDecision | None:
        """The decision of the latest partition that neither failed nor was superseded, for the cooldown of a partition
        that is `asking`. See `retrains.last`."""
        with self._database.read() as connection:
            return retrains.last(connection, pipeline, asking)

    def retrains(self, pipeline: str) -> list[RetrainDecision]:
        """All decisions of a pipeline as they stand, in the order they were made."""
        with self._database.read() as connection:
            return retrains.decisions(connection, pipeline)

    def open_approval(self, pipeline: str, version: int, evidence_digest: str) -> Approval:
        """Record that an approval is asked for; void at once where a newer challenger waits."""
        with self._database.write() as connection:
            return approvals.ask(connection, pipeline, version, evidence_digest)

    def void_older(self, pipeline: str, version: int) -> list[int]:
        """Void the waiting approvals of older versions; returns those versions."""
        with self._database.write() as connection:
            return approvals.void_older(connection, pipeline, version)

    def answer(self, pipeline: str, version: int, evidence_digest: str, *, approved: bool, by: str) -> Approval:
        """Record a person's answer; a void request stays void. Raises LedgerError when nobody asked."""
        with self._database.write() as connection:
            return approvals.answer(connection, pipeline, version, evidence_digest, approved=approved, by=by)

    def approved(self, pipeline: str, version: int, evidence_digest: str) -> Approval | None:
        """The approval of exactly this Evidence, if a person gave it."""
        with self._database.read() as connection:
            found = approvals.get(connection, pipeline, version)
        return found if found and found.state == "approved" and found.evidence_digest == evidence_digest else None

    def record_window(self, pipeline: str, view: str, partition: str, snapshot: str, rows: int) -> None:
        """Record that a partition's Snapshot is in the online store."""
        with self._database.write() as connection:
            windows.record(connection, MaterializedWindow(pipeline, view, partition, snapshot, rows))

    def windows(self, pipeline: str, view: str) -> list[MaterializedWindow]:
        """What is in the online store, in partition order."""
        with self._database.read() as connection:
            return windows.windows(connection, pipeline, view)

    def stale(self, pipeline: str, view: str, current: Mapping[str, str]) -> list[str]:
        """Partitions (-> Snapshot digest) that must still be materialised: gaps and corrected ones."""
        with self._database.read() as connection:
            return windows.stale(connection, pipeline, view, current)

    def record_monitoring(self, pipeline: str, partition: str, champion_version: int, body: dict[str, Any]) -> None:
        """Record what monitoring saw and decided for a partition."""
        with self._database.write() as connection:
            windows.record_monitoring(connection, MonitoredWindow(pipeline, partition, champion_version, body))

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
