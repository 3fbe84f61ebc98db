"""DuckDBEngine: Feast's materialisation with the latest row per entity found in DuckDB and written by columns."""

from __future__ import annotations

from typing import Any, Literal

from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from feast.utils import _get_column_names

from millrace.feast_stores.online_stores.rows import RowStore


class DuckDBEngineConfig(FeastConfigBaseModel):
    """`batch_engine` in feature_store.yaml."""

    type: Literal["millrace.feast_stores.engine.DuckDBEngine"] = "millrace.feast_stores.engine.DuckDBEngine"


class DuckDBEngine(LocalComputeEngine):
    """Behind `feast materialize`. Views with a transformation or aggregations go Feast's own way, row by row."""

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> LocalMaterializationJob:
        view = task.feature_view
        own_way = getattr(view, "feature_transformation", None) or getattr(view, "aggregations", None)
        if own_way or task.disable_event_timestamp or not isinstance(self.online_store, RowStore):
            return super()._materialize_one(registry, task, **kwargs)
        job_id = f"{view.name}-{task.start_time}-{task.end_time}"
        try:
            entities = [registry.get_entity(name, task.project) for name in view.entities]
            keys, features, event, created = _get_column_names(view, entities)
            found = self.offline_store.pull_latest_from_table_or_query(
                config=self.repo_config,
                data_source=view.batch_source,
                join_key_columns=keys,
                feature_name_columns=features,
                timestamp_field=event,
                created_timestamp_column=created,
                start_date=task.start_time,
                end_date=task.end_time,
            )
            rows = self.online_store.write_table(self.repo_config, view, found.to_arrow())
        except Exception as err:
            return LocalMaterializationJob(job_id=job_id, status=MaterializationJobStatus.ERROR, error=err)
        if task.tqdm_builder:
            with task.tqdm_builder(rows) as progress:
                progress.update(rows)
        return LocalMaterializationJob(job_id=job_id, status=MaterializationJobStatus.SUCCEEDED)
