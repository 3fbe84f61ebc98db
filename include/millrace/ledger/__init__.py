"""The ledger: an append-only, hash-chained record, and the states that change by compare-and-set upon it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from millrace.ledger import approvals, chain, champions, retrains, windows
from millrace.ledger.approvals import Approval
from millrace.ledger.chain import Entry, LedgerError
from millrace.ledger.champions import Champion
from millrace.ledger.database import Database
from millrace.ledger.retrains import RetrainDecision
from millrace.ledger.windows import MaterializedWindow

__all__ = [
    "Approval", "Champion", "Entry", "Ledger", "LedgerError", "MaterializedWindow", "RetrainDecision", "mirror",
]  # fmt: skip


class Ledger:
    """The control-plane database of a project. Every method is one transaction; safe to call from any process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str) -> Ledger:
        """Open the ledger at a SQLAlchemy URL, making its tables if it is new. Raises Unavailable."""
        return cls(Database(url))

    def append(self, pipeline: str, kind: str, subject: str, body: dict[str, Any]) -> Entry:
        """Add a fact to the record."""
        with self._database.write() as connection:
            return chain.append(connection, pipeline, kind, subject, body)

    def entries(
        self, pipeline: str | None = None, kind: str | None = None, subject: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Entries in the order they were made; with `limit` the newest ones."""
        with self._database.read() as connection:
            return chain.entries(connection, pipeline, kind, subject, limit)

    def verify(self) -> int:
        """Check the hash chain and return its length. Raises LedgerError naming the first bad entry."""
        with self._database.read() as connection:
            return chain.verify(connection)

    def head(self) -> str:
        """Hash of the newest entry, to be anchored elsewhere."""
        with self._database.read() as connection:
            return chain.head(connection)

    def champion(self, pipeline: str, at: datetime | None = None) -> Champion | None:
        """The champion of record, now or at an aware moment."""
        with self._database.read() as connection:
            return champions.champion(connection, pipeline, at)

    def promote(
        self, pipeline: str, *, version: int, model_digest: str, evidence_digest: str, expected_generation: int,
        body: dict[str, Any],
    ) -> Champion:  # fmt: skip
        """Make a version champion by compare-and-set. Raises Conflict when another was promoted first."""
        with self._database.write() as connection:
            return champions.promote(
                connection, pipeline, version=version, model_digest=model_digest, evidence_digest=evidence_digest,
                expected_generation=expected_generation, body=body,
            )  # fmt: skip

    def claim(self, pipeline: str, partition: str, reason: str, body: dict[str, Any]) -> RetrainDecision | None:
        """Take the one waiting slot of a pipeline; see `retrains.claim`."""
        with self._database.write() as connection:
            return retrains.claim(connection, pipeline, partition, reason, body)

    def start(self, decision_id: str, run_id: str) -> bool:
        """Start a claimed decision; False when it was superseded or has ended."""
        with self._database.write() as connection:
            return retrains.start(connection, decision_id, run_id)

    def finish(self, decision_id: str, state: retrains.End) -> None:
        """End a decision."""
        with self._database.write() as connection:
            retrains.finish(connection, decision_id, state)

    def last_retrain(self, pipeline: str) -> RetrainDecision | None:
        """The newest decision that has not failed."""
        with self._database.read() as connection:
            return retrains.last(connection, pipeline)

    def open_approval(self, pipeline: str, version: int, evidence_digest: str) -> None:
        """Record that an approval is asked for."""
        with self._database.write() as connection:
            approvals.ask(connection, pipeline, version, evidence_digest)

    def void_older(self, pipeline: str, version: int) -> int:
        """Void waiting approvals of older versions."""
        with self._database.write() as connection:
            return approvals.void_older(connection, pipeline, version)

    def answer(self, pipeline: str, version: int, evidence_digest: str, *, approved: bool, by: str) -> None:
        """Record a person's answer to a waiting approval."""
        with self._database.write() as connection:
            approvals.answer(connection, pipeline, version, evidence_digest, approved=approved, by=by)

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
        """What is in the online store, by partition."""
        with self._database.read() as connection:
            return windows.windows(connection, pipeline, view)

    def stale(self, pipeline: str, view: str, current: Mapping[str, str]) -> list[str]:
        """Partitions (-> Snapshot digest) that must still be materialised: gaps and corrected ones."""
        with self._database.read() as connection:
            return windows.stale(connection, pipeline, view, current)

    def record_monitoring(self, pipeline: str, partition: str, champion_version: int, body: dict[str, Any]) -> None:
        """Record what monitoring saw and decided for a partition."""
        self.append(pipeline, "monitoring", f"v{champion_version}/{partition}", body)

    def monitoring(self, pipeline: str, champion_version: int | None = None) -> list[Entry]:
        """The newest monitoring entry of each partition (and champion), in partition order."""
        newest: dict[str, Entry] = {}
        for entry in self.entries(pipeline, kind="monitoring"):
            version, _, partition = entry.subject.partition("/")
            if champion_version is None:
                newest[partition] = entry
            elif version == f"v{champion_version}":
                newest[partition] = entry
        return [newest[key] for key in sorted(newest)]


def mirror(read: Callable[[], Champion | None], set_alias: Callable[[Champion], None]) -> Champion | None:
    """Let an alias elsewhere follow the ledger: set it, read the ledger again, and repeat until both agree.

    Of two racing promoters the slower one may set its alias last; it then finds that the ledger moved on and sets
    the newer one.
    """
    seen = read()
    while seen is not None:
        set_alias(seen)
        now = read()
        if now is None or now.generation == seen.generation:
            return now
        seen = now
    return None
