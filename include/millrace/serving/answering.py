"""Answering: from entities or rows to predictions that are logged, by the version that each unit meets.

A request's rows meet the versions of their units: usually all the same one. What a version cannot answer (its model
raises, hangs past the deadline, or gives no number) the chain of fallbacks does: the champion, the champion before it,
the constant, and at last an error. What a caller sent wrongly, or the online store did not give, is no version's fault.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter, time_ns
from typing import Any, Protocol

from pydantic_core import to_json

from millrace.contract.answered import Found, Role
from millrace.core.deadline import Deadline
from millrace.core.errors import DataError, MillraceError, Unavailable
from millrace.models.metrics import usable
from millrace.online.features import Row, read
from millrace.online.reader import Reader
from millrace.serving.commits import Commits
from millrace.serving.in_force import InForce, unit_of
from millrace.serving.refused import Refused
from millrace.serving.versions import Ready, Versions
from millrace.spec.serving import Durability
from millrace.store.plans import Arm

log = logging.getLogger(__name__)

_NEXT = {
    "unknown": "Has a partition with it been materialized? Or say in the spec what is 'missing'",
    "stale": "Its newest row is older than the view's ttl: has a later partition been materialized? Or say in the spec "
    "what is 'missing'",
}


@dataclass(slots=True)
class Asked:
    """One request. Either `entities` (join key, or field that on-demand features take -> value) or `rows` (feature ->
    value), at least one."""

    id: str
    entities: list[dict[str, Any]] | None = None
    rows: list[dict[str, Any]] | None = None
    unit: str | None = None
    version: int | None = None
    caller: str = ""
    tenant: str = ""
    begun: float = field(default_factory=perf_counter)
    at: int = field(default_factory=lambda: time_ns() // 1000)


@dataclass(slots=True)
class Part:
    """The rows of a request that one version answers: their places in it, and what came of them."""

    places: list[int]
    unit: str
    arm: Arm | None
    role: Role = "champion"
    ready: Ready | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    given: list[dict[str, Any]] = field(default_factory=list)
    """ What its on-demand features took from the request, where the version has some. """
    read: list[dict[str, Any]] = field(default_factory=list)
    """ All that was read or carried, for a shadow: where a version of the plan has on-demand features. """
    found: list[Found] = field(default_factory=list)
    times: list[dict[str, int | None]] | None = None
    predictions: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Answer:
    """What a request gets: its parts, which hold every row once."""

    id: str
    generation: int
    parts: list[Part]
    logged: bool = True

    def in_order(self) -> list[tuple[Part, int]]:
        """Each row's part, and its place in that, in the order of the request."""
        if len(self.parts) == 1:
            return [(self.parts[0], n) for n in range(len(self.parts[0].places))]
        held = {place: (part, n) for part in self.parts for n, place in enumerate(part.places)}
        return [held[place] for place in sorted(held)]


class Shadows(Protocol):
    """Takes what a shadow shall predict, without ever waiting; says whether it was taken."""

    def send(self, frame: bytes) -> bool:
        """Hand over one frame."""


