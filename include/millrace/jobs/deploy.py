"""deploy: say in one document what a server needs to answer with a version; and for the champion where it has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Artifact, Input, Outcome
from millrace.core.errors import ContractError, DataError
from millrace.jobs.work import Work
from millrace.models.deployment import BINS, FILE, KIND, Deployment
from millrace.models.metrics import usable
from millrace.models.on_demand import with_on_demand

if TYPE_CHECKING:
    import pyarrow as pa

    from millrace.models.files import Model
    from millrace.online.on_demand import OnDemandView
    from millrace.online.views import OnlineView

ROLES = ("model", "champion")


class Params(BaseModel):
    """Which ModelVersions the models are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    versions: dict[str, int] = Field(description="Role of the input, `model` or `champion` -> MLflow's number.")


def run(work: Work, params: Params) -> Outcome:
    """Write a deployment for each model that is given, by the registry as it is now: the same bytes at every run while
    that stays as it is. The inner deciles are of the model's own predictions on the partition in scope.

    Raises ContractError for a model of another pipeline, SpecError for features that cannot be served without Feast.
    """
    from millrace.feast_stores.online_views import online_views
    from millrace.feast_stores.repo import open_feature_store

    store = open_feature_store(
        work.bundle.feature_store,
        registry=work.service("registry"),
        online=work.service("online"),
        store=work.request.place.store,
    )
    views: dict[tuple[str, tuple[OnDemandView, ...]], tuple[OnlineView, ...]] = {}
    rows = work.read(work.request.input("features"))
    outputs, facts = {}, {}
    for item in work.request.identity.inputs:
        if item.role not in ROLES:
            continue
        model = work.model(item.role)
        asked = model.card.feature_service, model.card.on_demand
        if asked not in views:
            views[asked] = online_views(store, *asked)
        outputs[item.role] = _kept(work, item, model, params.versions[item.role], views[asked], rows)
        facts[item.role] = {"version": params.versions[item.role], "model": model.digest}
    return Outcome(outputs=outputs, facts={"deployed": facts})


def _kept(
    work: Work, item: Input, model: Model, version: int, views: tuple[OnlineView, ...], rows: pa.Table
) -> Artifact:
    card, spec = model.card, work.spec
    if card.pipeline != spec.name:
        raise ContractError("the model belongs to another pipeline", given=card.pipeline, allowed=[spec.name])
    taken = [feature.name for feature in card.encoder.features]
    served = {feature.name for view in views for feature in view.features}
    served |= {feature.name for view in card.on_demand for feature in view.features}
    if missing := [name for name in taken if name not in served]:
        raise DataError(
            f"the FeatureService '{card.feature_service}' has no feature '{missing[0]}', which version {version} takes",
            where=spec.name,
            allowed=sorted(served),
            next_step="Run 'millrace apply', or train another version",
        )
    made = Deployment(
        pipeline=spec.name,
        version=version,
        model=Artifact(uri=work.request.key(item), digest=item.digest, kind=item.kind),
        views=views,
        on_demand=card.on_demand,
        entity=card.entity,
        bins=_deciles(model, rows),
        code=card.code is not None or bool(card.on_demand),
    )
    return work.put("deployments", FILE, made.to_bytes(), KIND, "application/json")


def _deciles(model: Model, rows: pa.Table) -> tuple[float, ...]:
    """Inner deciles of a model's predictions; none where classes are the bins."""
    import numpy as np

    if model.card.task == "multiclass":
        return ()
    predicted: Any = model.predict(with_on_demand(rows, model.card.on_demand))
    known = predicted[usable(predicted)]
    if not len(known):
        raise DataError("the model predicts no number for any row of the newest partition", where=model.card.pipeline)
    return tuple(float(each) for each in np.quantile(known, [n / BINS for n in range(1, BINS)]))
