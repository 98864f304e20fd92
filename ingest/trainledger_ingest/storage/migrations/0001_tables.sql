-- The append tables hold what the events say, one row a fact, each with the position of the record it came
-- from (topic, partition, offset, idx), so that recovery can count what a batch left behind. `month` is given
-- by the batch (YYYYMM of its first append): one insert is one block in one partition, and so atomic.
-- Names in braces are filled by migrate.py.

CREATE TABLE {generation}.points (
  month UInt32 CODEC(ZSTD(1)),
  run_id UUID CODEC(ZSTD(1)),
  key LowCardinality(String) CODEC(ZSTD(1)),
  writer_id UUID CODEC(ZSTD(1)),
  step Int64 CODEC(DoubleDelta, ZSTD(1)),
  at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  value Float64 CODEC(ZSTD(1)),
  topic LowCardinality(String) CODEC(ZSTD(1)),
  partition UInt16 CODEC(ZSTD(1)),
  offset UInt64 CODEC(Delta, ZSTD(1)),
  idx UInt32 CODEC(Delta, ZSTD(1)),
  PROJECTION by_record (SELECT topic, partition, offset, count() GROUP BY topic, partition, offset),
  PROJECTION summary (
    SELECT run_id, key, writer_id, count(), countIf(isNaN(value)), min(step), max(step),
      argMax(value, tuple(step, at)), max(tuple(step, at)),
      countIf(isFinite(value)), minIf(value, isFinite(value)), maxIf(value, isFinite(value)),
      argMinIf(step, value, isFinite(value)), argMaxIf(step, value, isFinite(value))
    GROUP BY run_id, key, writer_id
  )
) ENGINE = MergeTree PARTITION BY month ORDER BY (run_id, key, step) SETTINGS {table_settings};

CREATE TABLE {generation}.text_points (
  month UInt32 CODEC(ZSTD(1)),
  run_id UUID CODEC(ZSTD(1)),
  key LowCardinality(String) CODEC(ZSTD(1)),
  writer_id UUID CODEC(ZSTD(1)),
  step Int64 CODEC(DoubleDelta, ZSTD(1)),
  at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  text String CODEC(ZSTD(1)),
  topic LowCardinality(String) CODEC(ZSTD(1)),
  partition UInt16 CODEC(ZSTD(1)),
  offset UInt64 CODEC(Delta, ZSTD(1)),
  idx UInt32 CODEC(Delta, ZSTD(1)),
  PROJECTION by_record (SELECT topic, partition, offset, count() GROUP BY topic, partition, offset)
) ENGINE = MergeTree PARTITION BY month ORDER BY (run_id, key, step) SETTINGS {table_settings};

CREATE TABLE {generation}.log_lines (
  month UInt32 CODEC(ZSTD(1)),
  run_id UUID CODEC(ZSTD(1)),
  writer_id UUID CODEC(ZSTD(1)),
  stream LowCardinality(String) CODEC(ZSTD(1)),
  line_no UInt64 CODEC(Delta, ZSTD(1)),
  at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  text String CODEC(ZSTD(1)),
  topic LowCardinality(String) CODEC(ZSTD(1)),
  partition UInt16 CODEC(ZSTD(1)),
  offset UInt64 CODEC(Delta, ZSTD(1)),
  idx UInt32 CODEC(Delta, ZSTD(1)),
  PROJECTION by_record (SELECT topic, partition, offset, count() GROUP BY topic, partition, offset)
) ENGINE = MergeTree PARTITION BY month ORDER BY (run_id, writer_id, stream, line_no) SETTINGS {table_settings};

-- All events of topic runs; `body` is the record as JSON (ids as UUID text). Run states are computed from it.
CREATE TABLE {generation}.run_events (
  month UInt32,
  run_id UUID,
  writer_id UUID,
  type LowCardinality(String),
  at DateTime64(6, 'UTC'),
  node_id LowCardinality(String),
  body String CODEC(ZSTD(1)),
  topic LowCardinality(String),
  partition UInt16,
  offset UInt64,
  idx UInt32,
  PROJECTION by_record (SELECT topic, partition, offset, count() GROUP BY topic, partition, offset)
) ENGINE = MergeTree PARTITION BY month ORDER BY (run_id, at, offset) SETTINGS {table_settings};

