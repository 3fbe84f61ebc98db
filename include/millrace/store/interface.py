"""ObjectStore: the one interface behind which a local folder and an S3 bucket look alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from millrace.core.errors import StoreError


@dataclass(frozen=True)
class Object:
    """An object in a listing: key below the store's root, size in bytes, last change (aware)."""

    key: str
    size: int
    changed: datetime


class ObjectStore(Protocol):
    """Whole objects under keys such as `tables/flights/2013-01.json`; a reader sees the old bytes or the new ones.

    Raises NotFound for a key that is not there, Conflict for a lost compare-and-set, StoreError for the rest.
    """

    root: str

    def get(self, key: str) -> bytes:
        """Read an object."""

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        """Read an object and the version that `put_if` compares."""

    def put(self, key: str, data: bytes) -> None:
        """Write an object, replacing what was there."""

    def put_if(self, key: str, data: bytes, version: str | None) -> None:
        """Write only while the object has `version` (None: does not exist). Raises Conflict."""

    def put_file(self, key: str, path: Path) -> None:
        """Write an object from a local file, replacing what was there. The file may be moved away."""

    def fetch(self, key: str) -> Path:
        """Return a local file with the object's bytes, to be read only; downloaded where needed."""

    def exists(self, key: str) -> bool:
        """Whether the key has an object."""

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Objects whose key begins with prefix, in key order."""

    def delete(self, key: str) -> None:
        """Remove an object; no error when it is gone already."""

    def url(self, key: str) -> str:
        """Address of the object for a person or another tool (`file://...`, `s3://...`)."""


def check_key(key: str) -> str:
    """Refuse a key that leaves the store or could not be a file name."""
    parts = key.split("/")
    if not key or key.startswith("/") or any(p in ("", ".", "..") or p.startswith(".tmp-") for p in parts):
        raise StoreError("not a usable key", given=key)
    return key
