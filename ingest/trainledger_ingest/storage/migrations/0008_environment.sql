-- The environment of an attempt: contents of packages, lock files, image, GPU stack, machine, randomness.
ALTER TABLE {generation}.provenance_facts
  ADD COLUMN IF NOT EXISTS package_ids Map(String, String),
  ADD COLUMN IF NOT EXISTS package_sources Map(String, String),
  ADD COLUMN IF NOT EXISTS lock_sha256 Nullable(String),
  ADD COLUMN IF NOT EXISTS lock_files Map(String, String),
  ADD COLUMN IF NOT EXISTS image_digest Nullable(String),
  ADD COLUMN IF NOT EXISTS image_source Nullable(String),
  ADD COLUMN IF NOT EXISTS driver Nullable(String),
  ADD COLUMN IF NOT EXISTS cuda Nullable(String),
  ADD COLUMN IF NOT EXISTS cudnn Nullable(String),
  ADD COLUMN IF NOT EXISTS nccl Nullable(String),
  ADD COLUMN IF NOT EXISTS system Map(String, String),
  ADD COLUMN IF NOT EXISTS libraries Map(String, String),
  ADD COLUMN IF NOT EXISTS randomness Map(String, String);

-- All rows are computed anew: catch_up fills what is missing in run_states.
TRUNCATE TABLE {generation}.run_states;
