"""Read a delivery of images or texts: a zip with the files, and an index.csv that names, dates and labels them.

The bytes of an image, and a text, stand in the Snapshot itself: one object that is there whole or not at all, that has
one digest, and that erasure takes away with all that it holds. That needs bounds, which are refused by name.
"""

from __future__ import annotations

import math
import shutil
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.core.canonical import digest
from millrace.core.errors import DataError
from millrace.core.media import channels, decode_text, encoding_of, grey, media_type, open_image
from millrace.sources.formats.columns import Public, Wanted
from millrace.sources.formats.delimited import csv_header, read_csv
from millrace.sources.unpack import BROKEN, members
from millrace.spec.media import FILE, MEASURED

INDEX = "index.csv"
MOST_FILE, MOST_DELIVERY, MOST_FILES = 4 << 20, 512 << 20, 100_000
"""Bytes of one file, bytes of all files, and files of one delivery."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


def read_media(path: Path, name: str, format: str, wanted: Wanted, public: Public, zone: str | None = None) -> pa.Table:
    """One row per file in the index's order: the index's columns, then what is measured.

    A file that cannot be decoded is a row like others, with nulls: the gate decides about it. Raises DataError for a
    zip that is not whole, an index that does not fit it, and files beyond the bounds.
    """
    measured = MEASURED[format]
    with _opened(path, name) as archive:
        files = _files(archive, name)
        declared = {c: kind for c, kind in wanted.items() if c not in measured}
        index = read_csv(_unpacked(archive, path, name), f"{name}/{INDEX}", declared, public, zone=zone)
        listed = _listed(index, files, name, public)
        rows = [_MEASURES[format](data) for data in _contents(archive, [files[f] for f in listed], name)]
    columns = {c: pa.array([row[c] for row in rows], kind) for c, kind in wanted.items() if c in measured}
    return pa.table({c: columns[c] if c in columns else index[c] for c in wanted})


def media_header(path: Path, name: str) -> list[str]:
    """Columns of the index."""
    with _opened(path, name) as archive:
        return csv_header(_unpacked(archive, path, name), f"{name}/{INDEX}")


def pack(folder: Path, target: Path) -> None:
    """A folder as the zip it could have come in; the same files give the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
            with path.open("rb") as source, archive.open(entry, "w") as out:
                shutil.copyfileobj(source, out)


def _opened(path: Path, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except BROKEN as err:
        raise DataError("the delivery is not a zip, or not whole", where=name,
                        next_step="Ask for it to be sent again, as one zip") from err  # fmt: skip


def _files(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    """The files by their names, after all that must hold for them together."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in members(archive, name):
        parts = PurePosixPath(info.filename).parts
        if info.filename.startswith("/") or ".." in parts or "\\" in info.filename:
            raise DataError("a file of the zip lies outside of it", where=name)
        if info.filename in found:
            raise DataError("the zip holds two files of one name", where=name)
        found[info.filename] = info
    if INDEX not in found:
        raise DataError(f"the delivery has no {INDEX}", where=name,
                        next_step=f"{INDEX} names each file in a column '{FILE}', with its time and label")  # fmt: skip
    for what, given, most in (
        ("files", len(found) - 1, MOST_FILES),
        ("bytes", sum(i.file_size for i in found.values()), MOST_DELIVERY),
    ):
        if given > most:
            raise DataError(f"the delivery has too many {what}", where=name, given=given, allowed=f"at most {most}",
                            next_step="Cut it into smaller partitions")  # fmt: skip
    return found


def _unpacked(archive: zipfile.ZipFile, path: Path, name: str) -> Path:
    target = path.with_name(f"{path.name}.{INDEX}")
    try:
        with archive.open(INDEX) as packed, target.open("wb") as out:
            shutil.copyfileobj(packed, out)
    except KeyError as err:
        raise DataError(f"the delivery has no {INDEX}", where=name) from err
    except BROKEN as err:
        raise DataError(f"{INDEX} is damaged", where=name, next_step="Ask for the zip to be sent again") from err
    return target


def _listed(index: pa.Table, files: dict[str, zipfile.ZipInfo], name: str, public: Public) -> list[str]:
    """Files in the index's order. Raises DataError where index and zip do not agree; names of files only if public."""
    listed = index[FILE].to_pylist()
    seen: set[str] = set()
    for line, file in enumerate(listed, start=2):
        problem = None
        if file is None:
            problem = f"the line has no '{FILE}'"
        elif file in seen:
            problem = "the index names a file twice"
        elif file not in files:
            problem = "the index names a file that was not delivered"
        elif files[file].file_size > MOST_FILE:
            problem = f"the file has {files[file].file_size} bytes, more than {MOST_FILE}"
        if problem:
            raise DataError(problem, where=f"{name}/{INDEX}:{line}", given=file if public(FILE) else None)
        seen.add(file)
    if extra := sorted(files.keys() - seen - {INDEX}):
        raise DataError(f"{len(extra)} delivered files are not in the index", where=name,
                        given=extra[0] if public(FILE) else None)  # fmt: skip
    return listed


def _contents(archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo], name: str) -> Iterator[bytes]:
    for line, info in enumerate(infos, start=2):
        try:
            yield archive.read(info)
        except BROKEN as err:
            raise DataError(
                "the file is damaged: its bytes are not those that were packed",
                where=f"{name}/{INDEX}:{line}",
                next_step="Ask for the zip to be sent again",
            ) from err


def _file(data: bytes) -> dict[str, Any]:
    return {"digest": digest(data), "size": len(data), "media_type": media_type(data)}


def _image(data: bytes) -> dict[str, Any]:
    """Sums of integers, so that the same image gives the same numbers everywhere."""
    image = open_image(data)
    row = {**dict.fromkeys(MEASURED["images"]), **_file(data), "content": data, "decoded": image is not None}
    if image is None:
        return row
    values = grey(image).astype(np.int64)
    count, total, squares = values.size, int(values.sum()), int((values**2).sum())
    return row | {
        "width": image.width,
        "height": image.height,
        "channels": channels(image),
        "brightness": total / (255 * count),
        "contrast": math.sqrt(count * squares - total**2) / (255 * count),
    }


def _text(data: bytes) -> dict[str, Any]:
    text = decode_text(data)
    row = {**dict.fromkeys(MEASURED["texts"]), **_file(data), "encoding": encoding_of(data), "text": text}
    if text is None:
        return row
    words = text.casefold().split()
    return row | {
        "characters": len(text),
        "words": len(words),
        "distinct_words": len(set(words)),
        "letters": sum(c.isalpha() for c in text) / len(text) if text else 0.0,
        "controls": sum(c == "\ufffd" or (unicodedata.category(c) == "Cc" and c not in "\t\r\n") for c in text),
    }


_MEASURES: dict[str, Callable[[bytes], dict[str, Any]]] = {"images": _image, "texts": _text}
