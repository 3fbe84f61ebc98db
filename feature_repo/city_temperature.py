"""Features of city_temperature: what was known of a city's weather six hours before the hour to forecast."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, String

city = Entity(name="city", join_keys=["city"], value_type=ValueType.STRING)

city_temperature_source = FileSource(
    name="city_temperature_features",
    path="millrace://city_temperature/features",
    timestamp_field="event_timestamp",
)

city_weather = FeatureView(
    name="city_weather",
    description="Readings up to six hours before; degrees Fahrenheit.",
    entities=[city],
    ttl=timedelta(days=1),
    schema=[
        Field(name="city", dtype=String),
        Field(name="station", dtype=String, description="The city again, as a feature: Feast serves no join key."),
        Field(name="hour_of_day", dtype=String, description="UTC hour of the forecast, 00 to 23: a category."),
        Field(name="temperature_6h_before", dtype=Float64),
        Field(name="change_3h", dtype=Float64, description="Rise over the three hours before that reading."),
        Field(name="low_24h", dtype=Float64, description="Lowest of the 24 hours up to that reading."),
        Field(name="high_24h", dtype=Float64, description="Highest of the 24 hours up to that reading."),
    ],
    source=city_temperature_source,
)

city_temperature = FeatureService(
    name="city_temperature",
    description="All that the city_temperature model reads.",
    features=[city_weather],
)
