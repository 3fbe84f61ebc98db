"""Bearer tokens that an OpenID Connect issuer has signed (JWT), and what their claims allow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pydantic import Field

from millrace.core.errors import SpecError, Unavailable
from millrace.serving.caller import Caller, unauthorized
from millrace.serving.jwks import ALGORITHMS, Keyring
from millrace.serving.refused import Refused
from millrace.spec.base import Model


class OidcSpec(Model):
    """Whose tokens are accepted."""

    issuer: str = Field(min_length=1, description="The claim `iss`, character by character.")
    audience: str = Field(min_length=1, description="What the claim `aud` must be or contain: this server's name.")
    jwks: str = Field(min_length=1, description="The issuer's public keys: file or https address of a JWK Set.")
    pipelines: str = Field(default="millrace_pipelines", description="Claim with a list of pipelines, or ['*'].")
    tenant: str = Field(default="millrace_tenant", description="Claim with the tenant; `sub` where a token has none.")
    tester: str = Field(default="millrace_tester", description="Claim that is true for testers.")
    leeway_s: float = Field(default=30.0, ge=0, le=300, description="Seconds that clocks may differ.")


class Oidc:
    """Verifies tokens of one issuer. Raises SpecError where its keys' file cannot be read or PyJWT is not there."""

    def __init__(self, spec: OidcSpec, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            import cryptography  # noqa: F401
            import jwt
        except ImportError as err:
            raise SpecError("tokens of an issuer need PyJWT and cryptography",
                            next_step="pip install 'PyJWT[crypto]'") from err  # fmt: skip
        self._spec, self._jwt = spec, jwt
        self._keys = Keyring(spec.jwks, clock)

    async def verify(self, token: str) -> tuple[Caller, float]:
        """Whose token this is, and the seconds since 1970 until which it counts.

        Raises Refused: 401 for one that does not hold, without saying why but where it has expired; 503 where the
        issuer's keys could not be had.
        """
        wrong = self._jwt.exceptions
        try:
            header = self._jwt.get_unverified_header(token)
            kid = header.get("kid")
            if header.get("alg") not in ALGORITHMS.values() or not isinstance(kid, str | None):
                raise unauthorized("the token is not valid")
            if (key := await self._keys.find(kid)) is None:
                raise unauthorized("the token is not valid")
            claims = self._jwt.decode(
                token, key, algorithms=[key.algorithm_name], issuer=self._spec.issuer, audience=self._spec.audience,
                leeway=self._spec.leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
            )  # fmt: skip
            until = float(claims["exp"]) + self._spec.leeway_s
        except wrong.ExpiredSignatureError:
            raise unauthorized("the token has expired", next_step="Fetch a new one from the issuer") from None
        except (wrong.PyJWTError, ValueError, TypeError, OverflowError):
            raise unauthorized("the token is not valid") from None
        except Unavailable:
            raise Refused(503, "tokens cannot be verified at present", headers=[(b"retry-after", b"30")],
                          next_step="Ask again later") from None  # fmt: skip
        return self._caller(claims), until

    def _caller(self, claims: dict[str, Any]) -> Caller:
        subject, tenant = claims["sub"], claims.get(self._spec.tenant)
        pipelines = claims.get(self._spec.pipelines, [])
        if not isinstance(pipelines, list) or not all(isinstance(each, str) for each in pipelines):
            raise unauthorized(f"the token's claim {self._spec.pipelines} is no list of names")
        for text in (subject, tenant):
            if text is not None and not (isinstance(text, str) and text.isprintable() and 0 < len(text) <= 200):
                raise unauthorized("the token's subject or tenant is no name")
        return Caller(f"oidc:{subject}", tenant or f"oidc:{subject}", frozenset(pipelines),
                      claims.get(self._spec.tester) is True)  # fmt: skip