-- All events of topic nodes but `hardware`; cost is computed from it.
CREATE TABLE {generation}.node_events (
  month UInt32,
  node_id LowCardinality(String),
  hour DateTime('UTC'),
  type LowCardinality(String),
  at DateTime64(6, 'UTC'),
  boot_id UUID,
  producer_id UUID,
  seq UInt64,
  body String CODEC(ZSTD(1)),
  topic LowCardinality(String),
  partition UInt16,
  offset UInt64,
  idx UInt32,
  PROJECTION by_record (SELECT topic, partition, offset, count() GROUP BY topic, partition, offset)
) ENGINE = MergeTree PARTITION BY month ORDER BY (node_id, hour, at, offset) SETTINGS {table_settings};

CREATE TABLE {generation}.hardware_stats (
  month UInt32,
  node_id LowCardinality(String),
  device LowCardinality(String),
  name LowCardinality(String),
  start_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  end_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  minimum Float64 CODEC(ZSTD(1)),
  mean Float64 CODEC(ZSTD(1)),
  maximum Float64 CODEC(ZSTD(1)),
  last Float64 CODEC(ZSTD(1)),
  samples UInt32 CODEC(ZSTD(1)),
  topic LowCardinality(String),
  partition UInt16,
  offset UInt64,
  idx UInt32,
  PROJECTION by_record (SELECT topic, partition, offset, count() GROUP BY topic, partition, offset)
) ENGINE = MergeTree PARTITION BY month ORDER BY (node_id, device, name, start_at) SETTINGS {table_settings};

-- What runs used, window by window (the rows of `process_usage` whose kind is run).
CREATE TABLE {generation}.run_usage_windows (
  month UInt32,
  run_id UUID,
  writer_id UUID,
  node_id LowCardinality(String),
  start_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  end_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
  cpu_us UInt64,
  memory_peak_bytes UInt64,
  topic LowCardinality(String),
  partition UInt16,
  offset UInt64,
  idx UInt32,
  PROJECTION by_record (SELECT topic, partition, offset, count() GROUP BY topic, partition, offset)
) ENGINE = MergeTree PARTITION BY month ORDER BY (run_id, writer_id, start_at) SETTINGS {table_settings};

CREATE TABLE {generation}.admin_events (
  month UInt32,
  type LowCardinality(String),
  at DateTime64(6, 'UTC'),
  body String CODEC(ZSTD(1)),
  topic LowCardinality(String),
  partition UInt16,
  offset UInt64,
  idx UInt32,
  PROJECTION by_record (SELECT topic, partition, offset, count() GROUP BY topic, partition, offset)
) ENGINE = MergeTree PARTITION BY month ORDER BY (type, at, offset) SETTINGS {table_settings};

CREATE TABLE {generation}.dead_letters (
  month UInt32,
  at DateTime64(6, 'UTC'),
  reason LowCardinality(String),
  message String,
  key String,
  payload String CODEC(ZSTD(1)),
  topic LowCardinality(String),
  partition UInt16,
  offset UInt64,
  idx UInt32,
  PROJECTION by_record (SELECT topic, partition, offset, count() GROUP BY topic, partition, offset)
) ENGINE = MergeTree PARTITION BY month ORDER BY (topic, partition, offset) SETTINGS {table_settings};

-- The ledger of what was taken in: a row a batch, never deleted. Positions are read from here, never from the
-- data tables: erasure and retention move their maximum back.
CREATE TABLE {generation}.ingest_ledger (
  topic LowCardinality(String),
  partition UInt16,
  topic_id String,
  start UInt64,
  end UInt64,
  at DateTime64(6, 'UTC'),
  producer_ids Array(UUID),
  producer_seqs Array(UInt64),
  journal_ids Array(UUID),
  journal_ends Array(Int64),
  lost_ranges UInt64,
  tables Array(LowCardinality(String)),
  row_counts Array(UInt64)
) ENGINE = MergeTree ORDER BY (topic, partition, end) SETTINGS {table_settings};

