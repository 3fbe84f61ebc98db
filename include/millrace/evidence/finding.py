"""A finding of a verification, apart from what is verified: jobs write cards of it, and reach no ledger."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `holds` is None where there is nothing to look at, and that is no fault."""

    what: str
    holds: bool | None
    said: str