class Answerer:
    """Answers for one worker process. `reader` is of its event loop; None: no features are read online. `commits` are
    the ways into its logs. `server` names the process there."""

    def __init__(
        self, versions: Versions, reader: Reader | None, commits: Mapping[Durability, Commits], *, server: str = "",
        shadows: Shadows | None = None,
    ) -> None:  # fmt: skip
        self.versions, self.reader, self.commits, self.server, self.shadows = versions, reader, commits, server, shadows

    async def answer(self, now: InForce, asked: Asked) -> Answer:
        """Answer a request. Raises Refused with what the caller is told."""
        limits = now.plan.serving.limits
        count = len(asked.entities if asked.entities is not None else asked.rows or ())
        if not 0 < count <= limits.rows:
            raise Refused(413 if count else 400, "a request has rows or entities, but not too many",
                          given=f"{count} rows", allowed=f"1 to {limits.rows}")  # fmt: skip
        answer = Answer(asked.id, now.plan.generation, self._parts(now, asked, count))
        try:
            with Deadline(limits.deadline_ms / 1000 - (perf_counter() - asked.begun)):
                for part in answer.parts:
                    await self._answer(now, asked, part)
        except TimeoutError:
            for part in answer.parts:
                if part.arm is not None and not part.predictions and asked.version is None:
                    now.counter.failed(part.arm.version, now.named(part.unit))
            raise Refused(504, f"no answer within {limits.deadline_ms:g} ms", where=now.plan.pipeline) from None
        await self._keep(now, asked, answer)
        if self.shadows is not None and now.plan.shadow is not None:
            self._shadow(now, asked, answer)
        return answer

    def _parts(self, now: InForce, asked: Asked, count: int) -> list[Part]:
        """Rows by the unit's version: one part unless entities of one request meet different ones."""
        one = asked.unit
        if one is None and (asked.entities is None or now.plan.serving.unit == "request"):
            one = asked.id
        if one is None and asked.entities is not None:
            units = [unit_of(entity, now.entity) for entity in asked.entities]
            if now.met[1] is not None and asked.version is None:
                parts: dict[int | None, Part] = {}
                for place, unit in enumerate(units):
                    arm = now.arm(unit)
                    part = parts.setdefault(arm.version if arm else None, Part([], unit, arm))
                    part.places.append(place)
                return [_with_role(part) for part in parts.values()]
            one = units[0]
        assert one is not None
        arm = now.arm(one)
        if asked.version is not None:
            chosen = now.version(asked.version)
            if chosen is None:
                known = sorted(each.version for each in now.plan.versions if each.version not in now.vetoed)
                raise Refused(404, "no such version is served", where=now.plan.pipeline, given=asked.version,
                              allowed=known)  # fmt: skip
            arm = None if now.stopped else chosen
        return [_with_role(Part(list(range(count)), one, arm))]

    async def _answer(self, now: InForce, asked: Asked, part: Part) -> None:
        """Fill a part by its version, or by what stands behind it."""
        serving = now.plan.serving
        for arm in _chain(now, part.arm, asked.version):
            try:
                ready = self.versions.held(arm)
                if ready is None:
                    ready = await asyncio.to_thread(self.versions.get, arm)
                await self._features(now, asked, part, ready)
                begun = perf_counter()
                predicted = await ready.predict(part.rows, asked.tenant)
                if not usable(predicted).all():
                    raise MillraceError("the model gives no number")
            except (Refused, Unavailable):
                raise
            except DataError as err:
                if asked.rows is not None:
                    raise Refused.of(400, err) from None
                self._failed(now, asked, part, arm, err)
            except MillraceError as err:
                self._failed(now, asked, part, arm, err)
            except Exception as err:  # whatever a model raises
                self._failed(now, asked, part, arm, err)
            else:
                self._answered(now, asked, part, arm, ready, predicted.tolist(), perf_counter() - begun)
                return
        if serving.fallback.constant is None:
            raise Refused(503 if now.stopped or not now.plan.arms else 500,
                          "a person has stopped this pipeline" if now.stopped else "no version could answer",
                          where=now.plan.pipeline)  # fmt: skip
        _constant(part, serving.fallback.constant)

    async def _features(self, now: InForce, asked: Asked, part: Part, ready: Ready) -> None:
        """The rows as a version takes them."""
        if asked.rows is not None:
            part.rows = [asked.rows[place] for place in part.places]
            part.found = ["given"] * len(part.places)
            return
        assert asked.entities is not None
        if self.reader is None or not ready.deployment.views:
            raise Refused(400, "features of this pipeline are not read online", where=now.plan.pipeline,
                          next_step="Send 'rows' with all features")  # fmt: skip
        entities = [asked.entities[place] for place in part.places]
        if ready.computing is not None:
            part.given = list(map(ready.computing.given, entities, part.places))
        try:
            held = await read(ready.deployment.views, self.reader, entities, datetime.now(UTC))
        except DataError as err:
            raise Refused.of(400, err) from None
        except Unavailable as err:
            raise Refused.of(503, err) from err
        part.found = [row.state for row in held]
        part.times = [row.event_us for row in held]
        lacking = [place for place, row in zip(part.places, held, strict=True) if row.state != "found"]
        missing = now.plan.serving.missing
        if lacking and missing == "refuse":
            first = held[part.places.index(lacking[0])]
            raise Refused(404, f"{len(lacking)} of {len(held)} entities have no features that may be used",
                          where=now.plan.pipeline, given=f"entity {lacking[0]} is {first.state} in {first.views[0]}",
                          next_step=_NEXT[first.state])  # fmt: skip
        defaults = now.plan.serving.defaults
        if ready.computing is None and not now.on_demand:
            part.rows = [_row(row, ready.features, defaults) for row in held]
            return
        values = [row.features if row.state == "found" else {name: defaults.get(name) for name in row.features}
                  for row in held]  # fmt: skip
        part.read = [{**{name: row.get(name) for name in now.inputs}, **entity}
                     for row, entity in zip(values, entities, strict=True)]  # fmt: skip
        if ready.computing is None:
            part.rows = [_row(row, ready.features, defaults) for row in held]
            return
        taken = [{**row, **given} for row, given in zip(values, part.given, strict=True)]
        part.rows = ready.computing.rows(taken, ready.features)

    def _answered(
        self, now: InForce, asked: Asked, part: Part, arm: Arm, ready: Ready, predicted: list[Any], seconds: float
    ) -> None:
        serving = now.plan.serving
        part.ready, part.predictions = ready, predicted
        met = part.arm is arm
        if not met:
            former = now.plan.former is not None and now.plan.former.version == arm.version
            part.arm, part.role = arm, "former" if former else "champion"
        if serving.missing == "fallback" and asked.entities is not None:
            constant = serving.fallback.constant
            part.predictions = [p if f == "found" else constant for p, f in zip(predicted, part.found, strict=True)]
        if met and asked.version is None and now.plan.toggles.version is None:  # who steps in was met by chance no more
            slow = serving.guards.slow_ms is not None and seconds * 1000 > serving.guards.slow_ms
            for unit, prediction in self._units(now, asked, part, predicted):
                now.counter.answered(arm.version, now.named(unit), prediction, slow)

    def _failed(self, now: InForce, asked: Asked, part: Part, arm: Arm, err: Exception) -> None:
        log.warning("%s version %s cannot answer request %s: %s", now.plan.pipeline, arm.version, asked.id, told(err))
        if asked.version is None and now.plan.toggles.version is None:
            for unit, _ in self._units(now, asked, part, [None] * len(part.places)):
                now.counter.failed(arm.version, now.named(unit))

    def _units(self, now: InForce, asked: Asked, part: Part, predicted: list[Any]) -> list[tuple[str, Any]]:
        """The units of a part with the first prediction of each."""
        if asked.unit is None and asked.entities is not None and now.plan.serving.unit == "entity":
            of = [unit_of(asked.entities[place], now.entity) for place in part.places]
            return list(dict(zip(reversed(of), reversed(predicted), strict=True)).items())
        return [(part.unit, predicted[0])]

    def _unit(self, now: InForce, asked: Asked, part: Part) -> str | None:
        """The name of a part's unit in the log; None where its rows are several units."""
        several = asked.unit is None and asked.entities is not None and len(part.places) > 1
        return None if several and now.plan.serving.unit == "entity" else now.named(part.unit)

    async def _keep(self, now: InForce, asked: Asked, answer: Answer) -> None:
        """Log an answer; it is given once that has succeeded."""
        ms, commits = (perf_counter() - asked.begun) * 1000, self.commits[now.plan.serving.log.durability]
        try:
            if len(answer.parts) == 1:
                await commits.append(self._record(now, asked, answer.parts[0], ms))
            else:
                records = [self._record(now, asked, part, ms) for part in answer.parts]
                await asyncio.gather(*map(commits.append, records))
        except Unavailable as err:
            constant = now.plan.serving.fallback.constant
            if now.plan.serving.log.when_full == "refuse" or constant is None:
                raise Refused.of(503, err) from err
            answer.logged = False
            for part in answer.parts:
                _constant(part, constant)

    def _record(self, now: InForce, asked: Asked, part: Part, ms: float) -> bytes:
        """One line of the log; see `contract.answered`."""
        spec, ready = now.plan.serving.log, part.ready
        columns = rows = None
        if ready is not None and now.kept(part.unit):
            columns = [name for name in ready.features if name not in spec.leave_out]
            values: list[dict[str, Any]] = part.rows
            if ready.computing is not None and part.given:
                columns += [f.name for f in ready.computing.request if f.name not in spec.leave_out]
                values = [{**row, **given} for row, given in zip(part.rows, part.given, strict=True)]
            rows = [[row.get(name) for name in columns] for row in values]
        entities = self._entities(now, asked, part)
        return to_json({
            "id": asked.id, "at": asked.at, "ms": round(ms, 3), "pipeline": now.plan.pipeline,
            "version": part.arm.version if part.arm is not None else None,
            "model": part.arm.model if part.arm is not None else None,
            "role": part.role, "generation": now.plan.generation, "unit": self._unit(now, asked, part),
            "caller": asked.caller, "entities": entities, "times": part.times, "found": part.found,
            "columns": columns, "rows": rows, "predictions": part.predictions, "server": self.server,
        }, inf_nan_mode="null")  # fmt: skip

    def _entities(self, now: InForce, asked: Asked, part: Part) -> list[dict[str, Any]] | None:
        """Join keys, without what else a request carries for on-demand features."""
        if asked.entities is None:
            return None
        entities = [asked.entities[place] for place in part.places]
        return [{key: each.get(key) for key in now.entity} for each in entities] if now.request else entities

    def _shadow(self, now: InForce, asked: Asked, answer: Answer) -> None:
        """Hand a copy to the shadow, where it has time."""
        shadow = now.plan.shadow
        assert shadow is not None and self.shadows is not None
        for part in answer.parts:
            if part.ready is None or not now.shadowed(part.unit):
                continue
            units = self._units(now, asked, part, part.predictions)
            frame = to_json({
                "pipeline": now.plan.pipeline, "generation": now.plan.generation, "version": shadow.version,
                "id": asked.id, "at": asked.at, "caller": asked.caller, "unit": self._unit(now, asked, part),
                "units": [now.named(unit) for unit, _ in units],
                "entities": self._entities(now, asked, part),
                "rows": [{**read, **row} for read, row in zip(part.read, part.rows, strict=True)] if part.read
                else part.rows, "times": part.times, "found": part.found,
            }, inf_nan_mode="null")  # fmt: skip
            if not self.shadows.send(frame):
                now.counter.dropped(shadow.version)


