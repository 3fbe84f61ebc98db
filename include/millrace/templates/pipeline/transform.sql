-- One row per visit of the partition, with what was known when it began.
-- Views: visits (this partition), scope (one row: partition_key, start_time, end_time).
-- Hours, weekdays and dates are on the clocks of partition.timezone; other clocks: time AT TIME ZONE 'America/New_York'.
SELECT
    visit_id,
    time AS event_timestamp,
    region,
    pages,
    minutes,
    date_part('hour', time) AS hour_of_day,
    ordered
FROM visits, scope
WHERE time >= scope.start_time AND time < scope.end_time
