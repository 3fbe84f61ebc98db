"""Kind `files`: files in a folder that somebody else fills."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from millrace.errors import DataError, Unavailable
from millrace.sources.protocol import SourceMissing


class FilesSourceEngine:
    """Copies the file once, and refuses a copy during which the file was written to."""

    def fetch(self, location: str, folder: Path) -> Path:
        """Copy the file. Raises SourceMissing when there is none, Unavailable when it cannot be read or still grows."""
        path = Path(location)
        target = folder / path.name
        try:
            with path.open("rb") as source, target.open("wb") as copy:
                before = os.fstat(source.fileno())
                shutil.copyfileobj(source, copy)
                after = os.fstat(source.fileno())
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
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise Unavailable("the file is still being written", given=path.name)
        return target
