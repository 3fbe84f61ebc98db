"""Which caller a request comes from, by the token in its header `authorization`.

Tokens are known from a file of digests, or signed by an issuer, or both. Where neither is said, everybody on this
machine may ask everything, and a server that others can reach does not start.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from millrace.core.errors import SpecError
from millrace.serving import tokens
from millrace.serving.caller import EVERY, Caller, unauthorized
from millrace.serving.oidc import Oidc, OidcSpec
from millrace.serving.refused import Refused
from millrace.serving.watched import Watched
from millrace.spec.yaml_file import load

TOKENS, OIDC = "MILLRACE_SERVING_TOKENS", "MILLRACE_SERVING_OIDC"
EVERYBODY = Caller("everybody on this machine", "everybody on this machine", frozenset((EVERY,)), tester=True)
_TOKEN = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)\s*", re.IGNORECASE)
_MANY = 4096
"""Verified tokens that are remembered."""
_LONGEST = 8192
"""Bytes of a token."""
_REMEMBERED = 300.0
"""Seconds after which a token is verified again, for its key may have been withdrawn."""


class Access:
    """Knows callers by their tokens. `now` gives seconds since 1970, `clock` seconds of this process.

    Raises SpecError for a file that cannot be read.
    """

    def __init__(
        self,
        tokens_file: Path | None = None,
        oidc: OidcSpec | None = None,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._tokens = Watched(tokens_file, tokens.read, clock) if tokens_file is not None else None
        self._oidc = Oidc(oidc, clock) if oidc is not None else None
        self._known = self._tokens.current() if self._tokens is not None else None
        self._verified: dict[bytes, tuple[Caller, float]] = {}

    @classmethod
    def load(
        cls, tokens_file: Path | None = None, oidc_file: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> Access:
        """As the files say that are given, or named by MILLRACE_SERVING_TOKENS and MILLRACE_SERVING_OIDC."""
        env = os.environ if environ is None else environ
        if tokens_file is None and (named := env.get(TOKENS)):
            tokens_file = Path(named)
        if oidc_file is None and (named := env.get(OIDC)):
            oidc_file = Path(named)
        return cls(tokens_file, load(OidcSpec, oidc_file) if oidc_file is not None else None)

    @property
    def configured(self) -> bool:
        """Whether it asks for tokens at all."""
        return self._tokens is not None or self._oidc is not None

    def check_host(self, host: str | None) -> None:
        """Raise SpecError where others could reach a server bound to this host, and nobody asks them who they are.

        None stands for a Unix socket, whose permissions say who may use it.
        """
        if not self.configured and host is not None and not _loopback(host):
            raise SpecError(
                "other machines could ask this server, and it would answer everybody", where="host", given=host,
                allowed=["127.0.0.1", "::1", "localhost"],
                next_step=f"Name a file of tokens ({TOKENS}) or an issuer ({OIDC}); docs/serving-security.md says how",
            )  # fmt: skip

    def check_local(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise Refused, 403, where nobody is asked who he is and a browser may have been sent here: by a page from
        elsewhere, or under a name that only looks like this machine's."""
        if self.configured:
            return
        for name in (b"host", b"origin"):
            said = headers.get(name, b"").decode("latin-1")
            if said and not _local(said):
                raise Refused(403, "this server answers this machine alone", where=name.decode(), given=said,
                              allowed=["localhost", "127.0.0.1", "[::1]"])  # fmt: skip

    async def caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Who asks; `headers` by lower-case name.

        Raises Refused: 401 where no token is given, or one that is not known or has expired; 503 where the issuer's
        keys could not be had. No message holds the token or a part of it.
        """
        if not self.configured:
            return EVERYBODY
        said = headers.get(b"authorization")
        if said is None:
            raise unauthorized("no token is given", None, "Send the header 'authorization: Bearer TOKEN'")
        if len(said) > _LONGEST or (match := _TOKEN.fullmatch(said)) is None:
            raise unauthorized("the header authorization holds no bearer token", "invalid_request")
        token = match[1]
        digest = hashlib.sha256(token).digest()
        if self._tokens is not None and (current := self._tokens.current()) is not self._known:
            self._known = current
            self._verified.clear()
        now = self._now()
        if (known := self._verified.get(digest)) is not None:
            if now < known[1]:
                return known[0]
            del self._verified[digest]
        caller, until = await self._verify(token, digest)
        if now >= until:
            raise unauthorized("the token has expired", next_step="Ask whoever runs this server for a new one")
        if len(self._verified) >= _MANY:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = caller, min(until, now + _REMEMBERED)
        return caller

    async def _verify(self, token: bytes, digest: bytes) -> tuple[Caller, float]:
        if self._known is not None and (found := self._known.find(digest)) is not None:
            return found
        if self._oidc is not None:
            return await self._oidc.verify(token.decode("ascii"))
        raise unauthorized("the token is not known")


def _local(said: str) -> bool:
    """Whether a header names this machine, as `host:port` or `scheme://host:port`."""
    try:
        host = urlsplit(f"//{said.rpartition('://')[2]}").hostname
    except ValueError:
        return False
    return host is not None and _loopback(host)


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
