"""Durations as ISO 8601 writes them: `P1M`, `P28D`, `PT3H`, `P1DT12H`."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from dateutil.relativedelta import relativedelta
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

PATTERN = r"^P(?=.)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$"


class Duration:
    """A calendar duration. Months and years keep their meaning: adding `P1M` to January gives February."""

    def __init__(self, text: str) -> None:
        match = re.match(PATTERN, text)
        if not match:
            raise ValueError(f"'{text}' is not a duration; write ISO 8601 such as P1M, P28D or PT3H")
        years, months, weeks, days, hours, minutes, seconds = (int(g or 0) for g in match.groups())
        self.text = text
        self.delta = relativedelta(
            years=years, months=months, weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds
        )

    def after(self, moment: datetime) -> datetime:
        """Return the moment this long after `moment`."""
        return moment + self.delta

    def before(self, moment: datetime) -> datetime:
        """Return the moment this long before `moment`."""
        return moment - self.delta

    def __bool__(self) -> bool:
        return bool(self.delta)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Duration('{self.text}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and self.delta == other.delta

    def __hash__(self) -> int:
        return hash(self.delta)

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
