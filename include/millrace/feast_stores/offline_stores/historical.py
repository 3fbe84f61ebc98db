"""Historical features: from what Feast asks to the point-in-time join of its feature views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView
from feast.errors import FeastEntityDFMissingColumnsError
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import (
    DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL,
    infer_event_timestamp_from_entity_df,
)
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from feast.utils import compute_non_entity_date_range

from millrace.core.errors import SpecError
from millrace.feast_stores.offline_stores import asof
from millrace.feast_stores.offline_stores.retrieval import DuckDBRetrievalJob
from millrace.feast_stores.offline_stores.scan import Scan, Tables, scan
from millrace.online.stored import NO_ENTITY
from millrace.sql.duck import Limits, connection, name

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Question:
    """What Feast asks of `get_historical_features`, beside the entity rows."""

    config: RepoConfig
    views: Sequence[FeatureView]
    refs: Sequence[str]
    registry: BaseRegistry
    project: str
    full_names: bool
    known_only: bool
    tables: Tables
    limits: Limits

    @property
    def repo(self) -> Path:
        """The feature repository, from which relative paths count."""
        return Path(self.config.repo_path or ".")

    def columns(self, view: FeatureView) -> dict[str, str]:
        """Name in the result -> feature, of the features that are asked of a view, in their order."""
        asked = [ref.split(":")[1] for ref in self.refs if ref.startswith(f"{view.projection.name_to_use()}:")]
        prefix = f"{view.projection.name_alias or view.name}__" if self.full_names else ""
        return {prefix + feature: feature for feature in asked}


def retrieve(
    question: Question, entity_df: pd.DataFrame | str | None, start: datetime | None, end: datetime | None
) -> RetrievalJob:
    """The job of a point-in-time join; entity rows given as SQL, or left out, are read when it is made.

    Raises SpecError for what this store cannot do, with what it can.
    """
    on_demand = OnDemandFeatureView.get_requested_odfvs(list(question.refs), question.project, question.registry)
    if substrait := [view.name for view in on_demand if view.mode == "substrait"]:
        raise SpecError(
            "an on-demand feature view in mode substrait needs ibis", given=", ".join(substrait),
            allowed=["python", "pandas"], next_step="Write the transformation in another mode",
        )  # fmt: skip
    if isinstance(entity_df, pd.DataFrame):
        rows = _from_frame(entity_df)
    elif entity_df is None:
        rows = _between(question, start, end)
    else:
        rows = _from_sql(question, entity_df)
    event = infer_event_timestamp_from_entity_df(_numpy_types(rows))
    asked = _asked(rows, event)
    _check_columns(question, rows.column_names, event)
    moments = pc.min_max(asked[asof.MOMENT]).as_py()
    window = (moments["min"], moments["max"])

    def prepare(opened: duckdb.DuckDBPyConnection) -> str:
        opened.register("asked", asked)
        views = [_view(question, opened, view, window) for view in question.views]
        return asof.join(opened, views, rows.column_names, known_only=question.known_only)

    return DuckDBRetrievalJob(
        prepare,
        question.limits,
        question.repo,
        metadata=RetrievalMetadata(
            features=list(question.refs),
            keys=[column for column in rows.column_names if column != event],
            min_event_timestamp=window[0],
            max_event_timestamp=window[1],
        ),
        full_feature_names=question.full_names,
        on_demand=on_demand,
    )


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 of an aware moment."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _view(
    question: Question,
    opened: duckdb.DuckDBPyConnection,
    view: FeatureView,
    window: tuple[datetime | None, datetime | None],
) -> asof.View:
    source, ttl = view.batch_source, view.ttl or None
    if source is None:
        raise SpecError("a feature view without a batch source has no history", given=view.name)
    first, last = window
    begin = first - ttl if first is not None and ttl else None
    held = scan(opened, source, question.repo, question.tables, (begin, last))
    mapping = source.field_mapping
    created = source.created_timestamp_column
    return asof.View(
        scan=held,
        keys=[(mine, held.column(theirs, mapping)) for theirs, mine in _keys(view).items()],
        event=held.column(source.timestamp_field or "", mapping),
        created=held.column(created, mapping) if created else None,
        features=[(out, held.column(feature, mapping)) for out, feature in question.columns(view).items()],
        ttl=ttl,
    )


def _keys(view: FeatureView) -> dict[str, str]:
    """Join key of the view -> column of the entity rows."""
    mapping = view.projection.join_key_map
    keys = [column.name for column in view.entity_columns if column.name != NO_ENTITY]
    return {key: mapping.get(key, key) for key in keys}


def _check_columns(question: Question, columns: Sequence[str], event: str) -> None:
    wanted = {mine for view in question.views for mine in _keys(view).values()}
    if missing := wanted - set(columns):
        raise FeastEntityDFMissingColumnsError(wanted | {event}, missing)
    made = [out for view in question.views for out in question.columns(view)]
    if twice := sorted({out for out in made if out in columns or made.count(out) > 1}):
        raise SpecError(
            "a feature has the name of another column of the result", given=", ".join(twice),
            next_step="Ask for full_feature_names, or rename the column of the entity rows",
        )  # fmt: skip


def _from_frame(frame: pd.DataFrame) -> pa.Table:
    try:
        return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as err:
        raise SpecError("a column of the entity rows holds values of several types") from err


def _from_sql(question: Question, sql: str) -> pa.Table:
    """Rows of a query in DuckDB's SQL, which sees the registry's data sources as tables."""
    with connection(question.limits) as opened:
        sources = {source.name: source for source in question.registry.list_data_sources(question.project)}
        try:
            used = opened.get_table_names(sql)
            for found in sorted(used & sources.keys()):
                held = scan(opened, sources[found], question.repo, question.tables)
                opened.execute(f"CREATE TEMP VIEW {name(found)} AS SELECT * FROM {held.sql}")
            return opened.sql(sql).to_arrow_table()
        except (duckdb.CatalogException, duckdb.BinderException) as err:
            raise SpecError(
                "the SQL of the entity rows does not run", given=str(err).splitlines()[0], allowed=sorted(sources)
            ) from err


def _between(question: Question, start: datetime | None, end: datetime | None) -> pa.Table:
    """Every entity and event time that the views hold between two dates, both included, once and in order."""
    if len({tuple(sorted(_keys(view).values())) for view in question.views}) != 1:
        raise SpecError(
            "without entity rows, all feature views must have the same join keys",
            given=", ".join(view.name for view in question.views),
            next_step="Give entity rows",
        )
    first, last = compute_non_entity_date_range(list(question.views), start_date=start, end_date=end)
    mine = list(_keys(question.views[0]).values())
    selects = []
    with connection(question.limits) as opened:
        for view in question.views:
            made = _view(question, opened, view, (first, last))
            held: Scan = made.scan
            columns = [f"{held.value(theirs)} AS {name(key)}" for key, theirs in made.keys]
            moment = held.moment(made.event)
            kept = [
                f"{moment} BETWEEN make_timestamptz({microseconds(first)}) AND make_timestamptz({microseconds(last)})"
            ]
            kept += [f"{held.value(theirs)} IS NOT NULL" for _, theirs in made.keys]
            selects.append(
                f"SELECT {', '.join([*columns, f'{moment} AS {DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL}'])} "
                f"FROM {held.sql} AS s WHERE {' AND '.join(kept)}"
            )
        order = ", ".join([DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL, *map(name, mine)])
        return opened.sql(f"{' UNION BY NAME '.join(selects)} ORDER BY {order}").to_arrow_table()


def _asked(rows: pa.Table, event: str) -> pa.Table:
    """The entity rows with their number, and their moment in whole microseconds of UTC, rounded down."""
    given = rows[event]
    if pa.types.is_string(given.type) or pa.types.is_large_string(given.type):
        given = pa.chunked_array([pa.array(pd.to_datetime(given.to_pandas(), utc=True))])
    elif pa.types.is_date(given.type):
        given = given.cast(pa.timestamp("us"))
    if not pa.types.is_timestamp(given.type):
        raise SpecError("the event time of the entity rows is no timestamp", given=f"{event}: {given.type}")
    zoned = given if given.type.tz is not None else pc.assume_timezone(given, "UTC")
    utc = zoned.cast(pa.timestamp(given.type.unit, "UTC"))
    moment = pc.floor_temporal(utc, unit="microsecond").cast(pa.timestamp("us", "UTC"))
    table = rows.set_column(rows.column_names.index(event), event, utc)
    table = table.append_column(asof.MOMENT, moment)
    return table.append_column(asof.ROW, pa.array(range(rows.num_rows), pa.int64()))


def _numpy_types(rows: pa.Table) -> dict[str, Any]:
    return {field.name: field.type.to_pandas_dtype() for field in rows.schema}
