"""Checkpoints: what an ended training left, one per finished segment, bound to the request that made it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import NotFound
from millrace.models.metrics import Point
from millrace.store import ObjectStore


@dataclass(frozen=True)
class Checkpoint:
    """State after `segment` whole segments, and after `part` steps of the next one where it is not 0: the engine's own
    bytes, and the learning curve so far."""

    segment: int
    data: bytes
    curve: list[Point]
    part: int = 0


class Checkpoints:
    """Checkpoints of one request below a key prefix; without a prefix nothing is kept.

    The state is written first and the note about it, with its digest, last: one without the other does not count.
    """

    def __init__(self, objects: ObjectStore | None = None, prefix: str | None = None, request: str = "") -> None:
        self.objects = objects if prefix else None
        self.prefix = (prefix or "").rstrip("/")
        self.request = request

    def save(self, segment: int, data: bytes, curve: list[Point], part: int = 0) -> None:
        """Keep the state after a segment; with `part`, which grows, of a training that leaves inside the next one."""
        if self.objects is None:
            return
        name = f"{self.prefix}/{segment:05d}" + (f"-{part:012d}" if part else "")
        self.objects.put(f"{name}.state", data)
        note = {"request": self.request, "segment": segment, "part": part, "state": digest(data), "curve": curve}
        self.objects.put(f"{name}.json", canonical_json(note))

    def last(self) -> Checkpoint | None:
        """The newest complete checkpoint of this request, None when there is none."""
        if self.objects is None:
            return None
        names = [o.key.removesuffix(".json") for o in self.objects.list(self.prefix + "/") if o.key.endswith(".json")]
        for name in sorted(names, key=_place, reverse=True):
            try:
                note = json.loads(self.objects.get(name + ".json"))
                data = self.objects.get(name + ".state")
            except (NotFound, ValueError):
                continue
            if note.get("request") == self.request and note.get("state") == digest(data):
                curve = [(step, values) for step, values in note["curve"]]
                return Checkpoint(note["segment"], data, curve, note["part"])
        return None

    def clear(self) -> None:
        """Remove all checkpoints: the model is stored."""
        if self.objects is None:
            return
        for found in sorted(self.objects.list(self.prefix + "/"), key=lambda o: o.key.endswith(".state")):
            self.objects.delete(found.key)


def _place(name: str) -> tuple[str, str]:
    """Order of names: by segment, then by part, a whole segment before its parts."""
    segment, _, part = name.rpartition("/")[2].partition("-")
    return segment, part
