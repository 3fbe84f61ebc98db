"""Write deliveries of images and texts: a zip a month or a week, with an index.csv that dates and labels its files.

Images are scikit-learn's copy of the UCI handwritten digits, in their order, in which writers follow one another.
Texts are lists of names of places, languages, scripts and currencies as the locale data in Babel have them. Both ship
inside packages; nothing is downloaded, and the same delivery has the same bytes. Licences: the pipelines' READMEs.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from demo.data import INCOMING

MONTHS = tuple(f"2024-{month:02d}" for month in range(1, 7))
"""Months of digits."""
FIRST_WEEK, WEEKS = date(2024, 1, 1), 26
LANGUAGES = ("da", "de", "en", "es", "fr", "it", "nl", "sv")
NAMES_PER_TEXT = 8
SIZE = 8
"""Width and height of a digit in pixels."""
_EPOCH = (1980, 1, 1, 0, 0, 0)

Row = tuple[str, datetime, str, bytes]
"""A file of a delivery: name, time, label, bytes."""


def write_digits(folder: Path, month: str) -> Path:
    """Write a month's images of digits to `digits/<month>.zip`; returns the path.

    Index: file, time, digit. PNG, grey, 8 x 8 pixels. Raises ValueError for a month that there is not.
    """
    if month not in MONTHS:
        raise ValueError(f"no digits of '{month}'; there are {MONTHS[0]} to {MONTHS[-1]}")
    number = MONTHS.index(month)
    images, labels = _digits()
    first, last = (len(images) * n // len(MONTHS) for n in (number, number + 1))
    begin, end = (datetime(2024, number + n, 1, tzinfo=UTC) for n in (1, 2))
    rows = [
        (f"{n:04d}.png", _spread(begin, end, n - first, last - first), labels[n], images[n]) for n in range(first, last)
    ]
    return _write(folder / "digits" / f"{month}.zip", "digit", rows)


def write_texts(folder: Path, week: str) -> Path:
    """Write a week's texts to `texts/<Monday>.zip`; returns the path.

    Index: file, time, language (ISO 639-1). UTF-8, eight names a text. Raises ValueError for a week that there is not.
    """
    if week not in weeks():
        raise ValueError(f"no texts of the week '{week}'; there are {weeks()[0]} to {weeks()[-1]}")
    number, texts = weeks().index(week), _texts()
    first, last = (len(texts) * n // WEEKS for n in (number, number + 1))
    begin = datetime.fromisoformat(week).replace(tzinfo=UTC)
    rows = [
        (f"{week}-{n - first:03d}.txt", _spread(begin, begin + timedelta(days=7), n - first, last - first),
         texts[n][0], texts[n][1].encode())
        for n in range(first, last)
    ]  # fmt: skip
    return _write(folder / "texts" / f"{week}.zip", "language", rows)


def weeks() -> list[str]:
    """Mondays of the weeks that there are texts of."""
    return [(FIRST_WEEK + timedelta(weeks=n)).isoformat() for n in range(WEEKS)]


def png(pixels: object) -> bytes:
    """Grey values 0 to 255, shape (height, width), as PNG."""
    import numpy as np
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


@lru_cache(maxsize=1)
def _digits() -> tuple[list[bytes], list[str]]:
    import numpy as np
    from sklearn.datasets import load_digits

    found = load_digits()  # 0 to 16
    return [png(np.rint(image * 255 / 16)) for image in found.images], [str(label) for label in found.target]


@lru_cache(maxsize=1)
def _texts() -> list[tuple[str, str]]:
    """(language, text), in an order that has nothing to do with either. No name stands twice in a language's texts."""
    from babel import Locale

    made = []
    for language in LANGUAGES:
        locale = Locale(language)
        parts = (locale.territories, locale.languages, locale.scripts, locale.currencies)
        names = sorted({name for part in parts for name in part.values()}, key=lambda n: _shuffled(language, n))
        for first in range(0, len(names) - NAMES_PER_TEXT + 1, NAMES_PER_TEXT):
            made.append((language, "\n".join(names[first : first + NAMES_PER_TEXT]) + "\n"))
    return sorted(made, key=lambda text: _shuffled(*text))


def _shuffled(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def _spread(begin: datetime, end: datetime, number: int, count: int) -> datetime:
    return begin + (end - begin) * number / count


def _write(path: Path, label: str, rows: Sequence[Row]) -> Path:
    """Write beside the target, then rename: a reader sees the whole zip or none."""
    index = io.StringIO()
    writer = csv.writer(index, lineterminator="\n")
    writer.writerow(("file", "time", label))
    writer.writerows((name, f"{moment:%Y-%m-%dT%H:%M:%SZ}", value) for name, moment, value, _ in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    try:
        with open(handle, "wb") as out, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in [("index.csv", index.getvalue().encode()), *((r[0], r[3]) for r in rows)]:
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: `python -m demo.media digits 2024-01 2024-02` or `.. texts 2024-01-01`; all without a partition."""
    parser = argparse.ArgumentParser(prog="python -m demo.media", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parents[1] / INCOMING)
    sources = parser.add_subparsers(dest="source", required=True)
    for name, known in (("digits", MONTHS), ("texts", weeks())):
        source = sources.add_parser(name, help=f"{known[0]} to {known[-1]}")
        source.add_argument("partitions", nargs="*", metavar="PARTITION", help=f"such as {known[0]}")
    given = parser.parse_args(arguments)
    write, known = (write_digits, MONTHS) if given.source == "digits" else (write_texts, weeks())
    written = [write(given.folder, key) for key in given.partitions or known]
    print(f"{len(written)} files in {given.folder}")


if __name__ == "__main__":
    main()
