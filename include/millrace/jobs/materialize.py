"""materialize: write the latest row per entity of one features Snapshot to the online store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from millrace.contract import Outcome
from millrace.errors import DataError
from millrace.jobs.work import Work

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureView

REACHES: tuple[str, ...] = ("registry", "online")
REUSABLE = False  # the online store may have been emptied or replaced; writing again is the point of a replay

BATCH = 10_000
"""Rows per write, one transaction each."""


class Params(BaseModel):
    """Nothing to choose: the Snapshot says what is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def run(work: Work, params: Params) -> Outcome:
    """Write exactly the rows of the input `data`, whatever window of time they span, to every view of the Table.

    Goes through Feast's provider, so that any online store of Feast's may stand in feature_store.yaml, and past
    Feast's materialisation intervals, which lose updates. Running again changes nothing.
    """
    from millrace.feast_stores.repo import open_feature_store, views_of_table
    from millrace.feast_stores.rows import latest, to_rows

    spec, bundle = work.spec, work.bundle
    data = work.read(work.request.input("data"))
    store = open_feature_store(
        bundle.feature_store,
        registry=work.service("registry"),
        online=work.service("online"),
        store=work.request.place.store,
    )
    views = views_of_table(store, f"{spec.name}/features", bundle.features, f"feature_repo/{spec.name}.py")
    written: dict[str, int] = {}
    for view in views:
        source = view.batch_source
        keys = _keys(view, data)
        newest = latest(data, keys, source.timestamp_field, source.created_timestamp_column or None)
        for batch in newest.to_batches(max_chunksize=BATCH):
            store.provider.online_write_batch(store.config, view, to_rows(newest.from_batches([batch]), view), None)
        written[view.name] = newest.num_rows
    entities = data.group_by(list(spec.features.entity)).aggregate([]).num_rows
    return Outcome(facts={"partition": work.partition, "rows": data.num_rows, "entities": entities, "views": written})


def _keys(view: FeatureView, data: pa.Table) -> list[str]:
    """Columns of the data that hold the view's join keys. Raises DataError for columns the Snapshot lacks."""
    source = view.batch_source
    inverse = {new: old for old, new in source.field_mapping.items()}
    keys = [inverse.get(column.name, column.name) for column in view.entity_columns]
    times = [source.timestamp_field, *filter(None, [source.created_timestamp_column])]
    needed = [*keys, *(inverse.get(f.name, f.name) for f in view.features), *times]
    if lacking := [name for name in needed if name not in data.column_names]:
        raise DataError(
            f"feature view '{view.name}' needs columns that transform.sql did not make",
            given=", ".join(lacking),
            allowed=data.column_names,
            next_step="Make them in transform.sql, or take them out of the feature view",
        )
    return keys
