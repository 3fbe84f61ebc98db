"""Take a delivered file out of its compression; a broken one is named as such."""

from __future__ import annotations

import gzip
import lzma
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from millrace.core.errors import DataError, Unavailable

BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError)
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_METHODS = {9: "Deflate64", 93: "Zstandard", 95: "xz", 98: "PPMd"}
_DEBRIS = {".ds_store", "thumbs.db", "desktop.ini"}


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
                files = members(archive, path.name)
                if len(files) != 1:
                    raise DataError("a zip must hold exactly one file", where=path.name, given=len(files))
                with archive.open(files[0]) as packed, target.open("wb") as out:
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


def members(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """The files that somebody packed: not folders, nor what macOS and Windows lay beside files.

    Raises DataError for a file that needs a password, or a method of packing that Python does not know.
    """
    files = [info for info in archive.infolist() if not info.is_dir() and not _debris(info.filename)]
    for info in files:
        if info.flag_bits & 1:
            raise DataError("the zip is encrypted", where=name, next_step="Ask for it without a password")
        if info.compress_type not in _READ:
            method = _METHODS.get(info.compress_type, f"method {info.compress_type}")
            raise DataError(
                f"the zip is packed with {method}, which cannot be unpacked here",
                where=name,
                allowed="Deflate",
                next_step="Windows packs files above 2 GB so; ask for it packed with Deflate, or as gzip"
                if method == "Deflate64"
                else "Ask for it packed with Deflate, or as gzip",
            )
    return files


def _debris(name: str) -> bool:
    path = PurePosixPath(name)
    return "__MACOSX" in path.parts or path.name.startswith("._") or path.name.lower() in _DEBRIS
