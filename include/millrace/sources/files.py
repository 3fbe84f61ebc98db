"""Kind `files`: files in a folder that somebody else fills."""

from __future__ import annotations

import shutil
from pathlib import Path

from millrace.errors import Unavailable
from millrace.sources.protocol import SourceMissing


class FilesSourceEngine:
    """Copies the file once and works on the copy: the sender may replace it at any time."""

    def fetch(self, location: str, folder: Path) -> Path:
        """Copy the file. Raises SourceMissing when there is none, Unavailable when it cannot be read."""
        path = Path(location)
        target = folder / path.name
        try:
            shutil.copyfile(path, target)
        except (FileNotFoundError, NotADirectoryError) as err:
            raise SourceMissing(
                "the source has no such file",
                given=path.name,
                where=str(path.parent),
                next_step="Deliver the file, then run the partition again",
            ) from err
        except IsADirectoryError as err:
            raise SourceMissing("a folder stands where the file should be", given=path.name) from err
        except OSError as err:
            raise Unavailable(f"the file cannot be read: {err.strerror}", given=path.name) from err
        return target
