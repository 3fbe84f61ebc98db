"""Open the store at an address: a folder, or a bucket."""

from __future__ import annotations

from pathlib import Path

from millrace.core.errors import StoreError
from millrace.store.interface import ObjectStore


def open_store(root: str | Path, profile: str = "") -> ObjectStore:
    """Open the store at a folder or `s3://bucket/prefix`. S3's endpoint and keys come from the AWS variables, or its
    keys from a named profile of the AWS files instead."""
    text = str(root)
    if text.startswith("s3://"):
        from millrace.store.s3 import S3Store

        return S3Store(text, profile)
    if "://" in text:
        raise StoreError("no store of this kind", given=text, allowed=["a folder", "s3://bucket/prefix"])
    from millrace.store.local import LocalStore

    return LocalStore(text)
