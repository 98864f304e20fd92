-- One row: a price that was set.
CREATE OR REPLACE VIEW {views}.prices (
  price_id UUID COMMENT 'this price',
  node String COMMENT 'pattern of node names',
  per_hour Decimal(38, 9) COMMENT 'money for one hour of the node',
  currency String COMMENT 'ISO 4217',
  from_hour DateTime('UTC') COMMENT 'whole hour from which it counts, UTC',
  presence String COMMENT 'observed, boot or owned',
  set_at DateTime64(6, 'UTC') COMMENT 'when it was set, UTC',
  set_by String COMMENT 'who set it',
  owned_from Nullable(DateTime64(6, 'UTC')) COMMENT 'presence owned: since when, UTC',
  owned_to Nullable(DateTime64(6, 'UTC')) COMMENT 'presence owned: until when, UTC; NULL while it is owned',
  host_share Nullable(Float64) COMMENT 'part of the price that is for the host, 0 to 1; NULL: 0.1 with devices, 1 without',
  weights Map(String, Int64) COMMENT 'weight of a device by its model; 1 for models that are not named',
  source Nullable(String) COMMENT 'file, aws-on-demand or aws-spot; NULL where a person gave the number',
  note Nullable(String) COMMENT 'why, or where exactly it is from',
  ordinal UInt64 COMMENT 'grows in the order in which prices and ends were set'
) AS
SELECT toUUID(JSONExtractString(body, 'price_id')) AS price_id, JSONExtractString(body, 'pattern') AS node,
  CAST(toDecimal128(JSONExtractInt(body, 'nano_per_hour'), 9) / 1000000000 AS Decimal(38, 9)) AS per_hour,
  JSONExtractString(body, 'currency') AS currency,
  toDateTime(intDiv(JSONExtractInt(body, 'from_hour_us'), 1000000), 'UTC') AS from_hour,
  JSONExtractString(body, 'presence') AS presence, at AS set_at, JSONExtractString(body, 'set_by') AS set_by,
  fromUnixTimestamp64Micro(JSONExtract(body, 'owned_from_us', 'Nullable(Int64)'), 'UTC') AS owned_from,
  fromUnixTimestamp64Micro(JSONExtract(body, 'owned_to_us', 'Nullable(Int64)'), 'UTC') AS owned_to,
  JSONExtract(body, 'host_share_ppm', 'Nullable(Int64)') / 1000000 AS host_share,
  JSONExtract(body, 'device_weights', 'Map(String, Int64)') AS weights,
  JSONExtract(body, 'source', 'Nullable(String)') AS source, JSONExtract(body, 'note', 'Nullable(String)') AS note,
  offset * 65536 + idx AS ordinal
FROM {generation}.admin_events WHERE type = 'price_set';

-- One row: an end of the price of a pattern.
CREATE OR REPLACE VIEW {views}.price_ends (
  price_id UUID COMMENT 'this end',
  node String COMMENT 'pattern of node names, as its prices have it',
  from_hour DateTime('UTC') COMMENT 'whole hour from which the pattern has no price until one that begins later, UTC',
  set_at DateTime64(6, 'UTC') COMMENT 'when it was set, UTC',
  set_by String COMMENT 'who set it',
  note Nullable(String) COMMENT 'why',
  ordinal UInt64 COMMENT 'grows in the order in which prices and ends were set'
) AS
SELECT toUUID(JSONExtractString(body, 'price_id')) AS price_id, JSONExtractString(body, 'pattern') AS node,
  toDateTime(intDiv(JSONExtractInt(body, 'from_hour_us'), 1000000), 'UTC') AS from_hour,
  at AS set_at, JSONExtractString(body, 'set_by') AS set_by, JSONExtract(body, 'note', 'Nullable(String)') AS note,
  offset * 65536 + idx AS ordinal
FROM {generation}.admin_events WHERE type = 'price_ended';
