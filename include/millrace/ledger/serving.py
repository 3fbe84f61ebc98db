"""Serving: what the ledger answers and decides of traffic, each a transaction. `Ledger` has these methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millrace.ledger import quarantine, releases, rollbacks, rollouts
from millrace.ledger.database import Database
from millrace.ledger.events import ArmRecord, Planned, Quarantined, ReleaseRequest, Rollout
from millrace.ledger.events.serving import How
from millrace.ledger.rollbacks import RolledBack
from millrace.ledger.rollouts import Steering


class ServingLedger:
    """Plans, rollouts, rollbacks and quarantines of the pipelines that serve."""

    _database: Database

    def plan(self, pipeline: str) -> Planned | None:
        """The traffic plan in force, None before the first one."""
        with self._database.read() as connection:
            return rollouts.plan(connection, pipeline)

    def serves(self, pipeline: str, version: int) -> bool:
        """Whether a version is the one that answers what no other does."""
        planned = self.plan(pipeline)
        return planned is not None and planned.champion is not None and planned.champion.version == version

    def join_release(self, pipeline: str, request_id: str, run_id: str) -> ReleaseRequest:
        """Let another run stand for a release request. See `releases.join`."""
        with self._database.write(pipeline) as connection:
            return releases.join(connection, pipeline, request_id, run_id)

    def arm_of(self, pipeline: str, version: int) -> ArmRecord | None:
        """A version as the newest plan that named it had it, None for one that was never served."""
        with self._database.read() as connection:
            return rollouts.arm_of(connection, pipeline, version)

    def rollout(self, pipeline: str, rollout_id: str | None = None) -> Rollout | None:
        """A rollout as it stands, or the one that goes on; None where it has not begun, or none does."""
        with self._database.read() as connection:
            if rollout_id is None:
                return rollouts.open_(connection, pipeline)
            return rollouts.get(connection, pipeline, rollout_id)

    def quarantined(self, pipeline: str, model: str) -> Quarantined | None:
        """The quarantine that a model is in, by its digest; None where it is in none."""
        with self._database.read() as connection:
            return quarantine.of(connection, pipeline, model)

    def begin_rollout(
        self,
        pipeline: str,
        request_id: str,
        new: ArmRecord,
        *,
        serving: Mapping[str, Any],
        shadow: float | None,
        steps: tuple[float, ...],
    ) -> Rollout:
        """Let an approved version begin to take over from the champion. See `rollouts.begin`."""
        with self._database.write(pipeline) as connection:
            return rollouts.begin(connection, pipeline, request_id, new, serving=serving, shadow=shadow, steps=steps)

    def advance_rollout(
        self, pipeline: str, rollout_id: str, stage: int, *, seen: Mapping[str, Any], reason: str
    ) -> Rollout:
        """Go on to the next step. See `rollouts.advance`."""
        with self._database.write(pipeline) as connection:
            return rollouts.advance(connection, pipeline, rollout_id, stage, seen=seen, reason=reason)

    def complete_rollout(
        self,
        pipeline: str,
        request_id: str,
        new: ArmRecord,
        *,
        serving: Mapping[str, Any],
        former: ArmRecord | None = None,
        seen: Mapping[str, Any] | None = None,
        reason: str = "",
    ) -> Rollout | None:
        """Let the champion that a release made answer everything. See `rollouts.full`."""
        with self._database.write(pipeline) as connection:
            return rollouts.full(connection, pipeline, request_id, new, serving=serving, former=former, seen=seen,
                                 reason=reason)  # fmt: skip

    def end_rollout(self, pipeline: str, rollout_id: str, *, seen: Mapping[str, Any], reason: str) -> Rollout:
        """End a rollout whose version was watched long enough. See `rollouts.done`."""
        with self._database.write(pipeline) as connection:
            return rollouts.done(connection, pipeline, rollout_id, seen=seen, reason=reason)

    def steer(
        self,
        pipeline: str,
        what: Steering,
        *,
        by: str,
        reason: str,
        how: How = "person",
        rollout_id: str | None = None,
        seen: Mapping[str, Any] | None = None,
    ) -> Rollout:
        """Pause, resume, hasten or abort the open rollout. See `rollouts.steer`."""
        with self._database.write(pipeline) as connection:
            return rollouts.steer(connection, pipeline, what, by=by, reason=reason, how=how, rollout_id=rollout_id,
                                  seen=seen)  # fmt: skip

    def toggle(
        self, pipeline: str, *, by: str, reason: str, stopped: bool = False, version: int | None = None
    ) -> Planned:
        """Stop all models, let one version answer everything, or neither. See `rollouts.toggle`."""
        with self._database.write(pipeline) as connection:
            return rollouts.toggle(connection, pipeline, by=by, reason=reason, stopped=stopped, version=version)

    def roll_back(self, pipeline: str, version: int, *, why: str, by: str, how: How, approval: bool) -> RolledBack:
        """Decide that a version answers and shadows no more. See `rollbacks.roll_back`."""
        with self._database.write(pipeline) as connection:
            return rollbacks.roll_back(connection, pipeline, version, why=why, by=by, how=how, approval=approval)
