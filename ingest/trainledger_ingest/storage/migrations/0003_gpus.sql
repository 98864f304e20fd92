-- What runs used of GPUs, window by window: of each device (part_id empty) or MIG instance. NULL is not known.
CREATE TABLE {generation}.run_gpu_windows (
  month UInt32,
  run_id UUID,
  writer_id UUID,
  node_id LowCardinality(String),
  device_id LowCardinality(String),
  part_id LowCardinality(String),
  start_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  end_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  observed_us UInt64,
  busy_us Nullable(UInt64),
  memory_peak_bytes Nullable(UInt64),
  energy_mj Nullable(UInt64),
  quality LowCardinality(String),
  topic LowCardinality(String),
  partition UInt16,
  offset UInt64,
  idx UInt32,
  PROJECTION by_record (SELECT topic, partition, offset, count() GROUP BY topic, partition, offset)
) ENGINE = MergeTree PARTITION BY month ORDER BY (run_id, writer_id, start_at) SETTINGS {table_settings};

-- Whether a value was measured or estimated from others.
ALTER TABLE {generation}.hardware_stats
  ADD COLUMN IF NOT EXISTS quality LowCardinality(String) DEFAULT 'measured' AFTER samples;
