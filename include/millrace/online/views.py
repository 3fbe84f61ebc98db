"""What a server needs to know of a FeatureService, as plain JSON: compiled where Feast is, read where it is not."""

from __future__ import annotations

from functools import cached_property
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from millrace.online.decode import RowDecoder
from millrace.online.keys import KeyEncoder, KeyType


class Feature(BaseModel):
    """A feature that is served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="As the FeatureService and the model call it.")
    source: str = Field(description="As the stored row calls it.")
    type: str = Field(description="Feast's value type, such as INT64.")


class OnlineView(BaseModel):
    """A feature view as one FeatureService uses it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="As the FeatureService calls it.")
    table: str = Field(description="Table or hash of the online store that holds its rows.")
    join_keys: dict[str, str] = Field(description="Join key of the view -> its name in a request; none: no entities.")
    types: dict[str, KeyType] = Field(description="Join key of the view -> Feast's value type.")
    features: tuple[Feature, ...] = Field(min_length=1)
    ttl_s: float | None = Field(default=None, gt=0, description="Seconds after which a row is stale; null: never.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.join_keys.keys() != self.types.keys():
            raise ValueError("join_keys and types must name the same join keys")
        for names in ([f.name for f in self.features], [f.source for f in self.features]):
            if len(set(names)) != len(names):
                raise ValueError("a feature stands twice")
        return self

    @cached_property
    def keys(self) -> KeyEncoder:
        """What makes the keys of its entities."""
        return KeyEncoder({name: (asked, self.types[name]) for name, asked in self.join_keys.items()})

    @cached_property
    def rows(self) -> RowDecoder:
        """What reads its rows."""
        return RowDecoder({feature.source: feature.name for feature in self.features})
