-- One row: a run, a key of its summary and a change of it.
CREATE OR REPLACE VIEW {views}.summary (
  run_id UUID COMMENT 'the run',
  key String COMMENT 'the key given to run.summary; nested keys joined with /',
  value String COMMENT 'plain text for strings, JSON otherwise',
  value_number Nullable(Float64) COMMENT 'the value as a number, where it is one',
  attempt UInt16 COMMENT 'attempt that set it',
  set_at DateTime64(6, 'UTC') COMMENT 'when it was set, UTC',
  is_current Bool COMMENT 'whether it is the newest value of this key'
) AS
SELECT run_id, key, value, value_number, attempt, set_at, is_current FROM {generation}.summary_changes FINAL WHERE NOT gone;
