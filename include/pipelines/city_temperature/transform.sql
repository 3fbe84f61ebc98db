-- One row per city and hour of the partition: what was known six hours before, and the temperature that came.
--
-- Views: temperatures (this partition and the lookback), scope (one row: start_time, end_time).
-- An hour whose reading six hours before is missing gets no row: without it there is nothing to forecast from.

WITH known AS (
    SELECT
        city,
        time + INTERVAL 6 HOUR AS event_timestamp,
        temp AS temperature_6h_before,
        temp - first_value(temp) OVER three_hours AS change_3h,
        min(temp) OVER one_day AS low_24h,
        max(temp) OVER one_day AS high_24h
    FROM temperatures
    WINDOW
        three_hours AS (PARTITION BY city ORDER BY time RANGE BETWEEN INTERVAL 3 HOUR PRECEDING AND CURRENT ROW),
        one_day AS (PARTITION BY city ORDER BY time RANGE BETWEEN INTERVAL 23 HOUR PRECEDING AND CURRENT ROW)
)

SELECT
    known.city,
    known.event_timestamp,
    known.city AS station,
    -- UTC, because the sun keeps no daylight saving time.
    lpad(CAST(extract(HOUR FROM known.event_timestamp AT TIME ZONE 'UTC') AS VARCHAR), 2, '0') AS hour_of_day,
    known.temperature_6h_before,
    known.change_3h,
    known.low_24h,
    known.high_24h,
    came.temp AS temperature
FROM known
JOIN temperatures AS came ON came.city = known.city AND came.time = known.event_timestamp
CROSS JOIN scope
WHERE known.event_timestamp >= scope.start_time AND known.event_timestamp < scope.end_time
ORDER BY known.event_timestamp, known.city