-- Derived tables: each row is a pure function of the append tables, replaced whole when they grow.
-- `version` grows with what the row was computed from.
CREATE TABLE {generation}.run_states (
  run_id UUID,
  version UInt64,
  project String, experiment Nullable(String), name Nullable(String), team Nullable(String), user Nullable(String),
  run_group Nullable(String), tags Array(String), parent_run Nullable(UUID),
  state LowCardinality(String), state_reason String,
  attempts UInt16, ranks UInt32, nodes UInt32,
  started_at Nullable(DateTime64(6, 'UTC')), ended_at Nullable(DateTime64(6, 'UTC')),
  last_event_at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(version) ORDER BY run_id SETTINGS {table_settings};

CREATE TABLE {generation}.writer_states (
  run_id UUID, writer_id UUID, version UInt64,
  attempt UInt16, rank Nullable(UInt32), local_rank Nullable(UInt32), world_size Nullable(UInt32),
  role LowCardinality(String), parent_writer Nullable(UUID),
  node_id LowCardinality(String), pid UInt32, owner Nullable(String), device_ids Array(String),
  started_at Nullable(DateTime64(6, 'UTC')), last_event_at DateTime64(6, 'UTC'),
  state LowCardinality(String), exit_code Nullable(Int32), signal Nullable(Int32), gap_points UInt64
) ENGINE = ReplacingMergeTree(version) ORDER BY (run_id, writer_id) SETTINGS {table_settings};

CREATE TABLE {generation}.param_changes (
  run_id UUID, key String, set_at DateTime64(6, 'UTC'), ordinal UInt32, version UInt64,
  value String, value_number Nullable(Float64), attempt UInt16, is_current Bool
) ENGINE = ReplacingMergeTree(version) ORDER BY (run_id, key, set_at, ordinal) SETTINGS {table_settings};

CREATE TABLE {generation}.metric_goals (
  run_id UUID, key String, version UInt64, goal Nullable(String)
) ENGINE = ReplacingMergeTree(version) ORDER BY (run_id, key) SETTINGS {table_settings};

CREATE TABLE {generation}.provenance_facts (
  run_id UUID, attempt UInt16, version UInt64,
  vcs Nullable(String), repository Nullable(String), commit Nullable(String), branch Nullable(String),
  dirty Nullable(Bool), entry_point Nullable(String), argv Array(String), python Nullable(String),
  packages Map(String, String), os Nullable(String), reasons Array(String)
) ENGINE = ReplacingMergeTree(version) ORDER BY (run_id, attempt) SETTINGS {table_settings};

-- A node-hour's lines as parallel arrays; held is in millionths of the node for one microsecond.
CREATE TABLE {generation}.node_hours (
  node_id LowCardinality(String), hour DateTime('UTC'), version UInt64,
  presence_us UInt64, observed_us UInt64,
  kinds Array(LowCardinality(String)), run_ids Array(Nullable(UUID)), attempts Array(UInt16),
  owners Array(Nullable(String)), resources Array(String), held Array(UInt64), used Array(Nullable(UInt64)),
  evidence Array(String)
) ENGINE = ReplacingMergeTree(version) ORDER BY (node_id, hour) SETTINGS {table_settings};

-- Every revision that a node-hour ever had: the reason why a number moved can be shown later.
CREATE TABLE {generation}.node_hour_revisions AS {generation}.node_hours
ENGINE = MergeTree ORDER BY (node_id, hour, version) SETTINGS {table_settings};

-- What a node-hour costs under the price book; costs are parallel to the lines of the same version.
CREATE TABLE {generation}.node_hour_prices (
  node_id LowCardinality(String), hour DateTime('UTC'), version UInt64, lines_version UInt64,
  price_id Nullable(UUID), currency LowCardinality(Nullable(String)),
  bill Nullable(Decimal(38, 9)), costs Array(Nullable(Decimal(38, 9)))
) ENGINE = ReplacingMergeTree(version) ORDER BY (node_id, hour) SETTINGS {table_settings};
