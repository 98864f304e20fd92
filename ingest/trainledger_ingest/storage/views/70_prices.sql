-- One row: a price that was set.
CREATE OR REPLACE VIEW {views}.prices (
  price_id UUID COMMENT 'this price',
  node String COMMENT 'pattern of node names',
  per_hour Decimal(38, 9) COMMENT 'money for one hour of the node',
  currency String COMMENT 'ISO 4217',
  from_hour DateTime('UTC') COMMENT 'whole hour from which it counts, UTC',
  presence String COMMENT 'observed, boot or owned',
  set_at DateTime64(6, 'UTC') COMMENT 'when it was set, UTC',
  set_by String COMMENT 'who set it'
) AS
SELECT toUUID(JSONExtractString(body, 'price_id')) AS price_id, JSONExtractString(body, 'pattern') AS node,
  CAST(toDecimal128(JSONExtractInt(body, 'nano_per_hour'), 9) / 1000000000 AS Decimal(38, 9)) AS per_hour,
  JSONExtractString(body, 'currency') AS currency,
  toDateTime(intDiv(JSONExtractInt(body, 'from_hour_us'), 1000000), 'UTC') AS from_hour,
  JSONExtractString(body, 'presence') AS presence, at AS set_at, JSONExtractString(body, 'set_by') AS set_by
FROM {generation}.admin_events WHERE type = 'price_set';
