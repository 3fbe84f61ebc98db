"""collect: a partition's served predictions, from the shipped segments of the servers' logs to one Snapshot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from millrace.contract import Outcome
from millrace.contract.answered import Answered
from millrace.core.errors import Conflict, DataError, NotFound
from millrace.evaluation.served import Rows
from millrace.jobs.work import Work
from millrace.models.classes import Classes
from millrace.models.files import classification_of, read_card
from millrace.spec.serving import FEATURE
from millrace.store import layout
from millrace.store.served import unpack

Key = tuple[str, str, int | None]
"""What an answer is: request, role and version."""
_EPOCH_US = 1_000_000


class Params(BaseModel):
    """None: the listing of segments is an input."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def run(work: Work, params: Params) -> Outcome:
    """Write one row per row of a request that was asked in the partition: who answered what, on which features.

    Of answers with the same request id, role and version the first is taken; of one record in several segments, one.
    The same segments, in whatever order, give the same Snapshot. The input `features` says the columns' types. Raises
    Conflict where segments changed since they were listed, and DataError for a pipeline that does not serve.
    """
    spec = work.spec
    if spec.serving is None or spec.label is None:
        raise DataError("the pipeline does not serve", where=spec.name, next_step="Write 'serving' into pipeline.yaml")
    start, end = (_us(bound) for bound in (spec.partitioning.start(work.partition),
                                           spec.partitioning.end(work.partition)))  # fmt: skip
    data = _segments(work)
    first: dict[Key, tuple[int, bytes]] = {}
    counts = {"records": 0, "duplicates": 0, "unreadable": 0}
    models: set[str] = set()
    for record, answer in _answers(data, counts):
        if answer.pipeline != spec.name or not start <= answer.at < end:
            continue
        counts["records"] += 1
        key, mine = (answer.id, answer.role, answer.version), (answer.at, _name(record))
        counts["duplicates"] += key in first
        first[key] = min(mine, first.get(key, mine))
        models |= {answer.model} if answer.model else set()
    rows = Rows(spec, *_types(work, sorted(models)))
    for record, answer in _answers(data, {}):
        key = (answer.id, answer.role, answer.version)
        if first.get(key) == (answer.at, _name(record)):
            rows.add(answer)
            del first[key]
    table = rows.table()
    if counts["unreadable"]:
        work.notes.append(f"{counts['unreadable']} shipped records cannot be read, and are left out")
    kept = [name.removeprefix(FEATURE.format("")) for name in table.column_names]
    snapshot = work.snapshots.write(
        table,
        pipeline=spec.name,
        dataset="served",
        partition=work.partition,
        classification=classification_of(spec, [*kept, spec.label.column]),
    )
    facts: dict[str, Any] = {**counts, "rows": table.num_rows, "unanswered": rows.unanswered, "segments": len(data)}
    return Outcome(outputs={"data": snapshot}, facts=facts)


def _segments(work: Work) -> dict[str, bytes]:
    """Key -> bytes, still packed, of the objects that the listing names, sorted."""
    found = {}
    for key, size, _ in sorted(json.loads(work.get(work.request.input("segments")))):
        try:
            found[key] = work.objects.get(key)
        except NotFound:
            found[key] = b""
        if len(found[key]) != size:
            raise Conflict("a shipped segment has changed since it was listed", where=work.objects.url(key))
    return found


def _answers(data: dict[str, bytes], counts: dict[str, int]) -> Iterator[tuple[bytes, Answered]]:
    """Every record that can be read, with what it says; the others are counted."""
    for key, packed in data.items():
        for record in unpack(packed, key):
            try:
                yield record, Answered.model_validate(json.loads(record))
            except (ValueError, ValidationError):
                counts["unreadable"] = counts.get("unreadable", 0) + 1


def _types(work: Work, models: list[str]) -> tuple[dict[str, pa.DataType], dict[str, Classes]]:
    """Types of columns, as the features have them and then as models were trained on them; and models' classes."""
    known: dict[str, pa.DataType] = {}
    classes: dict[str, Classes] = {}
    for model in models:
        try:
            card = read_card(work.objects, layout.model(work.spec.name, model), model)
        except NotFound:
            work.notes.append(f"The model {model[:19]} that answered is not in the store")
            continue
        classes[model] = card.classes
        for feature in card.encoder.features:
            known.setdefault(feature.name, _named(feature.type))
    for item in work.request.inputs("features"):
        known |= {field.name: field.type for field in pq.read_schema(work.path(item))}
    return known, {model: found for model, found in classes.items() if found}


def _named(kind: str) -> pa.DataType:
    """The Arrow type of this name, as far as models have features of it."""
    try:
        return pa.type_for_alias(kind)
    except ValueError:
        return pa.string()


def _name(record: bytes) -> bytes:
    return blake2b(record, digest_size=16).digest()


def _us(moment: Any) -> int:
    return int(moment.timestamp()) * _EPOCH_US
