"""Features of __NAME__."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64, String

visit = Entity(name="__NAME___visit", join_keys=["visit_id"], value_type=ValueType.STRING)

source = FileSource(
    name="__NAME___features",
    path="millrace://__NAME__/features",
    timestamp_field="event_timestamp",
)

visit_features = FeatureView(
    name="__NAME___visit_features",
    entities=[visit],
    ttl=timedelta(days=90),  # how long a row is served; timedelta(0): for ever, where an entity comes once only
    schema=[
        Field(name="visit_id", dtype=String),
        Field(name="region", dtype=String),
        Field(name="pages", dtype=Int64),
        Field(name="minutes", dtype=Float64),
        Field(name="hour_of_day", dtype=Int64),
    ],
    source=source,
)

service = FeatureService(name="__NAME__", features=[visit_features])
