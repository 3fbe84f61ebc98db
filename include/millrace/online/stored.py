"""What an online store keeps: the one statement of it, which the writers in `feast_stores` share with the readers."""

from __future__ import annotations

from urllib.parse import urlsplit

from millrace.core.errors import SpecError

KEY_VERSION = 3
"""Version of Feast's serialisation of entity keys."""
NO_ENTITY = "__dummy_id"
"""Join key of Feast's stand-in for a view without entities; its value is the empty text."""

Stored = tuple[int, bytes]
"""Event time in microseconds since 1970 in UTC, packed features."""


def never_applied(place: str, table: str) -> SpecError:
    """The error of a view, or a view's table, that is not there."""
    return SpecError(
        "the online store has no table for this feature view",
        where=place,
        given=table,
        next_step="Run 'millrace apply', then materialize a partition",
    )


def without_secrets(address: str) -> str:
    """An address as a message may show it: without user, password and parameters, each of which may be one."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    except ValueError:  # no port, or no host of IPv6
        return "(no address)"
    return f"{parts.scheme}://{host}{port}{parts.path}"
