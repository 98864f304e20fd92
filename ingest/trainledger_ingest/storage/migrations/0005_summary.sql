-- What was set in run.summary, as param_changes holds what was set in run.config. All rows are computed anew.
CREATE TABLE {generation}.summary_changes (
  run_id UUID, key String, set_at DateTime64(6, 'UTC'), ordinal UInt32, version UInt64,
  value String, value_number Nullable(Float64), attempt UInt16, is_current Bool
) ENGINE = ReplacingMergeTree(version) ORDER BY (run_id, key, set_at, ordinal) SETTINGS {table_settings};

TRUNCATE TABLE {generation}.run_states;
