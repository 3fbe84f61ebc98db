"""Features of languages: what is measured of a text, and where the embedding puts it."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64, String

text_id = Entity(name="text_id", join_keys=["text_id"], value_type=ValueType.STRING)

languages_source = FileSource(
    name="languages_features",
    path="millrace://languages/features",
    timestamp_field="event_timestamp",
)

text_features = FeatureView(
    name="text_features",
    description="What is measured of a text, and the SVD of its n-grams.",
    entities=[text_id],
    ttl=timedelta(days=1),
    schema=[
        Field(name="text_id", dtype=String),
        Field(name="characters", dtype=Int64),
        Field(name="letters", dtype=Float64, description="Share of characters that are letters."),
        Field(name="letters_per_word", dtype=Float64),
        *(Field(name=f"e_{n:02d}", dtype=Float64) for n in range(32)),  # the embedding
        Field(name="unexplained", dtype=Float64, description="Share of its variation that the embedding lacks."),
    ],
    source=languages_source,
)

languages = FeatureService(
    name="languages",
    description="All that the languages model reads.",
    features=[text_features],
)
