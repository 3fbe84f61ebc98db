"""What the protocols have in common, whichever brought a request: who may ask, of which version, and the answer."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from millrace import __version__
from millrace.serving import protocol
from millrace.serving.access import Access
from millrace.serving.answering import Answer, Answerer, Asked
from millrace.serving.caller import Caller
from millrace.serving.following import Follower
from millrace.serving.in_force import InForce
from millrace.serving.limits import Rates, Waiting
from millrace.serving.refused import Refused
from millrace.serving.versions import Ready
from millrace.store.plans import Arm

Headers = dict[bytes, bytes]
BODY = 64 << 20
"""No pipeline takes a larger body; each its own `limits.body_bytes`."""
LONGEST_ID = 128
NAME = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff]*$"
"""An id or a unit: no control character, which could write lines of a log, and no surrogate, which no encoding has."""
_NAME = re.compile(NAME.removesuffix("$") + r"\Z")
HEADER_LENGTH = b"inference-header-content-length"
_UNIT, _ID, _VERSION = b"x-unit", b"x-request-id", b"x-version"
_ONCE = (b"authorization", b"content-encoding", b"content-length", HEADER_LENGTH, _UNIT, _ID, _VERSION)


class Inference:
    """Answers inference requests of one worker process. `answerer` is None until its event loop has begun."""

    def __init__(self, follower: Follower, access: Access) -> None:
        self.follower, self.access = follower, access
        self.answerer: Answerer | None = None
        self._waiting, self._rates = Waiting(), Rates()

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self.answerer is not None and self.follower.looked is not None

    def about(self, extensions: list[str]) -> dict[str, Any]:
        """The server, and what it can do."""
        return {"name": "millrace", "version": __version__, "extensions": extensions}

    async def allowed(self, pipeline: str, headers: Headers) -> tuple[Caller, InForce]:
        """The caller, and what is in force of a pipeline that it may ask. Raises Refused: 401, 403, 404, 503."""
        caller = await self.access.caller(headers)
        return caller, self.served(caller, pipeline)

    def served(self, caller: Caller, pipeline: str) -> InForce:
        """What is in force of a pipeline that this caller may ask. Raises Refused: 403, 404."""
        caller.require(pipeline)
        if pipeline in self.follower.apart:
            raise Refused(404, "this pipeline has a server of its own", given=pipeline,
                          next_step="Ask that one (docs/trainer.md#where-it-answers)")  # fmt: skip
        now = self.follower.of(pipeline)
        if now is None:
            known = sorted(each.plan.pipeline for each in self.follower.all() if caller.may(each.plan.pipeline))
            raise Refused(404, "no such pipeline is served", given=pipeline, allowed=known[:20])
        return now

    async def known(self, headers: Headers) -> list[tuple[InForce, Ready | None]]:
        """All that the caller may ask, each with its first version where that is loaded."""
        caller = await self.access.caller(headers)
        found = [now for now in self.follower.all() if caller.may(now.plan.pipeline)]
        return [(now, self.follower.versions.held(now.plan.arms[0]) if now.plan.arms else None) for now in found]

    def arm(self, now: InForce, version: int | None) -> Arm:
        """A version that is served, the champion if none is named. Raises Refused: 404."""
        arm = now.version(version) if version is not None else next(iter(now.plan.arms), None)
        if arm is None:
            raise Refused(404, "no such version is served", where=now.plan.pipeline, given=version,
                          allowed=numbers(now))  # fmt: skip
        return arm

    async def metadata(self, now: InForce, version: int | None) -> dict[str, Any]:
        """What a version takes and gives; see `protocol.metadata`."""
        arm, versions = self.arm(now, version), self.follower.versions
        if (ready := versions.held(arm)) is None:
            ready = await asyncio.to_thread(versions.get, arm)
        return protocol.metadata(ready, numbers(now))

    def begin(self, now: InForce, caller: Caller) -> int:
        """Count a request. Gives the bytes that its body may have. Raises Refused: 429."""
        limits = now.plan.serving.limits
        self._rates.take(caller.name, now.plan.pipeline, limits.per_second)
        return min(BODY, limits.body_bytes)

    async def infer(
        self, now: InForce, caller: Caller, headers: Headers, body: Mapping[str, Any], binary: bytes,
        version: int | None,
    ) -> tuple[dict[str, Any], bytes]:  # fmt: skip
        """Answer a request of the Open Inference Protocol: the answer's body, and the bytes of its binary outputs."""
        rows = protocol.rows_of(body, binary)
        asked = self.asked(now, caller, headers, body.get("id"), version)
        if rows and rows[0].keys() <= now.names:
            asked.entities = rows
        else:
            asked.rows = rows
        return protocol.response(await self.answer(now, asked), now.plan.pipeline, body)

    def asked(self, now: InForce, caller: Caller, headers: Headers, name: Any, version: int | None) -> Asked:
        """A request without its rows: its id (`name`, or what a header says, or a new one), unit and version.

        Raises Refused: 400 for an id or a unit that is none, 403 for a version that this caller may not choose.
        """
        if name is None or name == "":
            name = _said(headers, _ID) or os.urandom(8).hex()
        if version is None and (said := _said(headers, _VERSION)) is not None:
            version = version_of(said)
        champion = next(iter(now.plan.arms), None)
        if version is not None and not caller.tester and (champion is None or version != champion.version):
            raise Refused(403, "only testers choose a version", where=now.plan.pipeline, given=version)
        unit = _said(headers, _UNIT)
        return Asked(_name(name, "id"), unit=None if unit is None else _name(unit, _UNIT.decode()), version=version,
                     caller=caller.name, tenant=caller.tenant)  # fmt: skip

    async def answer(self, now: InForce, asked: Asked) -> Answer:
        """Answer, unless too many requests of this pipeline wait already."""
        assert self.answerer is not None
        with self._waiting.room(now.plan.pipeline, asked.tenant, now.plan.serving.limits.waiting):
            return await self.answerer.answer(now, asked)


def once(pairs: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Headers by lower-case name. Raises Refused, 400, where one that counts stands twice: a proxy may have looked at
    the other."""
    found: Headers = {}
    for name, value in pairs:
        if name in found and name in _ONCE:
            raise Refused(400, "a header stands twice", where=name.decode(), next_step="Say it once")
        found[name] = value
    return found


def version_of(text: str) -> int:
    """A version by its number. Raises Refused, 404, for what is no number."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Refused(404, "a version is a number", given=text[:40])
    return int(text)


def numbers(now: InForce) -> list[int]:
    """The versions that may be asked for by number."""
    return sorted(arm.version for arm in now.plan.versions if arm.version not in now.vetoed)


def _said(headers: Headers, name: bytes) -> str | None:
    """What a header says; None where it is left out or empty."""
    return headers.get(name, b"").decode("latin-1") or None


def _name(given: Any, where: str) -> str:
    if not isinstance(given, str) or len(given) > LONGEST_ID or _NAME.fullmatch(given) is None:
        raise Refused(400, "is no name", where=where,
                      allowed=f"text without control characters, up to {LONGEST_ID}")  # fmt: skip
    return given
