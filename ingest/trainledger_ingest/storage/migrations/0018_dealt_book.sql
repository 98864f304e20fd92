-- Up to how many entries of the price book all node-hours are dealt. A new entry changes hours from its own on and of its
-- pattern alone, so prices by the hour do not deal years anew. The highest number counts.
CREATE TABLE {generation}.dealt_book (entries UInt64) ENGINE = ReplacingMergeTree ORDER BY entries SETTINGS {table_settings};
