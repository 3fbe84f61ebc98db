-- One row per scheduled flight of the partition: what was known when it was due to leave, and whether it came late.
--
-- Views: flights and weather (this partition and the lookback), planes (static), scope (one row: start_time, end_time).
-- Same bytes every time: rolling delays are sums of whole minutes, joins match at most one row, and rows are ordered.

WITH scheduled AS (
    SELECT
        -- Unique: an airline flies a number from an airport once per scheduled minute. A row sent twice gives the
        -- same id twice and fails the gate, rather than one of the two being picked in silence.
        concat_ws('-',
            lpad(CAST(year AS VARCHAR), 4, '0') || lpad(CAST(month AS VARCHAR), 2, '0')
                || lpad(CAST(day AS VARCHAR), 2, '0') || 'T' || lpad(CAST(sched_dep_time AS VARCHAR), 4, '0'),
            carrier, CAST(flight AS VARCHAR), origin, dest) AS flight_id,
        -- time_hour is the scheduled hour in UTC; clock columns are local to the airport.
        time_hour + minute * INTERVAL 1 MINUTE AS event_timestamp,
        time_hour,
        carrier,
        origin,
        dest,
        tailnum,
        year,
        hour * 60 + minute AS minute_of_day,
        isodow(make_date(year, month, day)) AS weekday,
        distance,
        -- On the clocks of both airports, so the time zones' difference is in it, constant per route.
        ((sched_arr_time // 100) * 60 + sched_arr_time % 100 - hour * 60 - minute + 1440) % 1440 AS scheduled_minutes,
        dep_delay,
        arr_delay,
        -- When the flight's delays are known: at the gate. The source has no taxi time and no zone of the destination;
        -- out and in together took 28 minutes in the middle, 85 at the 99th percentile and 235 at most in 2013, so four
        -- hours let nothing through early. A flight that did not arrive (diverted, cancelled) is never known.
        time_hour + (minute + dep_delay + air_time + 240) * INTERVAL 1 MINUTE AS landed_at
    FROM flights
),

-- Departures to describe and landings to learn from, on one line of time; a departure carries nothing itself.
moments AS (
    SELECT flight_id, event_timestamp AS moment, origin, carrier,
           CAST(0 AS BIGINT) AS landed, CAST(0 AS BIGINT) AS dep_delay, CAST(0 AS BIGINT) AS arr_delay
    FROM scheduled, scope
    WHERE event_timestamp >= scope.start_time AND event_timestamp < scope.end_time
    UNION ALL
    SELECT NULL, landed_at, origin, carrier, 1, dep_delay, arr_delay
    FROM scheduled, scope
    WHERE arr_delay IS NOT NULL
      AND landed_at >= scope.start_time - INTERVAL 24 HOUR AND landed_at < scope.end_time
),

-- Times are whole minutes, so a frame that ends one minute before the departure holds what had landed by then.
rolling AS (
    SELECT
        flight_id,
        sum(landed) OVER by_origin AS origin_landed,
        sum(dep_delay) OVER by_origin AS origin_dep_delay,
        sum(arr_delay) OVER by_origin AS origin_arr_delay,
        sum(landed) OVER by_carrier AS carrier_landed,
        sum(dep_delay) OVER by_carrier AS carrier_dep_delay,
        sum(arr_delay) OVER by_carrier AS carrier_arr_delay
    FROM moments
    WINDOW
        by_origin AS (PARTITION BY origin ORDER BY moment
                      RANGE BETWEEN INTERVAL 24 HOUR PRECEDING AND INTERVAL 1 MINUTE PRECEDING),
        by_carrier AS (PARTITION BY carrier ORDER BY moment
                       RANGE BETWEEN INTERVAL 24 HOUR PRECEDING AND INTERVAL 1 MINUTE PRECEDING)
),

-- The weather of an hour is known when the hour is over, and speaks until the next one, for six hours at most.
known_weather AS (
    SELECT
        origin, temp, humid, wind_speed, precip, pressure, visib,
        time_hour + INTERVAL 1 HOUR AS known_from,
        least(
            coalesce(lead(time_hour) OVER (PARTITION BY origin ORDER BY time_hour), time_hour + INTERVAL 6 HOUR),
            time_hour + INTERVAL 6 HOUR) + INTERVAL 1 HOUR AS known_until
    FROM weather
)

SELECT
    s.flight_id,
    s.event_timestamp,
    s.carrier,
    s.origin,
    s.dest,
    CAST(s.minute_of_day AS BIGINT) AS minute_of_day,
    CAST(s.weekday AS BIGINT) AS weekday,
    CAST(s.distance AS BIGINT) AS distance,
    CAST(s.scheduled_minutes AS BIGINT) AS scheduled_minutes,
    CAST(CASE WHEN p.year <= s.year THEN s.year - p.year END AS BIGINT) AS plane_age,
    CAST(p.seats AS BIGINT) AS plane_seats,
    CAST(p.engines AS BIGINT) AS plane_engines,
    CAST(w.temp AS DOUBLE) AS temperature,
    CAST(w.humid AS DOUBLE) AS humidity,
    -- Above 100 mph it is a broken reading (1,048 once in 2013), not wind.
    CAST(CASE WHEN w.wind_speed <= 100 THEN w.wind_speed END AS DOUBLE) AS wind_speed,
    CAST(w.precip AS DOUBLE) AS precipitation,
    CAST(w.pressure AS DOUBLE) AS pressure,
    CAST(w.visib AS DOUBLE) AS visibility,
    CAST(r.origin_dep_delay AS DOUBLE) / nullif(r.origin_landed, 0) AS origin_dep_delay_24h,
    CAST(r.origin_arr_delay AS DOUBLE) / nullif(r.origin_landed, 0) AS origin_arr_delay_24h,
    CAST(r.carrier_dep_delay AS DOUBLE) / nullif(r.carrier_landed, 0) AS carrier_dep_delay_24h,
    CAST(r.carrier_arr_delay AS DOUBLE) / nullif(r.carrier_landed, 0) AS carrier_arr_delay_24h,
    CAST(s.arr_delay > 15 AS BIGINT) AS late
FROM scheduled AS s
JOIN rolling AS r ON r.flight_id = s.flight_id
LEFT JOIN planes AS p ON p.tailnum = s.tailnum
LEFT JOIN known_weather AS w
    ON w.origin = s.origin AND s.event_timestamp >= w.known_from AND s.event_timestamp < w.known_until
ORDER BY s.event_timestamp, s.flight_id
