"""The public keys an issuer signs with, from a file or an address; fetched again when a token names an unknown one."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from millrace.core.errors import MillraceError, SpecError, Unavailable
from millrace.serving.watched import Watched

log = logging.getLogger(__name__)
ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}
"""Type of key -> the one algorithm that it verifies: a token does not choose."""
_REFRESH = 30.0
"""Seconds between two fetches, whatever tokens name."""
_FIRST = 5.0
"""The same while none were ever had."""
_OLD = 3600.0
"""Seconds after which keys are fetched again though all are known: one may have been withdrawn."""
_TIMEOUT = 5.0
_LARGEST = 1 << 20
Keys = dict[str | None, Any]
"""Key's id -> key, as PyJWT has it; under None the only key there is."""


class Keyring:
    """The keys of one issuer. `source` is a file, which is read at once, or an address, first fetched when needed.

    Raises SpecError for a file that cannot be read, and for an address over which others could send keys.
    """

    def __init__(self, source: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._source, self._clock = source, clock
        self._shown = source.partition("?")[0]
        self._file: Watched[Keys] | None = None
        self._keys: Keys = {}
        self._fetched, self._tried = float("-inf"), float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        if "://" in source:
            check_address(source)
        else:
            self._file = Watched(Path(source), lambda path: _keys(_bytes(path), str(path)), clock)

    async def find(self, kid: str | None) -> Any:
        """The key with this id; None where the issuer has none. Raises Unavailable where no keys could be fetched."""
        if self._file is not None:
            return self._file.current().get(kid)
        now = self._clock()
        if (kid not in self._keys or now - self._fetched > _OLD) and (
            self._fetching is not None or now - self._tried >= (_REFRESH if self._keys else _FIRST)
        ):
            if self._fetching is None:
                self._tried = now
                self._fetching = asyncio.ensure_future(self._fetch())
            if kid not in self._keys:  # with a key that is merely old one goes on meanwhile
                await asyncio.wait({self._fetching}, timeout=2 * _TIMEOUT)
        if not self._keys:
            raise Unavailable("the issuer's keys could not be fetched", where=self._shown)
        return self._keys.get(kid)

    async def _fetch(self) -> None:
        try:
            self._keys = _keys(await asyncio.to_thread(_get, self._source), self._shown)
            self._fetched = self._clock()
        except MillraceError as err:
            log.error("%s. Keys that were fetched before count until then.", err)
        finally:
            self._fetching = None


def check_address(address: str) -> None:
    """Raise SpecError for an address that is not https, or plain http to this machine itself."""
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if host is None or not (parts.scheme == "https" or (parts.scheme == "http" and host in _HERE)):
        raise SpecError("keys are not fetched from there", where="jwks", given=f"{parts.scheme}://{host or ''}",
                        allowed=["https://", "http://127.0.0.1", "a file"])  # fmt: skip
    if parts.username is not None or parts.password is not None:
        raise SpecError("an address holds no password", where="jwks")


_HERE = ("127.0.0.1", "localhost", "::1")


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nothing: who redirects could name an address that is not https."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _get(address: str) -> bytes:
    try:
        with urllib.request.build_opener(_Stay).open(address, timeout=_TIMEOUT) as answer:
            data: bytes = answer.read(_LARGEST + 1)
    except (OSError, ValueError, HTTPException) as err:  # URLError, HTTPError and a time limit are OSErrors
        raise Unavailable(f"the issuer's keys could not be fetched: {err}", where=address.partition("?")[0]) from err
    if len(data) > _LARGEST:
        raise Unavailable("what should be keys is too large", where=address.partition("?")[0],
                          allowed=f"up to {_LARGEST} bytes")  # fmt: skip
    return data


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise SpecError(f"cannot be read: {err.strerror}", where=str(path)) from err


def _keys(data: bytes, where: str) -> Keys:
    """Keys of a JWK Set that sign; those of other kinds are left out. Raises SpecError where none is left."""
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    try:
        listed = json.loads(data)["keys"]
        assert isinstance(listed, list)
    except (ValueError, KeyError, TypeError, AssertionError, RecursionError):
        raise SpecError("not a set of keys (JWKS)", where=where, allowed='{"keys": [..]}') from None
    found: Keys = {}
    for each in listed:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        algorithm = ALGORITHMS.get(str(each.get("kty")))
        if algorithm is None or each.get("alg", algorithm) != algorithm or each.get("crv", "P-256") != "P-256":
            continue
        try:
            found[each.get("kid")] = PyJWK(each, algorithm)
        except (PyJWTError, ValueError, TypeError):
            log.warning("%s: a key was left out: it cannot be read", where)
    if not found:
        raise SpecError("holds no key that signs", where=where, allowed=sorted(ALGORITHMS.values()))
    if len(found) == 1:
        found[None] = next(iter(found.values()))
    else:
        found.pop(None, None)
    return found
