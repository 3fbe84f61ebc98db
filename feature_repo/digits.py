"""Features of digits: what is measured of an image, and where the embedding puts it."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, String

image = Entity(name="image", join_keys=["image"], value_type=ValueType.STRING)

digits_source = FileSource(
    name="digits_features",
    path="millrace://digits/features",
    timestamp_field="event_timestamp",
)

image_features = FeatureView(
    name="image_features",
    description="What is measured of an image, and its principal components.",
    entities=[image],
    ttl=timedelta(days=1),
    schema=[
        Field(name="image", dtype=String),
        Field(name="brightness", dtype=Float64, description="Mean grey value, 0 to 1."),
        Field(name="contrast", dtype=Float64, description="Standard deviation of grey values."),
        *(Field(name=f"e_{n:02d}", dtype=Float64) for n in range(16)),  # the embedding
        Field(name="unexplained", dtype=Float64, description="Share of its variation that the embedding lacks."),
    ],
    source=digits_source,
)

digits = FeatureService(
    name="digits",
    description="All that the digits model reads.",
    features=[image_features],
)
