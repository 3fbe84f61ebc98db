"""What a source kind must bring: an engine that fetches the delivered file."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol
from zoneinfo import ZoneInfo

from millrace.core.errors import DataError, Retry, SpecError
from millrace.core.imports import named
from millrace.spec import Partitioning


class SourceMissing(DataError):
    """The source has no file for the partition, or not yet."""

    retry: ClassVar[Retry] = "wait"


class SourceEngine(Protocol):
    """Named by the source model's `engine`; made without arguments, used for one file."""

    def fetch(self, location: str, folder: Path) -> Path:
        """Copy the file at `location` into `folder` and return the copy, whole: the sender may replace it meanwhile.

        Raises SourceMissing when there is none, Unavailable when it cannot be read now.
        """


def engine_of(source: Any) -> SourceEngine:
    """Import and make the engine that a source model names as `module:attribute`. Raises SpecError."""
    try:
        engine: SourceEngine = named(source.engine)()
    except ImportError as err:
        raise SpecError(f"the engine of source kind '{source.kind}' cannot be imported", given=source.engine) from err
    return engine


def fill(pattern: str, partitioning: Partitioning, partition: str | None) -> str:
    """Fill a location pattern with the partition's local start, zero-padded; a static source has no partition."""
    if partition is None:
        return pattern
    start: datetime = partitioning.start(partition).astimezone(ZoneInfo(partitioning.timezone))
    return pattern.format(
        year=f"{start:%Y}", month=f"{start:%m}", day=f"{start:%d}", hour=f"{start:%H}"
    )  # fmt: skip
