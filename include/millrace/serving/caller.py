"""Who asks, and what that one may ask."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.serving.refused import Refused

EVERY = "*"
"""Stands for all pipelines."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a request comes from. `tenant` is whom its turns are counted for, and may have several callers."""

    name: str
    tenant: str
    pipelines: frozenset[str]
    tester: bool = False

    def may(self, pipeline: str) -> bool:
        """Whether this caller may ask a pipeline of this name, if there is one."""
        return pipeline in self.pipelines or EVERY in self.pipelines

    def require(self, pipeline: str) -> None:
        """Raise Refused, 403, where it may not.

        Asked before anybody looks whether the pipeline exists, so that the answer does not say it.
        """
        if not self.may(pipeline):
            raise Refused(403, "this caller may ask no pipeline of this name", given=pipeline,
                          allowed=sorted(self.pipelines)[:20])  # fmt: skip


def unauthorized(message: str, code: str | None = "invalid_token", next_step: str | None = None) -> Refused:
    """What a request without a usable token is refused with, and the header that says which kind is wanted."""
    kind = b"Bearer" + (f' error="{code}"'.encode() if code else b"")
    return Refused(401, message, headers=[(b"www-authenticate", kind)], next_step=next_step)
