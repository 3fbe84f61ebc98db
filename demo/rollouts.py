"""The demo's last minute: the December champion answers, and two bad versions are stopped on their way to traffic."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from statistics import quantiles

import pyarrow as pa

from demo.asking import Answer, Client
from demo.loop import Loop
from demo.rehearsal import FAULTS, MONTH, NAME, NONE, Fault
from millrace.core.errors import MillraceError
from millrace.ledger import Rollout
from millrace.store.plans import Plans, Veto
from millrace.store.snapshots import SnapshotStore

AFTER_S = 5
"""How much of what follows a veto is drawn."""
RATE = 120.0
"""Requests a second: enough to see a fault within seconds, and little beside what Airflow takes."""


@dataclass(frozen=True)
class Served:
    """What a client of the December champion was told."""

    flights: int
    version: int
    p50_ms: float
    p99_ms: float
    log_loss: float


@dataclass(frozen=True)
class Tried:
    """How a bad version fared: `asked` flights were asked for from the first plan that named it to the guard's veto,
    `seconds` later; of all that were asked for it `answered` some, before every worker had heard of the veto."""

    version: int
    fault: str
    stopped_in: str
    guard: str
    asked: int
    answered: int
    errors: int
    seconds: float
    timeline: list[tuple[int, int, int]]
    """Second after the first plan, answers of the champion and of the version in it."""
    stages: list[tuple[float, str]]
    """Seconds after the first plan, and what began then."""


def flights(loop: Loop, month: str) -> tuple[list[str], dict[str, bool]]:
    """Ids of a month's flights as they were due to leave, and which of those that arrived came late."""
    pointer = loop.tables.resolve(f"{loop.pipeline}/features", month)
    columns = ["flight_id", "event_timestamp", "late"]
    table: pa.Table = SnapshotStore(loop.tables.objects).read(pointer.artifact.uri, pointer.artifact.digest, columns)
    rows = table.sort_by([("event_timestamp", "ascending"), ("flight_id", "ascending")]).to_pydict()
    known = zip(rows["flight_id"], rows["late"], strict=True)
    return rows["flight_id"], {flight: bool(late) for flight, late in known if late is not None}


def serve(loop: Loop, url: str, month: str, count: int = 1000) -> Served:
    """Ask the champion for `count` of a month's flights, and hold what it says against what came.

    Raises MillraceError where it does not answer.
    """
    asked, late = flights(loop, month)
    with Client(url, loop.pipeline, asked[:: len(asked) // count], RATE * 2) as client:
        loop.wait(lambda: len(client.answers) >= count)
    good = [a for a in client.answers if a.status == 200 and a.prediction is not None and a.version is not None]
    judged = [(a.prediction if late[a.flight] else 1 - a.prediction) for a in good if a.flight in late and a.prediction]
    if len(good) < count // 2:
        raise MillraceError("the champion does not answer", where=url, given=client.refused)
    cuts = quantiles([a.seconds * 1e3 for a in good], n=100)
    version = good[-1].version
    assert version is not None
    loss = -sum(math.log(max(p, 1e-15)) for p in judged) / len(judged)
    return Served(len(good), version, round(cuts[49], 2), round(cuts[98], 2), round(loss, 4))


class Rehearsal:
    """The second project's pipeline: a good version, and then bad ones, each through all of its DAGs."""

    def __init__(self, loop: Loop, url: str, plant: Callable[[Fault], None]) -> None:
        self.loop, self.url, self._plant = loop, url, plant
        self._plans = Plans(loop.tables.objects)

    def first(self) -> None:
        """A first champion, which answers. Raises MillraceError where there is none."""
        if self.loop.ledger.champion(NAME) is None:
            self._plant(NONE)
            self.loop.features(MONTH)
            self.loop.first_champion(MONTH)

    def bad(self, fault: str, say: Callable[[str], None]) -> Tried | None:
        """Let somebody break the labels; everything else goes its way, until the version is taken back. None where that
        was done before, by a demo that was ended then: a model in quarantine is registered no more.

        Raises MillraceError where it is not taken back.
        """
        champion, before = self._champion(), self._history()[-1:]
        self._plant(FAULTS[fault])
        say("features")
        self.loop.features(MONTH)
        asked, _ = flights(self.loop, MONTH)
        say("training, release, rollout under traffic")
        with Client(self.url, NAME, asked, RATE) as client, self._vetoes() as vetoes:
            self.loop.train(fault, MONTH)
            history = self._history()
            if history[-1:] == before:
                return None
            stopped = history[-1]
            if stopped.state != "rolled_back":
                raise MillraceError("a bad version was not stopped", given=f"{fault}: {stopped.state}",
                                    next_step="Look at the runs in the UI")  # fmt: skip
        if self._champion() != champion:
            raise MillraceError("a bad version became champion", given=fault, next_step="Look at the runs in the UI")
        return _tried(fault, history, client.answers, vetoes.get(stopped.version))

    def _champion(self) -> int | None:
        found = self.loop.ledger.champion(NAME)
        return found.version if found else None

    def _history(self) -> list[Rollout]:
        """All that the ledger says of the newest rollout, oldest first."""
        entries = self.loop.ledger.entries(NAME, Rollout.kind)
        events = [entry.event for entry in entries if isinstance(entry.event, Rollout)]
        return [event for event in events if event.id == events[-1].id]

    @contextmanager
    def _vetoes(self) -> Iterator[dict[int, Veto]]:
        """By version, what guards have written while this is open: it goes out of force with the rollout."""
        found: dict[int, Veto] = {}
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(0.3):
                if (plan := self._plans.get(NAME)) is not None:
                    found.update({veto.version: veto for veto in self._plans.vetoes(plan)})

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join()


def _tried(fault: str, history: list[Rollout], answers: list[Answer], veto: Veto | None) -> Tried:
    before, stopped = history[-2:]
    # The task that waits may see the harm as early as a server: then there is no veto.
    why, at = (veto.why, veto.at) if veto is not None else (stopped.reason, stopped.began)
    began, ended = (datetime.fromisoformat(moment).timestamp() for moment in (history[0].began, at))
    there = [each for each in answers if began <= each.at <= ended]
    return Tried(
        version=before.version,
        fault=fault,
        stopped_in="shadow" if before.state == "shadow" else f"canary of {before.steps[before.step - 1]:.0%}",
        guard=why,
        asked=len(there),
        answered=sum(each.version == before.version for each in answers),
        errors=sum(each.status != 200 for each in there),
        seconds=round(ended - began, 1),
        timeline=_timeline(answers, began, ended + AFTER_S, before.version),
        stages=[
            (round(datetime.fromisoformat(e.began).timestamp() - began, 1), "canary" if e.state == "step" else e.state)
            for e in history[:-1]
        ]
        + [(round(ended - began, 1), "veto")],
    )


def _timeline(answers: list[Answer], began: float, ended: float, version: int) -> list[tuple[int, int, int]]:
    """Whole seconds only."""
    counted = Counter((int(each.at - began), each.version == version) for each in answers if began <= each.at < ended)
    seconds = int(min(ended, max(each.at for each in answers)) - began)
    return [(n, counted[n, False], counted[n, True]) for n in range(seconds)]
