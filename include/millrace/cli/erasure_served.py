"""Subjects in what servers logged: their rows in the shipped segments, and segments without them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from millrace.store import ObjectStore, layout
from millrace.store.served import pack, unpack

Names = Collection[tuple[str, ...]]
"""Keys of subjects, as text."""
PER_ROW = ("entities", "times", "found", "rows", "predictions")
"""Fields of a record that have an item for each row."""


def touched(objects: ObjectStore, pipeline: str, columns: Sequence[str], names: Names) -> dict[str, int]:
    """Key of a shipped segment -> how many rows of these subjects it holds; those without any are left out."""
    found = {}
    for each in objects.list(layout.all_served(pipeline)):
        records = unpack(objects.get(each.key), objects.url(each.key))
        if rows := sum(len(_theirs(json.loads(record), columns, names)) for record in records):
            found[each.key] = rows
    return found


def forget(objects: ObjectStore, keys: Sequence[str], columns: Sequence[str], names: Names) -> None:
    """Write these segments again without the rows of the subjects, and without records that had no other.

    Again, it changes nothing. A segment stays, though nothing be left in it: shipped again it does not come back.
    """
    for key in keys:
        kept = []
        for line in unpack(objects.get(key), objects.url(key)):
            record = json.loads(line)
            if not (theirs := _theirs(record, columns, names)):
                kept.append(line)
                continue
            rows = [row for row in range(len(record["entities"])) if row not in theirs]
            if rows:
                kept.append(json.dumps(_only(record, rows), separators=(",", ":")).encode())
        objects.put(key, pack(kept))


def _theirs(record: dict[str, Any], columns: Sequence[str], names: Names) -> set[int]:
    """Numbers of the rows whose entity is one of the subjects."""
    return {
        row
        for row, entity in enumerate(record.get("entities") or ())
        if entity and tuple(_text(entity.get(column)) for column in columns) in names
    }


def _only(record: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    cut = {name: [record[name][row] for row in rows if row < len(record[name])] for name in PER_ROW if record.get(name)}
    return {**record, **cut}


def _text(value: Any) -> str:
    """As DuckDB writes a value as text."""
    return str(value).lower() if isinstance(value, bool) else str(value)
