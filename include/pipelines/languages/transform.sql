-- One row per text of the week: what was measured of it, where the embedding puts it, and its language.
--
-- Views: texts (this week), embedded (digest, e_00 .. e_31, unexplained), scope (one row: start_time, end_time).

SELECT
    replace(texts.file, '.txt', '') AS text_id,
    texts.time AS event_timestamp,
    texts.characters,
    texts.letters,
    texts.letters * texts.characters / texts.words AS letters_per_word,
    embedded.* EXCLUDE (digest),
    texts.language
FROM texts
JOIN embedded USING (digest)
CROSS JOIN scope
WHERE texts.time >= scope.start_time AND texts.time < scope.end_time
ORDER BY texts.time, texts.file
