"""Champions: a copy of who is champion, for pods and servers, which never reach the ledger.

The ledger decides; a copy follows it by compare-and-set and never goes back in generation, in whatever order those who
promoted come to write it.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.contract import Artifact
from millrace.core.canonical import canonical_json
from millrace.core.errors import Conflict, Corrupt, NotFound
from millrace.store import layout
from millrace.store.interface import ObjectStore

ATTEMPTS = 50


class ChampionCopy(BaseModel):
    """What the ledger says of a pipeline's champion. Unknown fields are those of a newer writer."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pipeline: str
    generation: int = Field(ge=1, description="Counts the promotions, from 1.")
    version: int
    model: Artifact
    evidence: Artifact
    since: datetime = Field(description="When it was promoted, UTC.")


class Champions:
    """One object per pipeline in an ObjectStore."""

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects

    def get(self, pipeline: str) -> ChampionCopy | None:
        """The champion, None before the first promotion. Raises Corrupt where the object cannot be read."""
        return self._read(pipeline)[0]

    def follow(self, champion: ChampionCopy) -> ChampionCopy:
        """Write a champion unless one of a later generation stands; returns the one that stands then."""
        for _ in range(ATTEMPTS):
            stands, version = self._read(champion.pipeline)
            if stands is not None and stands.generation >= champion.generation:
                return stands
            try:
                self.objects.put_if(layout.champion(champion.pipeline), canonical_json(champion), version)
            except Conflict:
                continue
            return champion
        raise Conflict(f"the champion kept changing for {ATTEMPTS} attempts", given=champion.pipeline)

    def _read(self, pipeline: str) -> tuple[ChampionCopy | None, str | None]:
        try:
            data, version = self.objects.get_versioned(layout.champion(pipeline))
        except NotFound:
            return None, None
        try:
            return ChampionCopy.model_validate_json(data), version
        except ValidationError as err:
            raise Corrupt("the champion cannot be read", where=self.objects.url(layout.champion(pipeline))) from err
