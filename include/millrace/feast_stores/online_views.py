"""Online views: a FeatureService of the registry compiled into what a server reads rows by, without Feast."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

from feast import FeatureStore, FeatureView
from feast.errors import FeastObjectNotFoundException
from feast.utils import _get_feature_views_to_use

from millrace.core.errors import SpecError
from millrace.feast_stores.online_stores.rows import RowStore, table_of_view
from millrace.feast_stores.repo import APPLY
from millrace.online.keys import KeyType
from millrace.online.stored import NO_ENTITY
from millrace.online.views import Feature, OnlineView


def online_views(store: FeatureStore, service: str) -> tuple[OnlineView, ...]:
    """The views of a FeatureService, in its order, each with the features that the service takes of it.

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
        found = store.registry.get_feature_service(service, store.project)
        views, on_demand = _get_feature_views_to_use(store.registry, store.project, found, hide_dummy_entity=False)
    except FeastObjectNotFoundException as err:
        raise SpecError(f"the Feast registry lacks a part of it: {err}", where=where, next_step=APPLY) from err
    except ValueError as err:  # a view that is switched off, or of a version that is not there
        raise SpecError(f"the feature views cannot be served: {err}", where=where) from err
    if on_demand:
        raise SpecError(
            "on-demand feature views are computed by Feast, which a server does not have",
            where=where,
            given=", ".join(view.name for view in on_demand),
            next_step="Compute these features in transform.sql, or take them out of the FeatureService that is served",
        )
    compiled = tuple(_compiled(store, view, where) for view in views)
    counted = Counter(feature.name for view in compiled for feature in view.features)
    if twice := sorted(name for name, times in counted.items() if times > 1):
        raise SpecError(
            "two feature views of the service have a feature of the same name",
            where=where,
            given=", ".join(twice),
            next_step="Rename one of them in its view's source (field_mapping) or in the SQL",
        )
    return compiled


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
