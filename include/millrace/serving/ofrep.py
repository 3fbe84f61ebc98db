"""OpenFeature's Remote Evaluation Protocol (OFREP) over HTTP, for applications that do not read the store themselves.

https://github.com/open-feature/protocol names paths and fields. A caller evaluates the flags of those pipelines that
it may ask for predictions; what is evaluated is `flags`. Errors have the protocol's fields beside the server's own.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pydantic_core import to_json

from millrace.serving import body as bodies
from millrace.serving.flags import Flag, FlagRefused, evaluate, keys, pipeline_of
from millrace.serving.following import PlanFollower
from millrace.serving.inference import Headers, Inference
from millrace.serving.refused import Refused, problem

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Reply = tuple[int, bytes, tuple[tuple[bytes, bytes], ...]]
"""Status, body, and headers beside the length."""
BODY = 64 << 10
"""Bytes of a request's body."""
_AT_ONCE = 256
"""Flags evaluated before others have their turn of the loop."""
_JSON = (b"content-type", b"application/json")


async def single(inference: Inference, key: str, headers: Headers, receive: Receive) -> Reply:
    """Evaluate one flag; of one without a value the protocol's answer has none."""
    try:
        caller = await inference.access.caller(headers)
        caller.require(pipeline_of(key)[0])
        unit = await _unit(headers, receive)
        return 200, to_json(_said(evaluate(inference.follower, key, unit))), (_JSON,)
    except Refused as err:
        return err.status, to_json(problem(err) | _failure(err, key)), (_JSON, *err.headers)


async def bulk(inference: Inference, headers: Headers, receive: Receive) -> Reply:
    """Evaluate all flags of the caller's pipelines; 304 where they are what the header if-none-match names."""
    try:
        caller = await inference.access.caller(headers)
        unit = await _unit(headers, receive)
        if inference.follower.looked is None:
            raise FlagRefused("PROVIDER_NOT_READY", "the traffic plans could not be read yet")
        known = sorted(now.plan.pipeline for now in inference.follower.all() if caller.may(now.plan.pipeline))
        flags: list[dict[str, Any]] = []
        for pipeline in known:
            flags += [_evaluated(inference.follower, key, unit) for key in keys(pipeline)]
            if len(flags) % _AT_ONCE < len(keys(pipeline)):
                await asyncio.sleep(0)
    except Refused as err:
        return err.status, to_json(problem(err) | _failure(err)), (_JSON, *err.headers)
    text = to_json({"flags": flags})
    tag = b'"%b"' % hashlib.blake2b(text, digest_size=16).hexdigest().encode()
    named = [each.strip().removeprefix(b"W/") for each in headers.get(b"if-none-match", b"").split(b",")]
    if tag in named or b"*" in named:
        return 304, b"", ((b"etag", tag),)
    return 200, text, (_JSON, (b"etag", tag))


def _evaluated(follower: PlanFollower, key: str, unit: str | None) -> dict[str, Any]:
    try:
        return _said(evaluate(follower, key, unit))
    except FlagRefused as err:
        return _failure(err, key)


async def _unit(headers: Headers, receive: Receive) -> str | None:
    """The targeting key of a request; None where it has none. Raises Refused, 400."""
    data = await bodies.read(receive, headers, BODY)
    said = bodies.parse(data) if data else {}
    if not isinstance(said, dict):
        raise Refused(400, "the body is no JSON object", given=type(said).__name__)
    context = said.get("context")
    if context is not None and not isinstance(context, dict):
        raise FlagRefused("INVALID_CONTEXT", "is an object", where="context", given=type(context).__name__)
    unit = (context or {}).get("targetingKey")
    if unit is not None and not isinstance(unit, str):
        raise FlagRefused("INVALID_CONTEXT", "is text", where="context.targetingKey", given=type(unit).__name__)
    return unit


def _said(flag: Flag) -> dict[str, Any]:
    value = {} if flag.value is None else {"value": flag.value}
    return {"key": flag.key, **value, "reason": flag.reason, "variant": flag.variant, "metadata": flag.metadata}


def _failure(err: Refused, key: str | None = None) -> dict[str, Any]:
    """The protocol's fields of what is refused."""
    if isinstance(err, FlagRefused):
        code: str = err.code
    else:
        code = "PARSE_ERROR" if err.status == 400 else "GENERAL"
    named = {} if key is None else {"key": key[:200].encode(errors="replace").decode()}  # no encoding has surrogates
    return {**named, "errorCode": code, "errorDetails": str(err)}
