"""Take a delivered file out of its compression; a broken one is named as such."""

from __future__ import annotations

import gzip
import lzma
import shutil
import zipfile
import zlib
from pathlib import Path

from millrace.errors import DataError, Unavailable

BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError)


def unpack(path: Path, compression: str) -> Path:
    """Return the file without compression, in the same folder. Raises DataError for a broken or ambiguous one."""
    if path.stat().st_size == 0:
        raise DataError("the file is empty", where=path.name)
    if compression == "none":
        return path
    target = path.with_name(f"{path.name}.unpacked")
    try:
        if compression == "gzip":
            with gzip.open(path) as packed, target.open("wb") as out:
                shutil.copyfileobj(packed, out)
        else:
            with zipfile.ZipFile(path) as archive:
                members = [m for m in archive.infolist() if not m.is_dir()]
                if len(members) != 1:
                    raise DataError("a zip must hold exactly one file", where=path.name, given=len(members))
                with archive.open(members[0]) as packed, target.open("wb") as out:
                    shutil.copyfileobj(packed, out)
    except BROKEN as err:
        if isinstance(err, OSError) and err.errno is not None:  # the disk's fault; a broken stream has no number
            raise Unavailable(f"the file cannot be unpacked: {err.strerror}", given=path.name) from err
        raise DataError(
            f"the file is not whole, or not {compression}", where=path.name, next_step="Ask for it to be sent again"
        ) from err
    if target.stat().st_size == 0:
        raise DataError("the file inside is empty", where=path.name)
    return target
