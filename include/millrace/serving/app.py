"""The server's ASGI application: paths to answers, and what is refused to words. No framework stands between.

Paths: the Open Inference Protocol under /v2 (see `protocol`), /predict/{pipeline} by entities or rows, flags by
OpenFeature's protocol under /ofrep (see `ofrep`), /openapi.json.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pydantic_core import to_json

from millrace.serving import body as bodies
from millrace.serving import ofrep
from millrace.serving.access import Access
from millrace.serving.answering import Answer, Answerer
from millrace.serving.following import Follower
from millrace.serving.inference import HEADER_LENGTH, Headers, Inference, once, version_of
from millrace.serving.openapi import document
from millrace.serving.refused import Refused, problem

log = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = (b"content-type", b"application/json")
BINARY = (b"content-type", b"application/octet-stream")
PATHS = ["/predict/{pipeline}", "/v2/models/{pipeline}/infer", "/ofrep/v1/evaluate/flags", "/v2/health/ready",
         "/openapi.json"]  # fmt: skip
EXTENSIONS = ["binary_tensor_data"]


class App:
    """Answers HTTP. `begin` makes what belongs to the worker's event loop, `end` closes it; both by lifespan."""

    def __init__(
        self, follower: Follower, access: Access, begin: Callable[[], Awaitable[Answerer]],
        end: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        self.inference = Inference(follower, access)
        self._begin, self._end = begin, end

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
                    self.inference.answerer = await self._begin()
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
        status, more = 200, ()  # type: int, tuple[tuple[bytes, bytes], ...]
        try:
            headers = once(scope["headers"])
            self.inference.access.check_local(headers)
            found, more = await self._route(scope, headers, receive)
            if isinstance(found, tuple):
                status, found = found
        except Refused as err:
            status, found, more = err.status, to_json(problem(err)), (JSON, *err.headers)
        except Exception:
            log.exception("a request failed")
            status, found, more = 500, b'{"error":"the server failed; its log says how"}', (JSON,)
        length = () if status == 304 else ((b"content-length", b"%d" % len(found)),)  # that of 200 would be its length
        await send({"type": "http.response.start", "status": status, "headers": [*length, *more]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else found})

    async def _route(self, scope: Scope, headers: Headers, receive: Receive) -> tuple[Any, tuple[Any, ...]]:
        match [scope["method"], *scope["path"].strip("/").split("/")]:
            case ["POST", "predict", pipeline]:
                return await self._predict(pipeline, headers, receive)
            case ["POST", "v2", "models", pipeline, "infer"]:
                return await self._infer(pipeline, None, headers, receive)
            case ["POST", "v2", "models", pipeline, "versions", version, "infer"]:
                return await self._infer(pipeline, version, headers, receive)
            case ["POST", "ofrep", "v1", "evaluate", "flags", *key]:
                status, text, more = await self._flags("/".join(key), headers, receive)
                return (status, text), more
            case ["GET" | "HEAD", "v2", "health", "live"]:
                return b'{"live":true}', (JSON,)
            case ["GET" | "HEAD", "v2", "health", "ready"]:
                return (200, b'{"ready":true}') if self.inference.ready else (503, b'{"ready":false}'), (JSON,)
            case ["GET" | "HEAD", "v2"]:
                return to_json(self.inference.about(EXTENSIONS)), (JSON,)
            case ["GET" | "HEAD", "openapi.json"]:
                known = await self.inference.known(headers)
                return to_json(document(known, secured=self.inference.access.configured)), (JSON,)
            case ["GET" | "HEAD", "v2", "models", pipeline, *rest] if len(rest) in (0, 1, 2, 3):
                return await self._model(pipeline, rest, headers)
            case (
                [_, "predict", _] | [_, "v2", "models", _, "infer"] | [_, "v2", "models", _, "versions", _, "infer"]
                | [_, "ofrep", "v1", "evaluate", "flags", *_]
            ):  # fmt: skip
                raise Refused(405, "is asked by POST", headers=[(b"allow", b"POST")], where=scope["path"][:200])
            case [method, "v2"] | [method, "v2", "health" | "models", _, *_] | [method, "openapi.json"] if (
                method not in ("GET", "HEAD")
            ):
                raise Refused(405, "is asked by GET", headers=[(b"allow", b"GET, HEAD")], where=scope["path"][:200])
        raise Refused(404, "no such path", given=scope["path"][:200],
                      allowed=PATHS)  # fmt: skip

    async def _flags(self, key: str, headers: Headers, receive: Receive) -> ofrep.Reply:
        if key:
            return await ofrep.single(self.inference, key, headers, receive)
        return await ofrep.bulk(self.inference, headers, receive)

    async def _model(self, pipeline: str, rest: list[str], headers: Headers) -> tuple[Any, tuple[Any, ...]]:
        _, now = await self.inference.allowed(pipeline, headers)
        version: int | None = None
        if rest[:1] == ["versions"] and len(rest) > 1:
            version, rest = version_of(rest[1]), rest[2:]
        if rest not in ([], ["ready"]):
            raise Refused(404, "no such path", given="/".join(rest)[:200], allowed=["ready"])
        if rest:
            self.inference.arm(now, version)
            return to_json({"name": pipeline, "ready": True}), (JSON,)
        return to_json(await self.inference.metadata(now, version)), (JSON,)

    async def _infer(
        self, pipeline: str, version: str | None, headers: Headers, receive: Receive
    ) -> tuple[Any, tuple[Any, ...]]:
        caller, now = await self.inference.allowed(pipeline, headers)
        most = self.inference.begin(now, caller)
        number = None if version is None else version_of(version)
        data = await bodies.read(receive, headers, most)
        text, binary = data, b""
        if (said := headers.get(HEADER_LENGTH)) is not None:
            if not said.isdigit() or len(said) > 12 or int(said) > len(data):
                raise Refused(400, "not a part of the body", where=HEADER_LENGTH.decode(),
                              given=said.decode("latin-1")[:40], allowed=f"0 to {len(data)}")  # fmt: skip
            text, binary = data[: int(said)], data[int(said) :]
        found, packed = await self.inference.infer(now, caller, headers, _object(bodies.parse(text)), binary, number)
        text = to_json(found)
        if packed:
            return text + packed, (BINARY, (HEADER_LENGTH, b"%d" % len(text)))
        return text, (JSON,)

    async def _predict(self, pipeline: str, headers: Headers, receive: Receive) -> tuple[Any, tuple[Any, ...]]:
        caller, now = await self.inference.allowed(pipeline, headers)
        data = await bodies.read(receive, headers, self.inference.begin(now, caller))
        body = _object(bodies.parse(data))
        if unknown := sorted(body.keys() - {"entities", "rows", "id"}):
            raise Refused(400, "no such field", given=unknown[0][:80], allowed=["entities", "rows", "id"])
        if ("entities" in body) == ("rows" in body):
            raise Refused(400, "a request has either entities or rows", given=", ".join(sorted(body)) or "neither",
                          allowed=["entities", "rows"])  # fmt: skip
        asked = self.inference.asked(now, caller, headers, body.get("id"), None)
        if "entities" in body:
            asked.entities = _objects(body["entities"], "entities")
            keys = frozenset(now.entity)
            for number, entity in enumerate(asked.entities):
                if entity.keys() != keys and not keys <= entity.keys() <= now.names:
                    more = f", {', '.join(each.name for each in now.request)}" if now.request else " and nothing else"
                    raise Refused(400, f"an entity has its join keys{more}", where=f"entities.{number}",
                                  given=", ".join(sorted(entity))[:200],
                                  allowed=[*now.entity, *(each.name for each in now.request)])  # fmt: skip
        else:
            asked.rows = _objects(body["rows"], "rows")
        return to_json(_plain(await self.inference.answer(now, asked), pipeline)), (JSON,)


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
