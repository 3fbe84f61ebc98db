"""Models as files: weights in a format that holds no code, and `model.json`, written last, which says what they are.

The digest of model.json is the model's identity; model.json holds the weights' digest. Nothing in it tells when or
where it was made, so the same training gives the same model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from millrace.contract import CONTRACT_VERSION, Artifact, Classification, Means
from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import Corrupt, DataError, NotFound
from millrace.models.classes import Classes
from millrace.models.encoding import Encoder
from millrace.models.formats import check_weights
from millrace.models.holdout import Holdout
from millrace.models.metrics import Floats
from millrace.models.protocol import Code, Engine, Predictor, Settings, engine_of, permit_code
from millrace.online.on_demand import OnDemandView
from millrace.rules.labels import Task
from millrace.spec import PipelineSpec
from millrace.spec.learner import KINDS
from millrace.store import ObjectStore, layout
from millrace.store.layout import CARD, REFERENCE

if TYPE_CHECKING:
    import pyarrow as pa

_FILE = r"^[a-z][a-z0-9_]*\.(ubj|safetensors|onnx)$"


class WeightsFile(BaseModel):
    """The file beside model.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Annotated[str, Field(pattern=_FILE)]
    digest: str
    media_type: str


class Card(BaseModel):
    """What model.json says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contract: str = CONTRACT_VERSION
    pipeline: str
    learner: dict[str, Any] = Field(description="Kind and parameters.")
    code: str | None = Field(default=None, description="Text of trainer.py that it was trained with and predicts by.")
    on_demand: tuple[OnDemandView, ...] = Field(
        default=(), exclude_if=lambda views: not views,
        description="Functions that made on-demand features of its training set, and make those that it predicts by.",
    )  # fmt: skip
    task: Task
    label: str
    classes: Classes = Field(default=(), description="Classes of a multiclass label, in the order of probabilities.")
    encoder: Encoder = Field(description="The features in order, with types and categories.")
    entity: tuple[str, ...]
    event_time: str
    feature_service: str
    partitions: tuple[str, ...] = Field(description="What it was trained on, held out blocks included.")
    holdout: Holdout
    half_life: float | None = Field(
        default=None, description="Partitions after which a training row counted half; None: all counted alike."
    )
    training_set: str
    embedding: str | None = Field(default=None, description="Digest of the embedding that its features come from.")
    spec_digest: str
    seed: int
    threads: int
    weights: WeightsFile
    reference: str | None = Field(default=None, description="Digest of reference.json, the sketch drift is judged by.")

    @property
    def digest(self) -> str:
        """The model's identity."""
        return digest(self)


@dataclass(frozen=True)
class Model:
    """A loaded model."""

    card: Card
    digest: str
    data: bytes
    params: BaseModel
    engine: Engine

    def predict(self, table: pa.Table) -> Floats:
        """Predict the rows of a table, shape (rows,), of a multiclass model (rows, classes).

        Raises DataError naming a feature that is missing or changed.
        """
        if table.num_rows == 0:
            raise DataError("no rows to predict")
        return self.predictor(self.card.encoder.encode(table))

    @cached_property
    def predictor(self) -> Predictor:
        """What predicts encoded rows; the weights are read at the first use and kept."""
        card = self.card
        settings = Settings(card.task, card.seed, card.threads, len(card.classes))
        return self.engine.predictor(self.data, card.encoder.columns, self.params, settings)


def save(
    objects: ObjectStore,
    card: Card,
    weights: bytes,
    classification: Classification = "internal",
    reference: bytes | None = None,
) -> Artifact:
    """Store a model; the same model twice is stored once. Raises DataError for weights of another format."""
    check_weights(card.weights.file, weights)
    if digest(weights) != card.weights.digest:
        raise Corrupt("the weights are not those that the card names", given=card.weights.digest)
    prefix = layout.model(card.pipeline, card.digest)
    if not objects.exists(prefix + CARD):
        objects.put(prefix + card.weights.file, weights)
        if reference is not None:
            objects.put(prefix + REFERENCE, reference)
        objects.put(prefix + CARD, canonical_json(card))
    return Artifact(
        uri=prefix,
        digest=card.digest,
        kind="model",
        media_type=card.weights.media_type,
        classification=classification,
    )


def load(objects: ObjectStore, prefix: str, model: str, means: Means | None = None) -> Model:
    """Load a model after both digests agree. Raises NotFound, Corrupt, or DataError for weights that could hold code.

    The engine comes from the learner's spec model as installed here; the files cannot name code to run. Only a model of
    the learner `custom`, or one with on-demand features, brings its own code, in model.json, which has the model's
    digest; `means` say whether it may be executed here, and without them it may not: raises ContractError.
    """
    prefix = prefix.rstrip("/") + "/"
    card = read_card(objects, prefix, model)
    try:
        params: BaseModel = KINDS.resolve(str(card.learner.get("kind"))).model_validate(card.learner)
    except ValidationError as err:
        raise _unreadable(err, objects.url(prefix + CARD)) from err
    except PydanticCustomError as err:
        raise DataError(
            f"the model's learner is not installed here: {err}",
            where=objects.url(prefix + CARD),
            next_step="Install the package that brings this learner",
        ) from err
    data = objects.get(prefix + card.weights.file)
    if digest(data) != card.weights.digest:
        raise Corrupt("the weights do not have their digest", where=objects.url(prefix + card.weights.file))
    check_weights(card.weights.file, data)
    code = None
    if card.on_demand:
        permit_code(means or Means(), "the functions of the model's on-demand features")
    if card.code is not None:
        permit_code(means or Means())
        code = Code(card.code, f"trainer.py of model {model.removeprefix('sha256:')[:12]}")
    return Model(card, model, data, params, engine_of(params, code))


def read_card(objects: ObjectStore, prefix: str, model: str) -> Card:
    """What a model's model.json says. Raises NotFound, Corrupt, or DataError where it is none."""
    prefix = prefix.rstrip("/") + "/"
    try:
        text = objects.get(prefix + CARD)
    except NotFound as err:
        raise NotFound("no such model (no model.json)", where=objects.root, given=prefix) from err
    if digest(text) != model:
        raise Corrupt("model.json does not have the model's digest", where=objects.url(prefix + CARD), given=model)
    try:
        return Card.model_validate_json(text)
    except ValidationError as err:
        raise _unreadable(err, objects.url(prefix + CARD)) from err


def _unreadable(err: ValidationError, where: str) -> DataError:
    problem = err.errors()[0]
    loc = ".".join(str(part) for part in problem["loc"])
    return DataError(f"model.json cannot be read: {loc}: {problem['msg']}", where=where)


def load_reference(objects: ObjectStore, prefix: str, model: str) -> bytes | None:
    """The sketch of a model's reference, None where the model has none. Raises NotFound, Corrupt."""
    prefix = prefix.rstrip("/") + "/"
    text = objects.get(prefix + CARD)
    if digest(text) != model:
        raise Corrupt("model.json does not have the model's digest", where=objects.url(prefix + CARD), given=model)
    if (wanted := json.loads(text).get("reference")) is None:
        return None
    data = objects.get(prefix + REFERENCE)
    if digest(data) != wanted:
        raise Corrupt("the sketch does not have its digest", where=objects.url(prefix + REFERENCE), given=wanted)
    return data


def classification_of(spec: PipelineSpec, columns: list[str]) -> Classification:
    """The strongest classification among columns: that of what is made from them."""
    order: tuple[Classification, ...] = ("public", "internal", "personal")
    return max((spec.classification(c) for c in columns), key=order.index, default="internal")
