-- One row per image of the month: what was measured of it, where the embedding puts it, and the digit.
--
-- Views: images (this month), embedded (digest, e_00 .. e_15, unexplained), scope (one row: start_time, end_time).

SELECT
    replace(images.file, '.png', '') AS image,
    images.time AS event_timestamp,
    images.brightness,
    images.contrast,
    embedded.* EXCLUDE (digest),
    images.digit
FROM images
JOIN embedded USING (digest)
CROSS JOIN scope
WHERE images.time >= scope.start_time AND images.time < scope.end_time
ORDER BY images.time, images.file
