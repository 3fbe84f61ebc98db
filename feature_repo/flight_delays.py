"""Features of flight_delays: what is known of a flight at its scheduled departure."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64, String

flight = Entity(
    name="flight",
    join_keys=["flight_id"],
    value_type=ValueType.STRING,
    description="One scheduled flight: local date and time, carrier, number, origin, destination.",
)

flight_delays_source = FileSource(
    name="flight_delays_features",
    path="millrace://flight_delays/features",
    timestamp_field="event_timestamp",
)

flight_features = FeatureView(
    name="flight_features",
    description="Schedule, aircraft, weather of the last whole hour, delays of flights landed in the last 24 hours.",
    entities=[flight],
    ttl=timedelta(0),  # a flight leaves once, and what was known of it then does not age
    schema=[
        Field(name="flight_id", dtype=String),
        Field(name="carrier", dtype=String),
        Field(name="origin", dtype=String),
        Field(name="dest", dtype=String),
        Field(name="minute_of_day", dtype=Int64, description="Scheduled departure, local minutes since midnight."),
        Field(name="weekday", dtype=Int64, description="Local; Monday is 1."),
        Field(name="distance", dtype=Int64, description="Miles."),
        Field(name="scheduled_minutes", dtype=Int64, description="Between the clocks of both airports."),
        Field(name="plane_age", dtype=Int64, description="Years."),
        Field(name="plane_seats", dtype=Int64),
        Field(name="plane_engines", dtype=Int64),
        Field(name="temperature", dtype=Float64, description="Degrees Fahrenheit."),
        Field(name="humidity", dtype=Float64, description="Relative, per cent."),
        Field(name="wind_speed", dtype=Float64, description="Miles per hour."),
        Field(name="precipitation", dtype=Float64, description="Inches in the hour."),
        Field(name="pressure", dtype=Float64, description="Millibars at sea level."),
        Field(name="visibility", dtype=Float64, description="Miles."),
        Field(name="origin_dep_delay_24h", dtype=Float64, description="Mean minutes, flights from the origin."),
        Field(name="origin_arr_delay_24h", dtype=Float64, description="Mean minutes, flights from the origin."),
        Field(name="carrier_dep_delay_24h", dtype=Float64, description="Mean minutes, flights of the carrier."),
        Field(name="carrier_arr_delay_24h", dtype=Float64, description="Mean minutes, flights of the carrier."),
    ],
    source=flight_delays_source,
)

flight_delays = FeatureService(
    name="flight_delays",
    description="All that the flight_delays model reads.",
    features=[flight_features],
)
