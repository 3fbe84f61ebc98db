"""What the process of shadows does with its frames: predict, count, log. Nobody waits for it, and nobody is told."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from pydantic_core import from_json, to_json

from millrace.models.metrics import usable
from millrace.online.on_demand import made_from
from millrace.serving.answering import told
from millrace.serving.following import Follower
from millrace.serving.guarding import Guarding
from millrace.serving.in_force import InForce
from millrace.serving.log import Log
from millrace.serving.refused import Refused
from millrace.serving.versions import Ready, Versions
from millrace.store.plans import Arm

log = logging.getLogger(__name__)


class ShadowHandler:
    """Handles frames as `answering` sends them, a batch at a time. Follows the plans by a thread of its own."""

    def __init__(
        self, follower: Follower, versions: Versions, written: Log, *, server: str, every_s: float
    ) -> None:  # fmt: skip
        self.follower, self.versions, self.log, self.server = follower, versions, written, server
        self._every_s = every_s
        self._guarding = Guarding(follower, server)
        self._ended = threading.Event()
        threading.Thread(target=self._follow, name="shadow-plans", daemon=True).start()

    def __call__(self, frames: Sequence[bytes]) -> None:
        """Predict what the frames hold, those of one version together."""
        asked: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for frame in frames:
            one = from_json(frame)
            asked.setdefault((one["pipeline"], one["version"]), []).append(one)
        for (pipeline, version), some in asked.items():
            now = self.follower.of(pipeline)
            shadow = None if now is None else now.plan.shadow
            if now is not None and shadow is not None and shadow.version == version:
                self._handle(now, shadow, some)

    def close(self) -> None:
        """Stop following, and close the log."""
        self._ended.set()
        self.log.close()

    def _handle(self, now: InForce, shadow: Arm, some: list[dict[str, Any]]) -> None:
        begun = perf_counter()
        try:
            ready = self.versions.get(shadow)
            if ready.computing is not None and (some := self._carrying(now, ready, some)) == []:
                return
            rows = [row for one in some for row in _fitting(one, ready)]
            predicted = ready.predict_now(rows)
            good = usable(predicted)
        except Exception as err:  # whatever a model raises: then each request by itself
            if len(some) > 1:
                for one in some:
                    self._handle(now, shadow, [one])
                return
            log.warning("%s version %s fails in shadow: %s", now.plan.pipeline, shadow.version, told(err))
            for unit in some[0]["units"]:
                now.counter.failed(shadow.version, unit)
            return
        ms, at, found = (perf_counter() - begun) * 1000 / len(some), 0, predicted.tolist()
        for one in some:
            count = len(one["rows"])
            values, fine = found[at : at + count], good[at : at + count]
            at += count
            # a request's units are those of its rows, or one for all
            of = one["units"] if len(one["units"]) == count else one["units"][:1] * count
            for unit, value, is_fine in dict.fromkeys(zip(of, map(json.dumps, values), fine.tolist(), strict=True)):
                if is_fine:
                    now.counter.answered(shadow.version, unit, json.loads(value), slow=False)
                else:
                    now.counter.failed(shadow.version, unit)
            self._keep(now, shadow, one, [v if f else None for v, f in zip(values, fine, strict=True)], ms)

    def _carrying(self, now: InForce, ready: Ready, some: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Requests that carry what this version's on-demand features take; those of callers who do not send it yet are
        dropped, and counted so."""
        assert ready.computing is not None
        found = []
        for one in some:
            try:
                for place, row in enumerate(one["rows"]):
                    if one["found"][place] != "given":
                        row |= ready.computing.given(row, place)
            except Refused:
                now.counter.dropped(ready.deployment.version)
            else:
                found.append(one)
        return found

    def _keep(self, now: InForce, shadow: Arm, one: dict[str, Any], values: list[Any], ms: float) -> None:
        """One line of the log; the features are in the champion's line of the same request."""
        record = {
            "id": one["id"], "at": one["at"], "ms": round(ms, 3), "pipeline": now.plan.pipeline,
            "version": shadow.version, "model": shadow.model, "role": "shadow", "generation": one["generation"],
            "unit": one["unit"], "caller": one["caller"], "entities": one["entities"], "times": one["times"],
            "found": one["found"], "predictions": values, "server": self.server,
        }  # fmt: skip
        done = self.log.append(to_json(record, inf_nan_mode="null"))
        done.add_done_callback(_told)

    def _follow(self) -> None:
        while not self._ended.wait(self._every_s):
            self.follower.look()
            for now in self.follower.all():
                if now.watched:
                    self._guarding.look(now)
            self._guarding.share()


def _fitting(one: dict[str, Any], ready: Ready) -> list[dict[str, Any]]:
    """The features that a version takes, of those that the champion was given; its own on-demand features."""
    if ready.computing is None or one["entities"] is None:
        return [{name: row.get(name) for name in ready.features} for row in one["rows"]]
    needed = [each.name for each in made_from(ready.computing.views)]
    return ready.computing.rows([{**dict.fromkeys(needed), **row} for row in one["rows"]], ready.features)


def _told(done: Any) -> None:
    if (err := done.exception()) is not None:
        log.warning("a shadow's prediction is not logged: %s", err)
