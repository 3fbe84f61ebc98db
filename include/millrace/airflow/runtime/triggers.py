"""Triggers: what waits for a rollout, and for guards that speak against a version. Both decide nothing.

They look in threads, so that the triggerer's loop goes on, and say only that somebody should look: whoever is woken
reads the ledger and the store again. Where neither answers, they look again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from millrace.airflow.runtime.site import Site
from millrace.core.errors import MillraceError

ROLLOUT_S, VETO_S = 3.0, 2.0
"""Seconds between two looks."""
AGAIN_S, LONGEST_S = 30.0, 600.0
"""Seconds until an event is said again that nobody has settled; twice as many each time, up to the second."""


class RolloutTrigger(BaseTrigger):
    """Fires once the rule of a rollout says other than wait, or the rollout has ended."""

    def __init__(self, root: str, pipeline: str, rollout: str, every: float = ROLLOUT_S) -> None:
        super().__init__()
        self.root, self.pipeline, self.rollout, self.every = root, pipeline, rollout, every

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """See BaseTrigger."""
        given = {name: getattr(self, name) for name in ("root", "pipeline", "rollout", "every")}
        return f"{type(self).__module__}.{type(self).__qualname__}", given

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """See BaseTrigger."""
        said = ""
        while True:
            words, waits, lines = await asyncio.to_thread(self._look)
            headline = words.partition(";")[0].rstrip("0123456789 ")
            if headline != said:
                self.log.info("%s: %s", self.pipeline, "\n  ".join([words, *lines]))
                said = headline
            if not waits:
                yield TriggerEvent({"look": words})
                return
            await asyncio.sleep(self.every)

    def _look(self) -> tuple[str, bool, list[str]]:
        from millrace.airflow.runtime.stage import look_again

        try:
            found = look_again(Site.at(self.root, self.pipeline), self.rollout)
        except MillraceError as err:
            return f"cannot look now: {err}", True, []
        return ("it has not begun", False, []) if found is None else (found.words, found.waits, found.lines)


class VetoTrigger(BaseEventTrigger):
    """Fires while a guard has spoken against a version that the plan, or the champion of record, still is."""

    def __init__(self, root: str, pipeline: str, every: float = VETO_S, again: float = AGAIN_S) -> None:
        super().__init__()
        self.root, self.pipeline, self.every, self.again = root, pipeline, every, again

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """See BaseTrigger."""
        given = {name: getattr(self, name) for name in ("root", "pipeline", "every", "again")}
        return f"{type(self).__module__}.{type(self).__qualname__}", given

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """See BaseTrigger."""
        loop = asyncio.get_running_loop()
        said: list[int] = []
        until, pause = 0.0, self.again
        while True:
            found = await asyncio.to_thread(self._look)
            if found is not None:
                if found != said:
                    until, pause = 0.0, self.again
                if found and loop.time() >= until:
                    self.log.warning("%s: guards have spoken against version %s", self.pipeline, found)
                    yield TriggerEvent({"pipeline": self.pipeline, "versions": found})
                    until, pause = loop.time() + pause, min(2 * pause, LONGEST_S)
                said = found
            await asyncio.sleep(self.every)

    def _look(self) -> list[int] | None:
        from millrace.airflow.runtime.traffic import unsettled

        try:
            return unsettled(Site.at(self.root, self.pipeline))
        except MillraceError as err:
            self.log.warning("%s: cannot look for vetoes now: %s", self.pipeline, err)
            return None
