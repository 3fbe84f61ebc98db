"""Anchors: hashes of the ledger's entries, each written once, where whoever can write the ledger cannot change them."""

from __future__ import annotations

import json

from millrace.core.canonical import canonical_json
from millrace.core.errors import Corrupt, LedgerError, NotFound, StoreError
from millrace.core.settings import Settings
from millrace.store import layout
from millrace.store.interface import ObjectStore
from millrace.store.open import open_store


class Anchors:
    """One object per anchored entry, `<pipeline>/<number>`, in a store of their own. `outside`: a bucket under
    credentials of its own, which the processes that write the ledger and the store do without."""

    def __init__(self, objects: ObjectStore, outside: bool) -> None:
        self.objects = objects
        self.outside = outside

    @classmethod
    def of(cls, settings: Settings) -> Anchors:
        """Where the settings say."""
        outside = settings.anchors.startswith("s3://") and bool(settings.anchors_profile)
        return cls(open_store(settings.anchors, settings.anchors_profile), outside)

    def put(self, pipeline: str, number: int, entry_hash: str) -> None:
        """Anchor an entry by a create-only put; again, as a retry does, changes nothing.

        Raises LedgerError where another entry was anchored under this number: the record was written anew since.
        """
        key = layout.anchor(pipeline, number)
        try:
            self.objects.put_if(key, canonical_json({"pipeline": pipeline, "number": number, "hash": entry_hash}), None)
        except StoreError as err:
            # Lost to another, or to an earlier try of its own; of locked objects some servers say 'denied' then.
            try:
                stands = self._get(key)
            except NotFound:
                raise err from None
            if stands != (pipeline, number, entry_hash):
                raise LedgerError(f"another entry {number} of {pipeline} was anchored: the record was written anew",
                                  where=self.objects.url(key), given=entry_hash,
                                  next_step="See what 'millrace ledger verify' finds") from None  # fmt: skip

    def read(self) -> dict[str, dict[int, str]]:
        """All of them: pipeline -> number of the entry -> its hash. Raises Corrupt for an object that is no anchor."""
        found: dict[str, dict[int, str]] = {}
        for each in self.objects.list():
            pipeline, number, entry_hash = self._get(each.key)
            if each.key != layout.anchor(pipeline, number):
                raise Corrupt(
                    "an anchor of another entry", where=self.objects.url(each.key), given=f"{pipeline} {number}"
                )
            found.setdefault(pipeline, {})[number] = entry_hash
        return found

    def _get(self, key: str) -> tuple[str, int, str]:
        try:
            body = json.loads(self.objects.get(key))
            return str(body["pipeline"]), int(body["number"]), str(body["hash"])
        except (ValueError, TypeError, KeyError) as err:
            raise Corrupt("not an anchor", where=self.objects.url(key)) from err
