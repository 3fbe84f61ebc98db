"""Online views: a FeatureService of the registry compiled into what a server reads rows by, without Feast."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

from feast import FeatureStore, FeatureView
from feast.errors import FeastObjectNotFoundException
from feast.utils import _get_feature_views_to_use

from millrace.core.errors import SpecError
from millrace.feast_stores.online_stores.rows import RowStore, table_of_view
from millrace.feast_stores.repo import APPLY
from millrace.online.keys import KeyType
from millrace.online.on_demand import OnDemandView
from millrace.online.stored import NO_ENTITY
from millrace.online.views import Feature, OnlineView


def online_views(store: FeatureStore, service: str, on_demand: Sequence[OnDemandView] = ()) -> tuple[OnlineView, ...]:
    """The views of a FeatureService, in its order, each with the features that the service takes of it and those that
    `on_demand` features, which a model brings, are made from. What the registry says of such features is not read.

    Raises SpecError for a service that is not there, and for what a server cannot serve without Feast.
    """
    where = f"FeatureService '{service}'"
    if not isinstance(store.provider.online_store, RowStore):
        raise SpecError(
            "rows of this online store are not read without Feast",
            where="feature_store.yaml",
            given=store.config.online_store.type,
            allowed="type: millrace.feast_stores.online_stores.addressed.EntityRowOnlineStore",
        )
    try:
        found = copy.copy(store.registry.get_feature_service(service, store.project))
        # Without what the registry has as bytes of code, which would be executed as it is read.
        computed = {each.name for each in store.registry.list_on_demand_feature_views(store.project, skip_udf=True)}
        found.feature_view_projections = [p for p in found.feature_view_projections if p.name not in computed]
        views, _ = _get_feature_views_to_use(store.registry, store.project, found, hide_dummy_entity=False)
    except FeastObjectNotFoundException as err:
        raise SpecError(f"the Feast registry lacks a part of it: {err}", where=where, next_step=APPLY) from err
    except ValueError as err:  # a view that is switched off, or of a version that is not there
        raise SpecError(f"the feature views cannot be served: {err}", where=where) from err
    compiled = _with_inputs(store, tuple(_compiled(store, view, where) for view in views), on_demand, where)
    counted = Counter(feature.name for view in compiled for feature in view.features)
    if twice := sorted(name for name, times in counted.items() if times > 1):
        raise SpecError(
            "two feature views of the service have a feature of the same name",
            where=where,
            given=", ".join(twice),
            next_step="Rename one of them in its view's source (field_mapping) or in the SQL",
        )
    return compiled


def _with_inputs(
    store: FeatureStore, views: tuple[OnlineView, ...], on_demand: Sequence[OnDemandView], where: str
) -> tuple[OnlineView, ...]:
    """The views, and features of them and of others that on-demand features are made from."""
    found = {view.name: view for view in views}
    for name in dict.fromkeys(each.view for view in on_demand for each in view.inputs):
        try:
            held = _compiled(store, store.registry.get_any_feature_view(name, store.project), where)
        except FeastObjectNotFoundException as err:
            raise SpecError(f"the Feast registry lacks a part of it: {err}", where=where, next_step=APPLY) from err
        there = {feature.name: feature for feature in held.features}
        wanted = {each.name: each for view in on_demand for each in view.inputs if each.view == name}
        for each in wanted.values():
            if each.name not in there or there[each.name].type != each.type:
                raise SpecError("on-demand features are made from a feature that the registry does not have so",
                                where=where, given=f"{name}:{each.name} {each.type}",
                                allowed=[f"{f.name} {f.type}" for f in held.features], next_step=APPLY)  # fmt: skip
        taken = found[name].features if name in found else ()
        more = [there[each] for each in wanted if each not in {feature.name for feature in taken}]
        found[name] = found.get(name, held).model_copy(update={"features": (*taken, *more)})
    return tuple(found.values())


def _compiled(store: FeatureStore, view: FeatureView, where: str) -> OnlineView:
    if not view.online:
        raise SpecError(
            "a feature view is not kept online", where=where, given=view.name, next_step="Set online=True in the view"
        )
    projection = view.projection
    types = {field.name: field.dtype.to_value_type().name for field in view.entity_columns if field.name != NO_ENTITY}
    for name, kind in types.items():
        if kind not in get_args(KeyType):
            raise SpecError(
                f"feature view '{view.name}': a join key of this type cannot be served",
                where=where,
                given=f"{name}: {kind}",
                allowed=get_args(KeyType),
            )
    features = tuple(
        Feature(name=field.name, source=field.name, type=field.dtype.to_value_type().name)
        for field in projection.features
    )
    if not features:
        raise SpecError("the service takes no feature of a view", where=where, given=view.name)
    ttl: Any = view.ttl
    return OnlineView(
        name=projection.name_to_use(),
        table=table_of_view(store.config, view),
        join_keys={name: projection.join_key_map.get(name, name) for name in types},
        types=types,
        features=features,
        ttl_s=ttl.total_seconds() if ttl else None,
    )
