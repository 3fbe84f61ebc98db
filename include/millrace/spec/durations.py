"""Durations as ISO 8601 writes them: `P1M`, `P28D`, `PT3H`, `P1DT12H`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from dateutil.relativedelta import relativedelta
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

_PART = r"(?:([0-9]{1,5})%s)?"
PATTERN = "^P(?=.)" + "".join(_PART % u for u in "YMWD") + "(?:T(?=.)" + "".join(_PART % u for u in "HMS") + ")?$"

LONGEST_YEARS = 1000
"""Python's last year is 9999, and its first 1."""


class Duration:
    """A duration in two parts: the calendar's (years to days) and the clock's (hours to seconds).

    `P1M` after January is February. Across a change of clocks `P1D` keeps the time of day and `PT24H` does not.
    """

    def __init__(self, text: str) -> None:
        match = re.fullmatch(PATTERN.strip("^$"), text)
        if not match:
            raise ValueError(f"'{text}' is not a duration; write ISO 8601 such as P1M, P28D or PT3H")
        years, months, weeks, days, hours, minutes, seconds = (int(g or 0) for g in match.groups())
        if years + months / 12 + (weeks * 7 + days) / 365 > LONGEST_YEARS:
            raise ValueError(f"'{text}' is longer than {LONGEST_YEARS} years, which no date can be reckoned by")
        self.text = text
        self.calendar = relativedelta(years=years, months=months, weeks=weeks, days=days)
        self.clock = timedelta(hours=hours, minutes=minutes, seconds=seconds)

    @property
    def length(self) -> timedelta:
        """How long it is as a limit of time, which knows no calendar: months and years as from January of a common
        year. Moments are reckoned by `after` and `before`."""
        start = datetime(2001, 1, 1)
        return self.after(start) - start

    @property
    def seconds(self) -> int:
        """The length in seconds."""
        return self.length // timedelta(seconds=1)

    def after(self, moment: datetime) -> datetime:
        """Return the moment this long after `moment`."""
        return moment + self.calendar + self.clock

    def before(self, moment: datetime) -> datetime:
        """Return the moment this long before `moment`."""
        return moment - self.calendar - self.clock

    def __bool__(self) -> bool:
        return bool(self.calendar) or bool(self.clock)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Duration('{self.text}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and (self.calendar, self.clock) == (other.calendar, other.clock)

    def __hash__(self) -> int:
        return hash((self.calendar, self.clock))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def build(value: Any) -> Duration:
            return value if isinstance(value, Duration) else cls(str(value))

        return core_schema.no_info_plain_validator_function(
            build, serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="always")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> Any:
        return {"type": "string", "pattern": PATTERN, "examples": ["P1M", "P28D", "PT3H"]}
