-- Runs that people split or merged (event writers_moved). A process without a row is of the run that it tells.
CREATE TABLE {generation}.writer_homes (
  writer_id UUID, told_run_id UUID, run_id UUID, version UInt64
) ENGINE = ReplacingMergeTree(version) ORDER BY writer_id SETTINGS {table_settings};

-- Up to which decision all node-hours are dealt.
CREATE TABLE {generation}.dealt_moves (decisions UInt64) ENGINE = MergeTree ORDER BY decisions SETTINGS {table_settings};

-- `gone`: what the row tells of is of another run by now. `told_end`: behind the newest event with the run's own id.
ALTER TABLE {generation}.run_states
  ADD COLUMN IF NOT EXISTS told_end UInt64, ADD COLUMN IF NOT EXISTS gone Bool;
ALTER TABLE {generation}.writer_states ADD COLUMN IF NOT EXISTS gone Bool;
ALTER TABLE {generation}.param_changes ADD COLUMN IF NOT EXISTS gone Bool;
ALTER TABLE {generation}.summary_changes ADD COLUMN IF NOT EXISTS gone Bool;
ALTER TABLE {generation}.metric_goals ADD COLUMN IF NOT EXISTS gone Bool;
