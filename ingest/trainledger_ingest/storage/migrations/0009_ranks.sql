-- Where each process stands in its launch, and how it came to its run. All rows are computed anew.
ALTER TABLE {generation}.writer_states
  ADD COLUMN IF NOT EXISTS node_rank Nullable(UInt32),
  ADD COLUMN IF NOT EXISTS launcher LowCardinality(String),
  ADD COLUMN IF NOT EXISTS joined LowCardinality(String),
  ADD COLUMN IF NOT EXISTS decides Bool;

TRUNCATE TABLE {generation}.run_states;
