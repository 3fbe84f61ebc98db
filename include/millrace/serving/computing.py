"""On-demand features of one version in a server: from what was read online and what a request carries, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from millrace.online.on_demand import OnDemandView, allowed, computed, plain, request_fields
from millrace.serving.refused import Refused

_SHOWN = 80
"""Characters of a given value that a message repeats."""


class Computing:
    """Calls the functions of a version. `noted` is entered around them, so that a function that takes its process along
    is known."""

    def __init__(self, views: Sequence[OnDemandView], version: int, noted: Callable[[], AbstractContextManager[None]]):
        self.views, self.request = tuple(views), request_fields(views)
        self._version, self._noted = version, noted

    def given(self, entity: Mapping[str, Any], place: int) -> dict[str, Any]:
        """What a request carries for one of its entities, as the functions take it.

        Raises Refused, 400, for a field that is missing and for a value that it cannot have.
        """
        found: dict[str, Any] = {}
        for each in self.request:
            if each.name not in entity:
                raise Refused(400, f"version {self._version} takes '{each.name}' from the request",
                              where=f"entities.{place}", given=", ".join(sorted(map(str, entity)))[:200],
                              allowed=[field.name for field in self.request],
                              next_step="Send it beside the join keys; null where there is no value")  # fmt: skip
            try:
                found[each.name] = plain(entity[each.name], each.type)
            except (ValueError, TypeError, OverflowError):
                raise Refused(400, f"'{each.name}' cannot be this value", where=f"entities.{place}.{each.name}",
                              given=repr(entity[each.name])[:_SHOWN], allowed=allowed(each.type)) from None  # fmt: skip
        return found

    def rows(self, values: Sequence[Mapping[str, Any]], features: Sequence[str]) -> list[dict[str, Any]]:
        """The features of a model, of rows that hold what was read and what `given` gave. Raises CodeError for what a
        function does, DataError for a feature that was read and is not of its type."""
        with self._noted():
            made = [{**row, **computed(self.views, row)} for row in values]
        return [{name: row.get(name) for name in features} for row in made]
