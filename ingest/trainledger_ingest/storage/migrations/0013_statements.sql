-- Statements of closed months. Rows count only if an event period_closed names their statement, so that what a
-- close that died left behind is nothing. They are never changed; a rebuild carries them over to the new tables.
CREATE TABLE {generation}.statement_lines (
  statement_id UUID, period LowCardinality(String),
  usage_hour DateTime('UTC'), node_id LowCardinality(String), kind LowCardinality(String),
  run_id Nullable(UUID), attempt Nullable(UInt16), owner Nullable(String), team Nullable(String),
  project Nullable(String), experiment Nullable(String), resource String,
  held_hours Float64, used_hours Nullable(Float64), share Float64,
  cost Nullable(Decimal(38, 9)), currency Nullable(String), price_id Nullable(UUID), evidence String,
  revision UInt64, device_hours Nullable(Float64), declared_team Nullable(String), payer_evidence Nullable(String)
) ENGINE = MergeTree ORDER BY (period, statement_id, node_id, usage_hour) SETTINGS {table_settings};

-- The bills that the lines of a statement sum to. `revision` is the version of the node-hour that was closed.
CREATE TABLE {generation}.statement_hours (
  statement_id UUID, period LowCardinality(String),
  usage_hour DateTime('UTC'), node_id LowCardinality(String), revision UInt64, presence_us UInt64,
  bill Nullable(Decimal(38, 9)), currency Nullable(String)
) ENGINE = MergeTree ORDER BY (period, statement_id, node_id, usage_hour) SETTINGS {table_settings};

-- What a statement books of differences in months that were closed before it (`period`).
CREATE TABLE {generation}.statement_adjustments (
  statement_id UUID, booked_in LowCardinality(String), period LowCardinality(String),
  usage_hour DateTime('UTC'), node_id LowCardinality(String), kind LowCardinality(String),
  run_id Nullable(UUID), owner Nullable(String), team Nullable(String), project Nullable(String),
  experiment Nullable(String), old_cost Nullable(Decimal(38, 9)), new_cost Nullable(Decimal(38, 9)),
  delta Decimal(38, 9), currency String, cause LowCardinality(String), event_ref String,
  booked_at DateTime64(6, 'UTC'), booked_by String
) ENGINE = MergeTree ORDER BY (period, statement_id, node_id, usage_hour) SETTINGS {table_settings};

-- Differences of an hour of a closed month that no statement holds yet: derived, replaced whole. `version` is that of
-- the node-hour; `closes` is how many months were closed when it was computed.
CREATE TABLE {generation}.closed_hours (
  node_id LowCardinality(String), hour DateTime('UTC'), version UInt64, closes UInt32,
  kinds Array(LowCardinality(String)), run_ids Array(Nullable(UUID)), owners Array(Nullable(String)),
  currencies Array(String), old_costs Array(Nullable(Decimal(38, 9))), new_costs Array(Nullable(Decimal(38, 9))),
  deltas Array(Decimal(38, 9)), causes Array(LowCardinality(String)), event_refs Array(String),
  booked_at Array(DateTime64(6, 'UTC')), booked_by Array(String)
) ENGINE = ReplacingMergeTree(version) ORDER BY (node_id, hour) SETTINGS {table_settings};
