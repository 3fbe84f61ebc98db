"""Following: plans and vetoes in the store, looked at every second; what cannot be read leaves the last in force."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING

from millrace.core.errors import ContractError, Corrupt, DataError, MillraceError, NotFound
from millrace.models.deployment import Deployment, load_deployment
from millrace.online.on_demand import OnDemandView
from millrace.serving.in_force import Counter, InForce
from millrace.store import ObjectStore, layout
from millrace.store.interface import Object
from millrace.store.plans import Plans, TrafficPlan, Veto

if TYPE_CHECKING:
    from millrace.serving.versions import Versions

log = logging.getLogger(__name__)
BEFOREHAND_S = 2.0
"""Seconds that a server which starts may load versions before anybody asks for them."""
SETTLED = timedelta(seconds=5)
"""After which an object of the same size and time of change is the same: S3 tells that time in whole seconds."""
STALE_S = 5.0
"""Seconds without a look after which nobody knows whether the plans are still those in force: looks come once a second,
and a store that does not answer may hold one for long."""

Counted = tuple[Counter, tuple[str, ...], tuple[OnDemandView, ...]]


class PlanFollower:
    """Keeps what is in force of every pipeline, or of some, and loads no models: for who asks which version answers.
    `look` is called by one thread; `of`, `all` and `stale` by any.

    `only`: nothing of another pipeline is asked of the store, so that a key for these alone will do. `apart`: those
    that have a server of their own, which this one neither loads nor speaks against.
    """

    def __init__(
        self, objects: ObjectStore, *, only: Collection[str] = (), apart: Collection[str] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:  # fmt: skip
        self.plans, self._now = Plans(objects), now
        self.only, self.apart = frozenset(only), frozenset(apart)
        self._in_force: dict[str, InForce] = {}
        self._seen: dict[str, tuple[int, datetime]] = {}
        self._told: dict[str, str] = {}
        self._own: dict[str, set[tuple[int, int]]] = {}
        self._lock = threading.Lock()
        self._looked = -math.inf
        self.looked: datetime | None = None

    def of(self, pipeline: str) -> InForce | None:
        """What is in force of a pipeline; None where it has no plan."""
        return self._in_force.get(pipeline)

    def all(self) -> list[InForce]:
        """What is in force of every pipeline."""
        return list(self._in_force.values())

    def stale(self, pipeline: str = "") -> bool:
        """Whether another plan of a pipeline, or of any, may have been decided than is known here: the last look did
        not read it, or is long ago."""
        return "" in self._told or pipeline in self._told or monotonic() - self._looked > STALE_S

    def look(self) -> None:
        """Read what has changed. Raises nothing: a store that does not answer is told once, and changes nothing."""
        try:
            listed, vetoes = self._listed()
        except (MillraceError, OSError) as err:
            self._tell("", f"the store does not answer, the plans stay as they are: {err}")
            return
        if self._in_force and not listed:  # a folder that is no longer mounted, say
            self._tell("", "the store has no plans any more, and those of before stay as they are")
            return
        self._tell("", None)
        spoken: dict[str, set[tuple[int, int]]] = {}
        for key in vetoes:
            spoken.setdefault(layout.vetoed_pipeline(key), set()).add(layout.veto_of(key))
        for key, item in listed.items():
            pipeline = layout.plan_of(key)
            if pipeline in self.apart or (self.only and pipeline not in self.only):
                continue
            try:
                self._follow(pipeline, (item.size, item.changed), spoken.get(pipeline, set()))
                self._tell(pipeline, None)
            except (MillraceError, OSError) as err:
                self._tell(pipeline, f"the plan cannot be followed, the last one stays: {err}")
        for pipeline in self._in_force.keys() - {layout.plan_of(key) for key in listed}:
            self._tell(pipeline, "the plan is gone from the store, the last one stays")
        self._looked, self.looked = monotonic(), self._now()

    def _listed(self) -> tuple[dict[str, Object], list[str]]:
        """Plans by their keys, and keys of vetoes. Raises MillraceError or OSError where the store does not answer."""
        objects, some = self.plans.objects, sorted(self.only - self.apart)
        plans = [layout.plan(name) for name in some] if self.only else [layout.PLANS]
        vetoes = [layout.vetoes(name) for name in some] if self.only else [layout.VETOES]
        return (
            {found.key: found for prefix in plans for found in objects.list(prefix)},
            [found.key for prefix in vetoes for found in objects.list(prefix)],
        )

    def _follow(self, pipeline: str, stamp: tuple[int, datetime], spoken: set[tuple[int, int]]) -> None:
        now = self._in_force.get(pipeline)
        written = now.written if now is not None else None
        if written is None or self._seen.get(pipeline) != stamp or self._now() - stamp[1] < SETTLED:
            found = self.plans.get(pipeline)
            if found is not None and (written is None or found.generation >= written.generation):
                written = found
            self._seen[pipeline] = stamp
        if written is None:
            return
        if now is None or written.generation != now.written.generation:
            self._prepare(written, again=now is not None)
        vetoed = _of(written, spoken)
        with self._lock:
            now = self._in_force.get(pipeline)
            if now is None or now.written.generation != written.generation or vetoed - now.vetoed:
                self._in_force[pipeline] = self._less(written, now, vetoed)

    def _prepare(self, plan: TrafficPlan, again: bool) -> None:
        """Make ready for a plan before it is in force; `again`: the pipeline had one before."""

    def _counted(self, plan: TrafficPlan) -> Counted:
        """What counts under a plan, the join keys of its entity, and what is computed on demand."""
        return Counter(plan, ()), (), ()

    def _less(self, written: TrafficPlan, before: InForce | None, vetoed: frozenset[int]) -> InForce:
        vetoed = vetoed | _of(written, self._own.get(written.pipeline, set()))
        if before is not None and before.written.generation == written.generation:
            vetoed, counted = vetoed | before.vetoed, (before.counter, before.entity, before.on_demand)
        else:
            counted = self._counted(written)
        counter, entity, on_demand = counted
        plan = written.less(vetoed)
        if plan.generation > 1 or vetoed:
            log.info("%s: plan %s in force: %s", plan.pipeline, plan.generation, words(plan))
        return InForce(plan=plan, written=written, vetoed=vetoed, counter=counter, entity=entity,
                       on_demand=on_demand)  # fmt: skip

    def _tell(self, about: str, what: str | None) -> None:
        """Say something once, until it is over."""
        if what is None:
            if self._told.pop(about, None) is not None:
                log.warning("%s: the plans are followed again", about or "store")
        elif self._told.get(about) != what:
            self._told[about] = what
            log.error("%s: %s", about or "store", what)


class Follower(PlanFollower):
    """Follows plans and loads what they name.

    A plan is in force once its versions are loaded, so that nobody waits for them, as far as memory goes. A challenger
    that cannot be loaded as it was stored is vetoed; a champion that cannot leaves the last plan in force.
    """

    def __init__(
        self, objects: ObjectStore, versions: Versions, *, only: Collection[str] = (), apart: Collection[str] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:  # fmt: skip
        super().__init__(objects, only=only, apart=apart, now=now)
        self.versions = versions
        self._begun: float | None = None
        self.unfit: list[Veto] = []
        """ Vetoes of this follower's own that somebody has yet to write. """

    def veto(self, pipeline: str, generation: int, version: int) -> None:
        """Let a veto of this server count at once, whatever becomes of its object in the store."""
        with self._lock:
            self._own.setdefault(pipeline, set()).add((generation, version))
            if (now := self._in_force.get(pipeline)) is not None:
                self._in_force[pipeline] = self._less(now.written, now, frozenset())

    def _prepare(self, plan: TrafficPlan, again: bool) -> None:
        """Load what a plan names: of a pipeline that is served already always, of others while memory and time allow;
        the rest is loaded when it is asked for."""
        champion = plan.arms[0].version if plan.arms else None
        self._begun = monotonic() if self._begun is None else self._begun
        until = self._begun + BEFOREHAND_S
        for arm in plan.versions:
            if not again and (self.versions.size >= self.versions.most // 2 or monotonic() > until):
                return
            try:
                self.versions.get(arm)
            except (NotFound, Corrupt, DataError, ContractError) as err:
                if arm.version == champion:
                    raise
                self._own.setdefault(plan.pipeline, set()).add((plan.generation, arm.version))
                self.unfit.append(
                    Veto(
                        pipeline=plan.pipeline, generation=plan.generation, version=arm.version, guard="load",
                        why=f"it cannot be loaded: {err}", at=self._now().isoformat(),
                    )
                )  # fmt: skip

    def _counted(self, plan: TrafficPlan) -> Counted:
        deployments = self._deployments(plan)
        if not deployments:
            return super()._counted(plan)
        first = deployments[0]
        on_demand = tuple(view for each in deployments for view in each.on_demand)
        return Counter(plan, first.bins), first.entity, on_demand

    def _deployments(self, plan: TrafficPlan) -> list[Deployment]:
        """What a plan's versions are, the first one's above all: of another, that which cannot be read is none."""
        found: list[Deployment] = []
        for arm in plan.versions:
            try:
                found.append(load_deployment(self.plans.objects, arm.deployment))
            except (NotFound, Corrupt):
                if not found:
                    raise
        return found


def words(plan: TrafficPlan) -> str:
    """What a plan says, for a person."""
    arms = ", ".join(f"version {arm.version} answers {arm.share:.4g}" for arm in plan.arms) or "no version answers"
    shadow = "" if plan.shadow is None else f", version {plan.shadow.version} in shadow"
    stopped = ", stopped by a person" if plan.toggles.stopped else ""
    forced = "" if plan.toggles.version is None else f", version {plan.toggles.version} forced by a person"
    return f"{arms}{shadow}{stopped}{forced}"


def _of(plan: TrafficPlan, spoken: Collection[tuple[int, int]]) -> frozenset[int]:
    known = {arm.version for arm in plan.versions}
    return frozenset(version for generation, version in spoken if generation >= plan.since and version in known)
