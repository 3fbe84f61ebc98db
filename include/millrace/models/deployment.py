"""Deployment: the document that says all that a server needs to answer with a ModelVersion, without Feast or Airflow.

A job writes it where Feast is. Its digest is in the traffic plan, so that what was decided on is what answers.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.contract import Artifact
from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import Corrupt
from millrace.online.on_demand import OnDemandView
from millrace.online.views import OnlineView
from millrace.store.interface import ObjectStore

KIND = "deployment"
FILE = "deployment.json"
BINS = 10
"""Into how many parts a version's predictions are put when they are compared with another's."""


class Deployment(BaseModel):
    """What a version needs to answer."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pipeline: str
    version: int
    model: Artifact
    views: tuple[OnlineView, ...] = Field(description="Where its features are read; none: rows alone are answered.")
    on_demand: tuple[OnDemandView, ...] = Field(
        default=(), exclude_if=lambda views: not views,
        description="Functions of the model's on-demand features, as its model.json has them.",
    )  # fmt: skip
    entity: tuple[str, ...] = Field(description="Join keys, as a request names them.")
    bins: tuple[float, ...] = Field(
        default=(), description="Inner deciles of its predictions on a recent partition; none where classes are bins."
    )
    code: bool = Field(default=False, description="It executes code of the pipeline: trainer.py, or `on_demand`.")

    @property
    def digest(self) -> str:
        """Its identity."""
        return digest(self)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(self)


def load_deployment(objects: ObjectStore, stored: Artifact) -> Deployment:
    """Read a deployment whose digest agrees. Raises NotFound, Corrupt."""
    data = objects.get(stored.uri)
    if digest(data) != stored.digest:
        raise Corrupt("a deployment does not have its digest", where=objects.url(stored.uri), given=stored.digest)
    try:
        return Deployment.model_validate_json(data)
    except ValidationError as err:
        raise Corrupt("a deployment cannot be read", where=objects.url(stored.uri)) from err
