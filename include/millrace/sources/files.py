"""Kind `files`: files in a folder that somebody else fills."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from millrace.core.errors import DataError, Unavailable
from millrace.sources.formats.media import INDEX, pack
from millrace.sources.protocol import SourceMissing


class FilesSourceEngine:
    """Copies the file once, and refuses a copy during which the file was written to."""

    def fetch(self, location: str, folder: Path) -> Path:
        """Copy the file, or a folder with an index.csv as a zip.

        Raises SourceMissing when there is none, Unavailable when it cannot be read or still grows.
        """
        path = Path(location)
        target = folder / path.name
        try:
            if (path / INDEX).is_file():  # images or texts that nobody packed
                return _packed(path, folder)
            still = _copy(path, target)
        except (FileNotFoundError, NotADirectoryError) as err:
            raise SourceMissing(
                "the source has no such file",
                given=path.name,
                where=str(path.parent),
                next_step="Deliver the file, then run the partition again",
            ) from err
        except IsADirectoryError as err:
            raise DataError("a folder stands where the file should be", given=path.name) from err
        except OSError as err:
            raise Unavailable(f"the file cannot be read: {err.strerror}", given=path.name) from err
        if not still:
            raise Unavailable("the file is still being written", given=path.name)
        return target


def _copy(path: Path, target: Path) -> bool:
    """Copy a file; whether it kept still meanwhile."""
    with path.open("rb") as source, target.open("wb") as copy:
        before = os.fstat(source.fileno())
        shutil.copyfileobj(source, copy)
        after = os.fstat(source.fileno())
    return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def _packed(path: Path, folder: Path) -> Path:
    """A folder's files as one zip. Whether all are there is told by the index, which the reader holds against them."""
    copy, target = folder / "delivery", folder / f"{path.name}.zip"
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        place = copy / file.relative_to(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not _copy(file, place):
            raise Unavailable("a file of the folder is still being written", given=path.name)
    pack(copy, target)
    return target
