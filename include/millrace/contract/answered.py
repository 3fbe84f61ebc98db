"""Answered: one line of the prediction log, written by servers and read by jobs. One record is one request's answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["champion", "challenger", "shadow", "former", "constant"]
Found = Literal["given", "found", "stale", "unknown"]
"""Where a row's features come from: the request; the online store, fresh; or not there, and replaced by defaults."""


class Answered(BaseModel):
    """What was answered, by whom, and on which features. Lists have an item for each row of the request, in order.

    Unknown fields are those of a newer server.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(description="Request id; the caller's own where it gave one. Those of a shadow have it too.")
    at: int = Field(description="When it was asked: microseconds since 1970, UTC.")
    ms: float = Field(description="From the request's last byte to its answer, milliseconds.")
    pipeline: str
    version: int | None = Field(default=None, description="ModelVersion that answered; null: the constant.")
    model: str | None = Field(default=None, description="Digest of its model.")
    role: Role
    generation: int = Field(description="Of the traffic plan.")
    unit: str | None = Field(default=None, description="Name of the unit, as `rules.traffic.name` makes it.")
    caller: str = Field(default="", description="Who asked, as the server authenticated it.")
    entities: list[dict[str, Any]] | None = Field(default=None, description="Join keys; null where rows were given.")
    times: list[dict[str, int | None]] | None = Field(
        default=None, description="Feature view -> event time of what was read, microseconds since 1970, UTC."
    )
    found: list[Found] = Field(default_factory=list)
    columns: list[str] | None = Field(default=None, description="Features that are kept; null: none of this request.")
    rows: list[list[Any]] | None = Field(default=None, description="Their values as the model was given them.")
    predictions: list[Any] = Field(
        description="A number, of a multiclass model one for each class; null: the row had no answer."
    )
    server: str = Field(default="", description="Which server process answered.")