def told(err: Exception) -> str:
    """An error of a version as a log may have it: without the values of features that it may quote."""
    if isinstance(err, MillraceError):
        return err.message
    frames = traceback.extract_tb(err.__traceback__)
    return type(err).__name__ + (f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else "")


def _chain(now: InForce, arm: Arm | None, forced: int | None) -> list[Arm]:
    """Who answers, and who does where that one cannot."""
    if arm is None:
        return []
    if forced is not None:
        return [arm]
    chain = [arm, *now.plan.arms[:1]]
    former = now.plan.former
    if now.plan.serving.fallback.former and former is not None and former.version not in now.vetoed:
        chain.append(former)
    return list({each.version: each for each in chain}.values())


def _with_role(part: Part) -> Part:
    if part.arm is not None:
        part.role = part.arm.role
    return part


def _row(row: Row, features: tuple[str, ...], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Exactly the features that a model takes; of an entity without any, the defaults."""
    if row.state == "found":
        if tuple(row.features) == features:
            return row.features
        return {name: row.features.get(name) for name in features}
    return {name: defaults.get(name) for name in features}


def _constant(part: Part, constant: float | str) -> None:
    part.arm, part.ready, part.role = None, None, "constant"
    part.predictions = [constant] * len(part.places)
    part.found = part.found or ["given"] * len(part.places)
