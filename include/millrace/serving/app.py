"""The server's ASGI application: paths to answers, and what is refused to words. No framework stands between.

Paths: the Open Inference Protocol under /v2 (see `protocol`), /predict/{pipeline} by entities or rows, /openapi.json.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from pydantic_core import to_json

from millrace import __version__
from millrace.serving import body as bodies
from millrace.serving import protocol
from millrace.serving.access import Access
from millrace.serving.answering import Answer, Answerer, Asked
from millrace.serving.caller import Caller
from millrace.serving.following import Follower
from millrace.serving.in_force import InForce
from millrace.serving.limits import Rates, Waiting
from millrace.serving.openapi import document
from millrace.serving.refused import Refused
from millrace.serving.versions import Ready

log = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = dict[bytes, bytes]

JSON = (b"content-type", b"application/json")
BINARY = (b"content-type", b"application/octet-stream")
LENGTH = b"inference-header-content-length"
BODY = 64 << 20
"""No pipeline takes a larger body; each its own `limits.body_bytes`."""
LONGEST_ID = 128
PATHS = ["/predict/{pipeline}", "/v2/models/{pipeline}/infer", "/v2/health/ready", "/openapi.json"]
EXTENSIONS = ["binary_tensor_data"]


class App:
    """Answers HTTP. `begin` makes what belongs to the worker's event loop, `end` closes it; both by lifespan."""

    def __init__(
        self, follower: Follower, access: Access, begin: Callable[[], Awaitable[Answerer]],
        end: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        self.follower, self.access = follower, access
        self._begin, self._end = begin, end
        self._answerer: Answerer | None = None
        self._waiting, self._rates = Waiting(), Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    self._answerer = await self._begin()
                except Exception as err:
                    log.exception("the server cannot start")
                    await send({"type": "lifespan.startup.failed", "message": str(err)})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._end()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        status, more = 200, ()  # type: int, tuple[tuple[bytes, bytes], ...]
        try:
            found, more = await self._route(scope, headers, receive)
            if isinstance(found, tuple):
                status, found = found
        except Refused as err:
            status, found, more = err.status, to_json(problem(err)), (JSON, *err.headers)
        except Exception:
            log.exception("a request failed")
            status, found, more = 500, b'{"error":"the server failed; its log says how"}', (JSON,)
        length = (b"content-length", b"%d" % len(found))
        await send({"type": "http.response.start", "status": status, "headers": [length, *more]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else found})

    async def _route(self, scope: Scope, headers: Headers, receive: Receive) -> tuple[Any, tuple[Any, ...]]:
        match [scope["method"], *scope["path"].strip("/").split("/")]:
            case ["POST", "predict", pipeline]:
                return await self._predict(pipeline, headers, receive)
            case ["POST", "v2", "models", pipeline, "infer"]:
                return await self._infer(pipeline, None, headers, receive)
            case ["POST", "v2", "models", pipeline, "versions", version, "infer"]:
                return await self._infer(pipeline, version, headers, receive)
            case ["GET" | "HEAD", "v2", "health", "live"]:
                return b'{"live":true}', (JSON,)
            case ["GET" | "HEAD", "v2", "health", "ready"]:
                ready = self._answerer is not None and self.follower.looked is not None
                return (200, b'{"ready":true}') if ready else (503, b'{"ready":false}'), (JSON,)
            case ["GET" | "HEAD", "v2"]:
                return to_json({"name": "millrace", "version": __version__, "extensions": EXTENSIONS}), (JSON,)
            case ["GET" | "HEAD", "openapi.json"]:
                return to_json(document(await self._known(headers))), (JSON,)
            case ["GET" | "HEAD", "v2", "models", pipeline, *rest] if len(rest) in (0, 1, 2, 3):
                return await self._model(pipeline, rest, headers)
            case [_, "predict", _] | [_, "v2", "models", _, "infer"] | [_, "v2", "models", _, "versions", _, "infer"]:
                raise Refused(405, "is asked by POST", headers=[(b"allow", b"POST")], where=scope["path"][:200])
            case [_, "v2", *_] | [_, "openapi.json"]:
                raise Refused(405, "is asked by GET", headers=[(b"allow", b"GET, HEAD")], where=scope["path"][:200])
        raise Refused(404, "no such path", given=scope["path"][:200],
                      allowed=PATHS)  # fmt: skip

    async def _model(self, pipeline: str, rest: list[str], headers: Headers) -> tuple[Any, tuple[Any, ...]]:
        _, now = await self._allowed(pipeline, headers)
        version: int | None = None
        if rest[:1] == ["versions"] and len(rest) > 1:
            version, rest = _version(rest[1]), rest[2:]
        if rest not in ([], ["ready"]):
            raise Refused(404, "no such path", given="/".join(rest)[:200], allowed=["ready"])
        arm = now.version(version) if version is not None else next(iter(now.plan.arms), None)
        if arm is None:
            raise Refused(404, "no such version is served", where=pipeline, given=version,
                          allowed=_numbers(now))  # fmt: skip
        if rest:
            return to_json({"name": pipeline, "ready": True}), (JSON,)
        ready = await self._loaded(arm)
        return to_json(protocol.metadata(ready, _numbers(now))), (JSON,)

    async def _loaded(self, arm: Any) -> Ready:
        held = self.follower.versions.held(arm)
        return held if held is not None else await asyncio.to_thread(self.follower.versions.get, arm)

    async def _infer(
        self, pipeline: str, version: str | None, headers: Headers, receive: Receive
    ) -> tuple[Any, tuple[Any, ...]]:
        caller, now = await self._allowed(pipeline, headers)
        self._rates.take(caller.name, pipeline, now.plan.serving.limits.per_second)
        number = None if version is None else _version(version)
        data = await bodies.read(receive, headers, min(BODY, now.plan.serving.limits.body_bytes))
        text, binary = data, b""
        if (said := headers.get(LENGTH)) is not None:
            if not said.isdigit() or len(said) > 12 or int(said) > len(data):
                raise Refused(400, "not a part of the body", where=LENGTH.decode(), given=said.decode("latin-1")[:40],
                              allowed=f"0 to {len(data)}")  # fmt: skip
            text, binary = data[: int(said)], data[int(said) :]
        body = _object(bodies.parse(text))
        rows = protocol.rows_of(body, binary)
        asked = self._asked(now, caller, headers, body, number)
        if rows and rows[0].keys() <= set(now.entity):
            asked.entities = rows
        else:
            asked.rows = rows
        answer = await self._answer(now, asked)
        found, packed = protocol.response(answer, pipeline, body)
        text = to_json(found)
        if packed:
            return text + packed, (BINARY, (LENGTH, b"%d" % len(text)))
        return text, (JSON,)

    async def _predict(self, pipeline: str, headers: Headers, receive: Receive) -> tuple[Any, tuple[Any, ...]]:
        caller, now = await self._allowed(pipeline, headers)
        self._rates.take(caller.name, pipeline, now.plan.serving.limits.per_second)
        data = await bodies.read(receive, headers, min(BODY, now.plan.serving.limits.body_bytes))
        body = _object(bodies.parse(data))
        if unknown := sorted(body.keys() - {"entities", "rows", "id"}):
            raise Refused(400, "no such field", given=unknown[0][:80], allowed=["entities", "rows", "id"])
        if ("entities" in body) == ("rows" in body):
            raise Refused(400, "a request has either entities or rows", given=", ".join(sorted(body)) or "neither",
                          allowed=["entities", "rows"])  # fmt: skip
        asked = self._asked(now, caller, headers, body, None)
        if "entities" in body:
            asked.entities = _objects(body["entities"], "entities")
            for number, entity in enumerate(asked.entities):
                if entity.keys() != set(now.entity):
                    raise Refused(400, "an entity has its join keys and nothing else", where=f"entities.{number}",
                                  given=", ".join(sorted(entity))[:200], allowed=now.entity)  # fmt: skip
        else:
            asked.rows = _objects(body["rows"], "rows")
        return to_json(_plain(await self._answer(now, asked), pipeline)), (JSON,)

    async def _answer(self, now: InForce, asked: Asked) -> Answer:
        """Answer, unless too many requests of this pipeline wait already."""
        assert self._answerer is not None
        with self._waiting.room(now.plan.pipeline, asked.tenant, now.plan.serving.limits.waiting):
            return await self._answerer.answer(now, asked)

    def _asked(
        self, now: InForce, caller: Caller, headers: Headers, body: Mapping[str, Any], version: int | None
    ) -> Asked:
        given = body.get("id") or headers.get(b"x-request-id", b"").decode("latin-1") or os.urandom(8).hex()
        if not isinstance(given, str) or len(given) > LONGEST_ID or not given.isprintable():
            raise Refused(400, "is no request id", where="id", allowed=f"printable text up to {LONGEST_ID} characters")
        if version is None and (said := headers.get(b"x-version")) is not None:
            version = _version(said.decode("latin-1"))
        champion = next(iter(now.plan.arms), None)
        if version is not None and not caller.tester and (champion is None or version != champion.version):
            raise Refused(403, "only testers choose a version", where=now.plan.pipeline, given=version)
        unit = headers.get(b"x-unit")
        return Asked(given, unit=None if unit is None else unit.decode("latin-1")[:LONGEST_ID], version=version,
                     caller=caller.name, tenant=caller.tenant)  # fmt: skip

    async def _allowed(self, pipeline: str, headers: Headers) -> tuple[Caller, InForce]:
        """The caller, and what is in force of a pipeline that it may ask."""
        caller = await self.access.caller(headers)
        caller.require(pipeline)
        now = self.follower.of(pipeline)
        if now is None:
            known = sorted(each.plan.pipeline for each in self.follower.all() if caller.may(each.plan.pipeline))
            raise Refused(404, "no such pipeline is served", given=pipeline, allowed=known[:20])
        return caller, now

    async def _known(self, headers: Headers) -> list[tuple[InForce, Ready | None]]:
        caller = await self.access.caller(headers)
        found = [now for now in self.follower.all() if caller.may(now.plan.pipeline)]
        return [(now, self.follower.versions.held(now.plan.arms[0]) if now.plan.arms else None) for now in found]


def problem(err: Refused) -> dict[str, Any]:
    """What is refused, for a program and for a person."""
    parts = {"where": err.where, "given": None if err.given is None else str(err.given)[:200], "allowed": err.allowed,
             "next_step": err.next_step}  # fmt: skip
    return {"error": str(err), **{name: value for name, value in parts.items() if value is not None}}


def _plain(answer: Answer, pipeline: str) -> dict[str, Any]:
    """An answer to /predict."""
    rows = []
    for part, n in answer.in_order():
        prediction = part.predictions[n]
        row: dict[str, Any] = {"prediction": prediction, "role": part.role, "found": part.found[n]}
        if part.ready is not None and part.ready.classes and isinstance(prediction, list):
            classes = part.ready.classes
            row["prediction"] = classes[prediction.index(max(prediction))]
            row["probabilities"] = dict(zip(map(str, classes), prediction, strict=True))
        if part.arm is not None:
            row["version"] = part.arm.version
        if part.times is not None:
            row["times"] = part.times[n]
        rows.append(row)
    found = {"id": answer.id, "pipeline": pipeline, "generation": answer.generation, "predictions": rows}
    return found if answer.logged else {**found, "logged": False}


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(400, "the body is no JSON object", given=type(value).__name__)
    return value


def _objects(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Refused(400, "is a list of objects", where=where, given=type(value).__name__)
    return value


def _version(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Refused(404, "a version is a number", given=text[:40])
    return int(text)


def _numbers(now: InForce) -> list[int]:
    return sorted(arm.version for arm in now.plan.versions if arm.version not in now.vetoed)
