"""Checks: what a suite may ask beside GX's expectations, because it takes more than the rows themselves.

name: flights
expectations: [...]
checks:
  - {type: freshness, max_age: PT6H}
  - {type: volume, partitions: 3, min_ratio: 0.7, max_ratio: 1.4}
  - {type: rule, says: the clock is its hour and minute, sql: sched_dep_time = hour * 100 + minute}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from millrace.core.errors import SpecError
from millrace.spec.base import Mistakes, Model
from millrace.spec.durations import Duration

Share = Annotated[float, Field(ge=0, le=1)]


class Freshness(Model):
    """The newest event time lies at most `max_age` before the partition's end."""

    type: Literal["freshness"]
    max_age: Duration = Field(description="Largest time between the newest row and the partition's end.")


class Volume(Model):
    """Rows against the median of the trailing partitions; for a source without partitions, of its last delivery."""

    type: Literal["volume"]
    partitions: int = Field(default=4, ge=1, description="How many published partitions before this one are read.")
    min_ratio: float | None = Field(default=None, gt=0, description="Least rows, as a share of the median.")
    max_ratio: float | None = Field(default=None, gt=0, description="Most rows, as a share of the median.")

    @model_validator(mode="after")
    def _bound(self) -> Volume:
        wrong = Mistakes()
        if self.min_ratio is None and self.max_ratio is None:
            wrong.add("needs min_ratio or max_ratio", "type")
        if self.min_ratio and self.max_ratio and self.min_ratio > self.max_ratio:
            wrong.add(f"cannot be larger than max_ratio ({self.max_ratio:g})", "min_ratio", given=self.min_ratio)
        wrong.done()
        return self


class Schema(Model):
    """Exactly these columns, each of this type; their order does not matter."""

    type: Literal["schema"]
    columns: dict[str, str] = Field(min_length=1, description="Column -> Arrow type, such as int64, double, string.")


class UniqueAcross(Model):
    """No key of this partition stands in the trailing ones."""

    type: Literal["unique_across"]
    columns: tuple[str, ...] = Field(min_length=1, description="Columns of the key.")
    partitions: int = Field(default=4, ge=1, description="How many published partitions before this one are read.")


class Reference(Model):
    """Values of these columns stand in another source's columns; rows with a null among them are left out."""

    type: Literal["reference"]
    columns: tuple[str, ...] = Field(min_length=1, description="Columns of this source whose values are looked up.")
    source: str = Field(description="Source of the pipeline whose published Snapshot is looked up.")
    source_columns: tuple[str, ...] = Field(default=(), description="Its columns, in the same order; alike if empty.")
    min_share: float = Field(default=1.0, gt=0, le=1, description="Least share of rows that are found.")

    @model_validator(mode="after")
    def _pairs(self) -> Reference:
        wrong = Mistakes()
        if self.source_columns and len(self.source_columns) != len(self.columns):
            wrong.add("needs one column for each of 'columns'", "source_columns", given=len(self.source_columns),
                      allowed=[len(self.columns)])  # fmt: skip
        wrong.done()
        return self

    @property
    def theirs(self) -> tuple[str, ...]:
        """Columns of the other source."""
        return self.source_columns or self.columns


class Rule(Model):
    """A condition on a row, in DuckDB's SQL. Rows for which it is null are left out; so a rule of nulls alone fails."""

    type: Literal["rule"]
    says: str = Field(min_length=1, description="What holds, in words, for messages.")
    sql: str = Field(min_length=1, description="The condition.")
    min_share: float = Field(default=1.0, gt=0, le=1, description="Least share of rows for which it holds.")


class Bias(Model):
    """Shares of groups, and rates of a label in them, against a declared reference."""

    type: Literal["bias"]
    column: str = Field(description="Column of the groups.")
    shares: dict[str, Share] = Field(min_length=2, description="Group -> its share of the rows in the reference.")
    tolerance: float = Field(gt=0, lt=1, description="Largest difference of a share.")
    label: str | None = Field(default=None, description="Column of 0 and 1 whose rate is compared, too.")
    rates: dict[str, Share] = Field(default_factory=dict, description="Group -> rate of the label in the reference.")
    rate_tolerance: float | None = Field(default=None, gt=0, lt=1, description="Largest difference of a rate.")
    minimum_rows: int = Field(default=100, ge=1, description="Smaller groups have no rate.")

    @model_validator(mode="after")
    def _whole(self) -> Bias:
        wrong = Mistakes()
        if not 0.99 <= sum(self.shares.values()) <= 1.01:
            wrong.add("shares must add up to 1", "shares", given=round(sum(self.shares.values()), 4))
        if len({bool(self.rates), self.label is not None, self.rate_tolerance is not None}) > 1:
            wrong.add("label, rates and rate_tolerance go together", "type")
        for group in self.rates:
            if group not in self.shares:
                wrong.add("no such group among the shares", "rates", group, given=group, allowed=sorted(self.shares))
        wrong.done()
        return self


GateCheck = Annotated[Freshness | Volume | Schema | UniqueAcross | Reference | Rule | Bias, Field(discriminator="type")]
TYPES = ("freshness", "volume", "schema", "unique_across", "reference", "rule", "bias")
_ADAPTER: TypeAdapter[Any] = TypeAdapter(GateCheck)


def gate_checks(suite: Mapping[str, Any], where: str) -> list[Any]:
    """The `checks` of a suite, in order. Raises SpecError for the first that is wrong, naming its place."""
    listed = suite.get("checks", [])
    if not isinstance(listed, list):
        raise SpecError("'checks' is a list", where=where)
    return [_read(item, f"{where}: checks[{number}]") for number, item in enumerate(listed)]


def _read(item: Any, where: str) -> Any:
    kind = item.get("type") if isinstance(item, Mapping) else None
    if kind not in TYPES:
        raise SpecError("no such check", where=where, given=kind, allowed=TYPES)
    try:
        return _ADAPTER.validate_python(item)
    except ValidationError as err:
        first = err.errors()[0]
        key = ".".join(str(part) for part in first["loc"][1:])
        if first["type"] == "extra_forbidden":
            raise SpecError(f"{kind}: unknown key", where=where, given=key, allowed=sorted(_fields(kind))) from err
        raise SpecError(f"{kind}{f', {key}' if key else ''}: {first['msg']}", where=where) from err


def _fields(kind: str) -> set[str]:
    model = next(m for m in (Freshness, Volume, Schema, UniqueAcross, Reference, Rule, Bias)
                 if kind in str(m.model_fields["type"].annotation))  # fmt: skip
    return set(model.model_fields)


def trailing(checks: list[Any]) -> int:
    """How many published partitions before the one that is gated these checks read."""
    return max((check.partitions for check in checks if isinstance(check, Volume | UniqueAcross)), default=0)


def references(checks: list[Any]) -> list[str]:
    """Sources whose published Snapshots these checks look into, sorted."""
    return sorted({check.source for check in checks if isinstance(check, Reference)})
