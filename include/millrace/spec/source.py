"""Where a pipeline's raw data come from: one model per kind, and the union that others can extend."""

from __future__ import annotations

import string
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from millrace.spec.base import Mistakes, Model
from millrace.spec.csv import Csv
from millrace.spec.durations import Duration
from millrace.spec.extension import Extensible
from millrace.spec.media import FILE, MEASURED
from millrace.spec.partitions import Grain, is_timezone

FIELDS = ("year", "month", "day", "hour")
NEEDED: dict[Grain, tuple[str, ...]] = {
    "hour": FIELDS, "day": FIELDS[:3], "week": FIELDS[:3], "month": FIELDS[:2],
}  # fmt: skip
"""Fields that a location must have to name another file for each partition of a grain."""


Type = Literal["string", "integer", "number", "boolean", "timestamp", "date", "time", "binary"]
"""Types of a source's columns. A timestamp is a moment; a date has no zone, and a time is that of a clock on a wall."""


class _Source(Model):
    location: str = Field(
        min_length=1,
        description="Pattern with the fields {year} {month} {day} {hour} of the partition's local start, or none.",
    )
    format: Literal["csv", "parquet", "json", "images", "texts"] = Field(
        default="csv", description="images, texts: a zip (or a folder) of files and an index.csv that names them."
    )
    csv: Csv | None = Field(default=None, description="How the csv is written; as RFC 4180 says where left out.")
    compression: Literal["none", "gzip", "zip"] = Field(default="none", description="What the file is packed by.")
    timezone: str | None = Field(
        default=None,
        description="IANA name of the zone in which times without an offset are; refused where left out.",
    )
    partitioned: bool = Field(default=True, description="False: one static file for all partitions.")
    event_time: str | None = Field(
        default=None, description="Column that dates a row; rows outside the partition fail the gate."
    )
    lookback: Duration = Field(
        default=Duration("PT0S"), description="How far before the partition the transform reads this source."
    )
    gate: str = Field(min_length=1, description="GX suite, path inside the pipeline's folder.")
    columns: tuple[str, ...] = Field(
        min_length=1,
        description="Header expected, in any order; nothing else is taken. Of images and texts that of index.csv.",
    )
    types: dict[str, Type] = Field(
        default_factory=dict, description="Types of columns; string where left out. No column is declared binary."
    )

    @model_validator(mode="before")
    @classmethod
    def _measured(cls, value: Any) -> Any:
        """Images and texts have the measured columns too."""
        measured = MEASURED.get(str(value.get("format"))) if isinstance(value, dict) else None
        if measured is None:
            return value
        columns, types = value.get("columns"), value.get("types", {})
        if not isinstance(columns, list | tuple) or not isinstance(types, dict):
            return value  # which is said in a moment
        columns = [*columns, *(c for c in measured if c not in columns)]
        return {**value, "columns": columns, "types": {**measured, **types}}

    @model_validator(mode="after")
    def _consistent(self) -> _Source:
        wrong = Mistakes()
        if problem := self.location_problem(self.location):
            wrong.add(problem, "location", given=self.location)
        if not self.partitioned and self.lookback:
            wrong.add("a static source (partitioned: false) has no lookback", "lookback", given=str(self.lookback))
        seen: dict[str, str] = {}
        for number, column in enumerate(self.columns):
            if column.lower() in seen:
                other = "" if seen[column.lower()] == column else ": SQL does not tell upper from lower case"
                wrong.add(f"column '{column}' stands twice{other}", "columns", number)
            seen[column.lower()] = column
        if self.csv is not None and self.format != "csv":
            wrong.add("only of format csv", "csv", given=self.format)
        if self.timezone is not None and not is_timezone(self.timezone):
            wrong.add("not an IANA time zone such as America/New_York", "timezone", given=self.timezone)
        measured = MEASURED.get(self.format, {})
        for column, kind in self.types.items():
            if column not in self.columns:
                wrong.add("the source has no such column", "types", column, given=column, allowed=self.columns)
            elif measured.get(column, kind) != kind:
                wrong.add(f"is measured of {self.format}", "types", column, given=kind, allowed=[measured[column]])
            elif kind == "binary" and column not in measured:
                wrong.add("no delivered column is binary", "types", column, given=kind)
        if measured and FILE not in self.columns:
            wrong.add(f"the index names each file in a column '{FILE}'", "columns", given=list(self.delivered))
        if measured and self.compression != "none":
            wrong.add(f"{self.format} come in a zip as they are", "compression", given=self.compression,
                      allowed=["none"])  # fmt: skip
        if self.event_time is not None and self.types.get(self.event_time) != "timestamp":
            times = [c for c in self.columns if self.types.get(c) == "timestamp"]
            wrong.add("must be a column of type timestamp", "event_time", given=self.event_time, allowed=times)
        wrong.done()
        return self

    @property
    def delivered(self) -> tuple[str, ...]:
        """The columns that the delivery itself has: all but those that are measured."""
        return tuple(c for c in self.columns if c not in MEASURED.get(self.format, {}))

    def location_problem(self, location: str) -> str | None:
        """Why a pattern cannot be this source's location, None when it can; also asked of an environment's."""
        try:
            fields = location_fields(location)
        except ValueError as err:
            return str(err)
        if self.partitioned and not fields:
            return "a partitioned source's location needs a field such as {year}; or set partitioned: false"
        if not self.partitioned and fields:
            return "a static source (partitioned: false) has no partition fields in its location"
        return None


def location_fields(location: str) -> set[str]:
    """Names of the partition fields of a pattern. Raises ValueError for one that cannot be filled."""
    try:
        parts = list(string.Formatter().parse(location))
    except ValueError as err:
        raise ValueError(f"location has unbalanced braces ({err})") from err
    fields = {name for _, name, _, _ in parts if name is not None}
    if unknown := sorted(fields - set(FIELDS)):
        shown = ", ".join(f"'{{{name}}}'" for name in unknown)
        raise ValueError(f"location has unknown fields {shown}; allowed: {', '.join(f'{{{f}}}' for f in FIELDS)}")
    if any(form or conversion for _, _, form, conversion in parts):
        raise ValueError("a location's fields take no format: they are zero-padded already")
    return fields


class FilesSource(_Source):
    """Files in a folder, one per partition; relative to the project's root."""

    kind: Literal["files"] = "files"
    engine: ClassVar[str] = "millrace.sources.files:FilesSourceEngine"

    def location_problem(self, location: str) -> str | None:
        """A path, not an address."""
        if "://" in location:
            return "location of kind 'files' is a path; an address such as s3://bucket/key needs its own kind"
        return super().location_problem(location)


class S3Source(_Source):
    """Objects in a bucket; location is `s3://bucket/key`. The environment's AWS variables give address and keys."""

    kind: Literal["s3"] = "s3"
    engine: ClassVar[str] = "millrace.sources.s3:S3SourceEngine"

    def location_problem(self, location: str) -> str | None:
        """An address with bucket and key."""
        if not location.startswith("s3://") or not all(location.removeprefix("s3://").partition("/")[::2]):
            return "location of kind 's3' is s3://bucket/key"
        return super().location_problem(location)


SOURCES = Extensible("millrace.sources", FilesSource, S3Source)
Source = Annotated[Any, SOURCES]
