"""Features of the entities that a request names: what the views of a FeatureService hold of each, and how old it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from millrace.core.errors import DataError
from millrace.online.reader import Reader
from millrace.online.views import OnlineView

State = Literal["found", "unknown", "stale"]


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one entity."""

    features: dict[str, Any]
    """ In the order of the FeatureService; None where there is no value, and of an unknown view for each. """
    event_us: dict[str, int | None]
    """ View -> event time of its row in microseconds; None where there is none. """
    state: State
    """ unknown: a view has no row; stale: none is missing, but one is older than the view's ttl. """
    views: tuple[str, ...]
    """ The views that are so; none where all are found. """


async def read(
    views: Sequence[OnlineView], reader: Reader, entities: Sequence[Mapping[str, Any]], now: datetime
) -> list[Row]:
    """Read the features of entities (name of a join key in the request -> value), in their order, by one call.

    `now` is aware. Raises DataError naming entity and join key of what cannot be a key, SpecError and Unavailable as
    the reader does.
    """
    now_us = int(now.timestamp() * 1e6)
    keys = [_keys(view, entities) for view in views]
    found = await reader.fetch_all([(view.table, asked) for view, asked in zip(views, keys, strict=True)])
    rows: list[Row] = []
    for number in range(len(entities)):
        features: dict[str, Any] = {}
        events: dict[str, int | None] = {}
        unknown: list[str] = []
        stale: list[str] = []
        for view, asked, held in zip(views, keys, found, strict=True):
            stored = held.get(asked[number])
            if stored is None:
                events[view.name] = None
                features |= view.rows.unknown()
                unknown.append(view.name)
                continue
            events[view.name], row = stored
            decoded = view.rows.decode(row)
            features = features | decoded if features else decoded
            if view.ttl_s is not None and now_us - stored[0] > view.ttl_s * 1e6:
                stale.append(view.name)
        state: State = "unknown" if unknown else "stale" if stale else "found"
        rows.append(Row(features, events, state, tuple(unknown or stale)))
    return rows


def _keys(view: OnlineView, entities: Sequence[Mapping[str, Any]]) -> list[bytes]:
    encode, keys = view.keys.encode, list[bytes]()
    for entity in entities:
        try:
            keys.append(encode(entity))
        except DataError as err:
            if len(entities) == 1:
                raise
            raise DataError(
                f"entity {len(keys)}: {err.message}", where=err.where, given=err.given, allowed=err.allowed
            ) from None
    return keys
