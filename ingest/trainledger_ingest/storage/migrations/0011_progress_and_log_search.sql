-- How far a run was at which moment, a row each ten seconds: what the estimated time to completion is computed from.
-- Not exactly once and not kept: the same sample twice changes nothing, and two days are more than is looked at.
CREATE TABLE {generation}.progress_samples (
  run_id UUID CODEC(ZSTD(1)),
  at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  step Int64 CODEC(Delta, ZSTD(1))
) ENGINE = MergeTree ORDER BY (run_id, at) TTL toDateTime(at) + INTERVAL 2 DAY SETTINGS {table_settings};

-- Which groups of four characters occur in a stretch of lines: a search over all runs reads only stretches that can
-- hold the text (`LIKE`, and `match` where the expression has a fixed part). Of the indexes that both engines have
-- this one finds any part of a word, and costs the least: a microsecond of CPU a line, a seventh of the lines' bytes.
ALTER TABLE {generation}.log_lines
  ADD INDEX IF NOT EXISTS text_grams text TYPE ngrambf_v1(4, 65536, 3, 0) GRANULARITY 4;

ALTER TABLE {generation}.log_lines MATERIALIZE INDEX text_grams;
