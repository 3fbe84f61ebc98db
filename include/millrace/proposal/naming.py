"""What a delivered file's name says: its format, its source, and the partition whose data it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from millrace.core.errors import SpecError
from millrace.spec import Partitioning
from millrace.spec.partitions import Grain

FORMATS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
PACKED = {".gz": "gzip", ".zip": "zip"}
IN_WORDS = "a date such as 2024-01-02 (or 20240102, 2024-01, 2024-01-02T03) in the file's name"
_TAKEN = {"scope", "embedded"}
"""Views that the SQL has already."""
_YEAR, _TWO = r"(?<!\d)(?P<year>(?:19|20)\d\d)", r"\d\d"
_DATES: tuple[tuple[Grain, re.Pattern[str]], ...] = (
    ("hour", re.compile(rf"{_YEAR}(?P<a>[-_.]?)(?P<month>{_TWO})(?P=a)(?P<day>{_TWO})[-_.T]?(?P<hour>{_TWO})(?!\d)")),
    ("day", re.compile(rf"{_YEAR}(?P<a>[-_.]?)(?P<month>{_TWO})(?P=a)(?P<day>{_TWO})(?!\d)")),
    ("month", re.compile(rf"{_YEAR}(?P<a>[-_.]?)(?P<month>{_TWO})(?![-_.]?\d)")),
)


@dataclass(frozen=True)
class Named:
    """A file by its name. `grain` and `key` are None for one without a date: a static source."""

    path: Path
    source: str
    format: str
    compression: str
    pattern: str
    """The file's name with a field in place of each part of its date."""
    grain: Grain | None
    key: str | None

    @property
    def keys(self) -> list[str]:
        """Partitions for which a file of this pattern lies in the folder, the earliest first."""
        dates = (_date(path.name) for path in self.path.parent.iterdir() if path.is_file())
        return sorted(key for pattern, _, key, _ in filter(None, dates) if pattern == self.pattern)


def named(path: Path) -> Named:
    """What the file's name says. Raises SpecError for one that is not there, or of no format that is read."""
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "there is no such file"
        raise SpecError(what, given=str(path), next_step="Give files, such as --from data/*.csv")
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    compression = PACKED.get(suffixes[-1], "none") if suffixes else "none"
    inner = suffixes[:-1] if compression != "none" else suffixes
    format = FORMATS.get(inner[-1]) if inner else None
    if format is None:
        raise SpecError("a file's format is told from its suffix, and this is none that is read", given=path.name,
                        allowed=f"{', '.join(FORMATS)}, also with {' or '.join(PACKED)} behind it")  # fmt: skip
    if any(character in str(path) for character in "{}$"):
        raise SpecError("a location gives the characters { } $ a meaning; rename the file or folder", given=str(path))
    if found := _date(path.name):
        pattern, grain, key, rest = found
        return Named(path, _source(rest, path), format, compression, pattern, grain, key)
    return Named(path, _source(path.name, path), format, compression, path.name, None, None)


def _date(name: str) -> tuple[str, Grain, str, str] | None:
    """Pattern, grain and key of a name with a date, and the name without it."""
    for grain, form in _DATES:
        for match in form.finditer(name):
            parts = match.groupdict()
            if (key := _key(grain, parts)) is not None:
                filled = name[: match.start()] + "".join(_fields(match)) + name[match.end() :]
                return filled, grain, key, name[: match.start()] + "_" + name[match.end() :]
    return None


def _key(grain: Grain, parts: dict[str, str]) -> str | None:
    day = "-".join(parts[part] for part in ("year", "month", "day") if part in parts)
    try:
        return Partitioning(grain).check(f"{day}T{parts['hour']}" if "hour" in parts else day)
    except SpecError:
        return None


def _fields(match: re.Match[str]) -> Iterator[str]:
    """The text of a date with its numbers as fields, whatever stands between them."""
    place = match.start()
    for part in ("year", "month", "day", "hour"):
        if part in match.groupdict():
            yield match.string[place : match.start(part)] + f"{{{part}}}"
            place = match.end(part)


def _source(text: str, path: Path) -> str:
    """A source's name of a file's, or of its folder's where nothing but a date is in it."""
    stem = text
    for suffix in reversed(path.suffixes[-2:]):
        if suffix.lower() in (*FORMATS, *PACKED):
            stem = stem.removesuffix(suffix)
    for candidate in (stem, path.resolve().parent.name):
        if word := re.sub(r"[^a-z0-9]+", "_", candidate.lower()).strip("_"):
            word = (word if word[0].isalpha() else f"source_{word}")[:58].rstrip("_")
            return f"{word}_data" if word in _TAKEN else word
    return "source"
