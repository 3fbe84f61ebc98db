"""materialize: write the latest row per entity of one features Snapshot to the online store."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Outcome
from millrace.jobs.work import Work


class Params(BaseModel):
    """Which revision of the partition the Snapshot is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: int = Field(
        default=0, ge=0, description="Generation of the Table's pointer: of rows with equal times the later one stays."
    )


def run(work: Work, params: Params) -> Outcome:
    """Write exactly the rows of the input `data`, whatever window of time they span, to every view of the Table.

    Goes through Feast's provider, so that any online store of Feast's may stand in feature_store.yaml, and past
    Feast's materialisation intervals, which lose updates. Running again changes nothing.
    """
    from millrace.feast_stores import materialize
    from millrace.feast_stores.repo import open_feature_store, views_of_table

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
        newest = materialize.latest_rows(view, data)
        materialize.write(store, view, newest, params.revision)
        written[view.name] = newest.num_rows
    entities = data.group_by(list(spec.features.entity)).aggregate([]).num_rows
    return Outcome(facts={"partition": work.partition, "rows": data.num_rows, "entities": entities, "views": written})
