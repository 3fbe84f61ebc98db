"""Guarding: servers tell each other what they count, and the first that sees harm stops the version for all.

A veto counts on its own server at once, and on every other as soon as that looks at the store. Nothing here waits for
Airflow, and a store that is away keeps no server from stopping by itself.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from time import monotonic

from pydantic import ValidationError

from millrace.core.errors import MillraceError
from millrace.rules.guards import Counts, Finding, judge, merge
from millrace.serving.following import Follower
from millrace.serving.in_force import Counter, InForce
from millrace.store.plans import Veto

log = logging.getLogger(__name__)
SHARE_S = 1.0
"""How often counts are written and read, seconds."""
LOOK_S = 0.05
"""How often what this server counts is looked at, where something happened."""


class Guarding:
    """Guards of one server process. `server` names it among those that serve the same pipelines."""

    def __init__(self, follower: Follower, server: str) -> None:
        self.follower, self.server = follower, server
        self._others: dict[str, list[Counts]] = {}
        self._judged: dict[str, tuple[int, int]] = {}
        self._counters: dict[str, Counter] = {}
        self._unwritten: list[Veto] = []
        self._shared = 0.0

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            for now in self.follower.all():
                if now.watched and self._judged.get(now.plan.pipeline) != (now.plan.generation, now.counter.changed):
                    self.look(now)
            if monotonic() - self._shared >= SHARE_S:
                self._shared = monotonic()
                await asyncio.to_thread(self.share)

    def look(self, now: InForce) -> None:
        """Judge the version that is new, by what all servers counted as far as it is known here."""
        self._judged[now.plan.pipeline] = (now.plan.generation, now.counter.changed)
        if now.suspect is None or now.plan.toggles.version is not None:
            return
        new, old = now.suspect
        fresh = now.counter.fresh
        counted = [*self._others.get(now.plan.pipeline, []), now.counter.counts()]
        now.counter.fresh = fresh
        found = judge(merge(counted), new, old, now.plan.serving.guards)
        if harm := [each for each in found if each.harm]:
            self.stop(now, new, max(harm, key=lambda each: each.evidence - each.needed))

    def stop(self, now: InForce, version: int, finding: Finding) -> None:
        """Veto a version here and now; the object in the store follows."""
        plan = now.plan
        log.error("%s version %s is stopped: %s", plan.pipeline, version, finding.words)
        self.follower.veto(plan.pipeline, plan.generation, version)
        self._unwritten.append(
            Veto(
                pipeline=plan.pipeline, generation=plan.generation, version=version, guard=finding.guard,
                why=finding.words, evidence=finding.evidence, server=self.server, at=datetime.now(UTC).isoformat(),
            )
        )  # fmt: skip
        self._shared = 0.0

    def share(self) -> None:
        """Write vetoes and counts, and read those of others. Raises nothing; what was not written is, later."""
        self._unwritten += self.follower.unfit
        self.follower.unfit = []
        plans = self.follower.plans
        try:
            while self._unwritten:
                plans.veto(self._unwritten[0])
                self._unwritten.pop(0)
            for now in self.follower.all():
                name = now.plan.pipeline
                before = self._counters.get(name)
                self._counters[name] = now.counter
                if before is not None and before.generation != now.counter.generation:
                    self._write(name, before)  # the last of it, which the next step rests on
                if not now.watched:
                    self._others.pop(name, None)
                    continue
                self._write(name, now.counter)
                self._read(now)
        except (MillraceError, OSError) as err:
            log.warning("counts are not shared: %s", err)

    def _write(self, pipeline: str, counter: Counter) -> None:
        if not counter.fresh:
            return
        counts = counter.counts()
        try:
            self.follower.plans.put_tally(
                pipeline, counts.generation, self.server, counts.model_dump_json().encode()
            )  # fmt: skip
        except BaseException:
            counter.fresh = True
            raise
        self._judged.pop(pipeline, None)  # predictions are looked at as often as they are shared

    def _read(self, now: InForce) -> None:
        found: list[Counts] = []
        for generation in range(now.written.since, now.written.generation + 1):
            for server, data in self.follower.plans.tallies(now.plan.pipeline, generation).items():
                if server == self.server and generation == now.counter.generation:
                    continue
                try:
                    found.append(Counts.model_validate_json(data))
                except ValidationError:
                    log.warning("%s: what %s counted cannot be read", now.plan.pipeline, server)
        known = self._others.get(now.plan.pipeline)
        self._others[now.plan.pipeline] = found
        if known != found:
            self._judged.pop(now.plan.pipeline, None)
