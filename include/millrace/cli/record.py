"""What `millrace ledger` prints and reads: an entry, a chain as it was found, an export."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from millrace.core.canonical import canonical_json
from millrace.core.errors import LedgerError
from millrace.ledger import Chain, Entry, Ledger, chain, verification
from millrace.ledger.schema import ENTRIES
from millrace.store.anchors import Anchors


def as_text(entry: Entry) -> str:
    """An entry for a person, on one line."""
    body = canonical_json(entry.body).decode()
    number = "sealed" if entry.number is None else entry.number
    return f"{entry.seq:6} {entry.at:%Y-%m-%d %H:%M:%S} {entry.pipeline}/{number} {entry.kind} {entry.subject} {body}"


def as_json(entry: Entry) -> str:
    """An entry as an export has it."""
    return row_as_json(vars(entry) | {"at": chain.timestamp(entry.at)})


def row_as_json(row: Mapping[str, Any]) -> str:
    """An entry's columns as a line of an export; the body, which is canonical JSON, as the object that it is."""
    body = row["body"]
    return canonical_json({**row, "body": json.loads(body) if isinstance(body, str) else body}).decode()


def chains_of(export: Path, kept: verification.Anchors) -> list[Chain]:
    """Check an export as the database would be checked. Raises LedgerError for a line that is no entry."""
    return verification.verify(_rows(export), kept)


def line(found: Chain) -> str:
    """One chain for a person."""
    if found.problem:
        return f"{found.name}: BROKEN: {found.problem}"
    text = f"{found.name}: {found.entries} entries, unbroken, head {found.head}"
    if found.pipeline is None:
        return text + "; each pipeline's chain begins with it"
    open_since = found.entries - found.anchored
    text += f"; anchored up to entry {found.anchored}" if found.anchored else "; not anchored"
    text += f", {open_since} newer than that" if found.anchored and open_since else ""
    if found.begun is not None:
        text += f"; generation {found.begun} is not anchored and does not count yet: run 'millrace ledger anchor'"
    return text


def standing(anchors: Anchors) -> str:
    """What the anchors can show, for a person."""
    place = f"anchors: {anchors.objects.root}"
    if anchors.outside:
        return f"{place}, under credentials of their own: no writer changes unseen what was anchored"
    return (
        f"{place}: tamper-evident only, since whoever can write the ledger can write these too. For anchors that hold "
        "against a writer set MILLRACE_ANCHORS to a bucket and MILLRACE_ANCHORS_PROFILE to credentials that only add"
    )


def anchor(ledger: Ledger, anchors: Anchors) -> list[Chain]:
    """Anchor the newest entry of each pipeline's chain. Raises LedgerError where a chain does not hold."""
    kept = anchors.read()
    ledger.verify(kept)
    for found in ledger.chains(kept):
        if found.pipeline is not None:
            ledger.settle(found.pipeline, anchors.put)
    for found in ledger.chains():
        if found.pipeline is not None:
            anchors.put(found.pipeline, found.entries, found.head)
    return ledger.chains(anchors.read())


def _rows(export: Path) -> Iterator[dict[str, Any]]:
    columns = set(ENTRIES.c.keys())
    with export.open(encoding="utf-8") as lines:
        for number, text in enumerate(lines, 1):
            try:
                row = json.loads(text)
                if set(row) != columns:
                    raise ValueError(f"fields {sorted(row)}")
                yield {**row, "body": canonical_json(row["body"]).decode()}
            except (ValueError, TypeError) as err:
                raise LedgerError("not an entry of an export", where=f"{export}:{number}", given=text[:80],
                                  next_step="Write it anew with 'millrace ledger export'") from err  # fmt: skip
