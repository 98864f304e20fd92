-- What is stored of the code of an attempt, and how well the run can be repeated. All rows are computed anew: the
-- tables are derived, and catch_up fills what is missing in run_states.
ALTER TABLE {generation}.provenance_facts
  ADD COLUMN IF NOT EXISTS snapshot_id Nullable(String),
  ADD COLUMN IF NOT EXISTS snapshot_sha256 Nullable(String),
  ADD COLUMN IF NOT EXISTS patch_sha256 Nullable(String),
  ADD COLUMN IF NOT EXISTS patch_bytes Nullable(UInt64),
  ADD COLUMN IF NOT EXISTS left_out Nullable(UInt64),
  ADD COLUMN IF NOT EXISTS left_out_files Array(String),
  ADD COLUMN IF NOT EXISTS code_root Nullable(String),
  ADD COLUMN IF NOT EXISTS cwd Nullable(String),
  ADD COLUMN IF NOT EXISTS launcher Array(String),
  ADD COLUMN IF NOT EXISTS variables Map(String, String),
  ADD COLUMN IF NOT EXISTS program Nullable(String);

-- `grade_if_repeated` counts once a repetition had the same results.
ALTER TABLE {generation}.run_states
  ADD COLUMN IF NOT EXISTS grade Nullable(String),
  ADD COLUMN IF NOT EXISTS grade_if_repeated Nullable(String);

TRUNCATE TABLE {generation}.run_states;
