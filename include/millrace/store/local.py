"""LocalStore: objects as files in a folder. Atomic by rename; compare-and-set under a file lock."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from millrace.core.errors import Conflict, NotFound, StoreError
from millrace.store.interface import Object, check_key

TEMPORARY = ".tmp-"


class LocalStore:
    """A folder as object store. All writers must share one machine (the lock is a local one)."""

    def __init__(self, root: str | Path) -> None:
        self.path = Path(root).expanduser().resolve()
        self.root = str(self.path)

    def _file(self, key: str) -> Path:
        return self.path / check_key(key)

    def get(self, key: str) -> bytes:
        """Read an object."""
        try:
            return self._file(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as err:
            raise NotFound("no such object", where=self.root, given=key) from err

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        """Read an object and its version (a digest of its bytes)."""
        data = self.get(key)
        return data, _version(data)

    def put(self, key: str, data: bytes) -> None:
        """Write an object, replacing what was there."""
        with self._written(key) as temporary:
            temporary.write_bytes(data)

    def put_if(self, key: str, data: bytes, version: str | None) -> None:
        """Write only while the object has `version` (None: does not exist). Raises Conflict."""
        with self._locked(key):
            try:
                current: str | None = self.get_versioned(key)[1]
            except NotFound:
                current = None
            if current != version:
                raise Conflict("somebody else changed the object first", where=self.root, given=key)
            self.put(key, data)

    def put_file(self, key: str, path: Path) -> None:
        """Write an object from a local file, replacing what was there."""
        with self._written(key) as temporary:
            shutil.copyfile(path, temporary)

    def fetch(self, key: str) -> Path:
        """Return the object's own file."""
        path = self._file(key)
        if not path.is_file():
            raise NotFound("no such object", where=self.root, given=key)
        return path

    def exists(self, key: str) -> bool:
        """Whether the key has an object."""
        return self._file(key).is_file()

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Objects whose key begins with prefix, in key order."""
        folder = self.path / prefix.rpartition("/")[0]
        found = []
        for base, folders, names in os.walk(folder, onerror=self._unread):
            folders[:] = [f for f in folders if f != ".locks"]
            for name in names:
                if name.startswith(TEMPORARY):
                    continue
                path = Path(base) / name
                key = path.relative_to(self.path).as_posix()
                if key.startswith(prefix):
                    try:
                        stat = path.stat()
                    except FileNotFoundError:
                        continue
                    found.append(Object(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC)))
        yield from sorted(found, key=lambda o: o.key)

    def _unread(self, err: OSError) -> None:
        """A folder that is gone has no objects; what may not be read, or is no folder, is no store without objects."""
        if not isinstance(err, FileNotFoundError | NotADirectoryError) or self.path.is_file():
            raise err

    def delete(self, key: str) -> None:
        """Remove an object and folders that become empty."""
        path = self._file(key)
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.path:
                break
            try:
                folder.rmdir()
            except OSError:
                break

    def url(self, key: str) -> str:
        """`file://` address."""
        return self._file(key).as_uri()

    def collect_temporary(self, older_than_s: float) -> int:
        """Remove what killed writers left half-written; returns how many files."""
        limit, count = time.time() - older_than_s, 0
        for path in self.path.rglob(f"{TEMPORARY}*"):
            try:
                if path.stat().st_mtime < limit:
                    path.unlink()
                    count += 1
            except FileNotFoundError:
                continue
        return count

    @contextmanager
    def _written(self, key: str) -> Iterator[Path]:
        """A temporary file that takes the key's place when the block ends well; durable before visible."""
        target = self._file(key)
        temporary = target.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        try:
            for _ in range(5):
                try:  # a concurrent delete may remove the folder between mkdir and write
                    target.parent.mkdir(parents=True, exist_ok=True)
                    temporary.touch()
                    break
                except FileNotFoundError:
                    continue
            yield temporary
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, target)
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as err:
            raise StoreError(f"cannot write: {err.strerror or err}", where=self.root, given=key) from err
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        folder = self.path / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        # A fixed set of lock files, never deleted: deleting a lock file that another waits for breaks the lock.
        name = hashlib.sha256(key.encode()).hexdigest()[:2]
        with (folder / name).open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
