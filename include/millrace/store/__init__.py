"""Objects (a folder or S3), and on top of them Snapshots and Tables."""

from millrace.store.interface import Object, ObjectStore
from millrace.store.open import open_store
from millrace.store.snapshots import Manifest, SnapshotStore
from millrace.store.tables import Pointer, Tables

__all__ = ["Manifest", "Object", "ObjectStore", "Pointer", "SnapshotStore", "Tables", "open_store"]
