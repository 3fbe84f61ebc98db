"""Bundles in the store: put there where a request is made, read and verified where a job runs."""

from __future__ import annotations

from millrace.core.canonical import digest
from millrace.core.errors import Corrupt
from millrace.spec import Bundle
from millrace.store import layout
from millrace.store.interface import ObjectStore


def keep(objects: ObjectStore, bundle: Bundle) -> None:
    """Put a bundle where a request of its digest finds it; the same bundle twice is stored once."""
    key = layout.bundle(bundle.digest)
    if not objects.exists(key):
        objects.put(key, bundle.to_bytes())


def read(objects: ObjectStore, spec_digest: str) -> Bundle:
    """The bundle of a spec digest. Raises NotFound, or Corrupt when the bytes differ."""
    data = objects.get(layout.bundle(spec_digest))
    if digest(data) != spec_digest:
        raise Corrupt("the stored bundle is not the one its name says", given=spec_digest)
    return Bundle.model_validate_json(data)
