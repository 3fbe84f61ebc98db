"""Verification: whether the record is what was written, entry by entry, in the database or in an export.

Whoever can write the database can write all of it, hashes too. What the chains alone show is an entry that was edited,
left out or moved by somebody who did not hash everything after it again; what the anchors show, which lie where that
writer cannot change them, is the rest up to the newest anchor: a chain that was cut, or written anew.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from millrace.ledger.chain import GENESIS, entry_hash, first_previous
from millrace.ledger.events import Anchored
from millrace.ledger.schema import PROMOTED

Anchors = Mapping[str, Mapping[int, str]]
"""Pipeline -> number of an entry -> its hash, as the anchors have it."""


@dataclass
class Chain:
    """One chain as it was found; `pipeline` None is the sealed one. `anchored` is the newest entry that has an anchor;
    `begun` a generation that does not count yet, since it has none; `problem` names the first entry that does not fit:
    what comes after that is not looked at."""

    pipeline: str | None
    entries: int = 0
    head: str = GENESIS
    anchored: int = 0
    begun: int | None = None
    problem: str | None = None
    _at: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """For a person."""
        return self.pipeline or "the sealed chain"


def verify(rows: Iterable[Mapping[str, Any]], anchors: Anchors | None = None) -> list[Chain]:
    """Check all chains, given their entries in the order of all, and the anchors where they can be read.

    Returns the sealed chain, if there is one, then each pipeline's.
    """
    chains: dict[str | None, Chain] = {}
    generations: dict[str, int] = defaultdict(int)
    sealed = Chain(None)
    for row in rows:
        name = row["pipeline"] if row["number"] is not None else None
        if name is None:
            chain = sealed
        else:
            chain = chains.setdefault(name, Chain(name, head=first_previous(sealed.head, name), _at=sealed._at))
        if chain.problem is None:
            kept = None if anchors is None else anchors.get(row["pipeline"], {})
            chain.problem = _look(chain, row, generations, bool(chains), kept)
    found = [sealed] if sealed.entries or sealed.problem else []
    for name in sorted({*chains, *(anchors or {})}, key=str):
        chain = chains.get(name, Chain(name))
        kept = (anchors or {}).get(str(name), {})
        chain.anchored = max((number for number in kept if number <= chain.entries), default=0)
        cut = sorted(number for number in kept if number > chain.entries)
        if chain.problem is None and cut:
            chain.problem = f"the chain of {name} ends with entry {chain.entries}; entry {cut[-1]} was anchored, so " \
                            "that what was written after the end was cut off"  # fmt: skip
        found.append(chain)
    return found


def _look(
    chain: Chain, row: Mapping[str, Any], generations: dict[str, int], begun: bool, kept: Mapping[int, str] | None
) -> str | None:
    """What is wrong with the next entry of a chain; where nothing is, it becomes the chain's end."""
    place = row["seq"] if chain.pipeline is None else row["number"]
    of = f"entry {place} of {chain.name} ({row['kind']} {row['subject']}"
    of += ")" if chain.pipeline else f" of {row['pipeline']})"
    if chain.pipeline is None and begun:
        return f"{of}: written after the sealed chain had ended"
    if place != chain.entries + 1:
        return f"{of}: entry {chain.entries + 1} is missing before it; the record was changed from there on"
    if row["previous"] != chain.head or row["at"] <= chain._at:
        return f"{of}: does not follow the one before it; the record was changed"
    if entry_hash(row) != row["hash"]:
        return f"{of}: was changed after it was written"
    if chain.pipeline and kept and row["hash"] != kept.get(place, row["hash"]):
        return f"{of}: is not the one that was anchored; the record was written anew"
    body = json.loads(row["body"]) if row["kind"] in (PROMOTED, Anchored.kind) else {}
    if row["kind"] == PROMOTED:
        generations[row["pipeline"]] += 1
        if body.get("generation") != generations[row["pipeline"]]:
            return f"{of}: a promotion is out of order"
        chain.begun = body["generation"] if chain.pipeline else None
    if row["kind"] == Anchored.kind:
        if kept is not None and kept.get(body["number"]) != body["entry_hash"]:
            return f"{of}: speaks of an anchor of entry {body['number']} that is not there"
        chain.begun = None
    chain.entries, chain.head, chain._at = place, row["hash"], row["at"]
    return None
