-- One row: an exchange rate as it was set.
CREATE OR REPLACE VIEW {views}.currency_rates (
  currency String COMMENT 'ISO 4217; the currency of which one unit is worth the rate',
  quoted_in String COMMENT 'ISO 4217; the currency of the rate',
  rate Nullable(Decimal(38, 9)) COMMENT 'money of quoted_in for one unit of currency; NULL: from that day on the two have no rate',
  from_day Date COMMENT 'UTC day from which it counts, until one of the same two currencies that begins later',
  source Nullable(String) COMMENT 'where the rate is from',
  set_at DateTime64(6, 'UTC') COMMENT 'when it was set, UTC',
  set_by String COMMENT 'who set it',
  note Nullable(String) COMMENT 'why',
  ordinal UInt64 COMMENT 'grows in the order in which rates were set and months were closed'
) AS
SELECT JSONExtractString(body, 'currency') AS currency, JSONExtractString(body, 'quoted_in') AS quoted_in,
  CAST(toDecimal128(JSONExtract(body, 'nano_rate', 'Nullable(Int64)'), 9) / 1000000000 AS Nullable(Decimal(38, 9))) AS rate,
  toDate(toDateTime(intDiv(JSONExtractInt(body, 'from_day_us'), 1000000), 'UTC'), 'UTC') AS from_day,
  JSONExtract(body, 'source', 'Nullable(String)') AS source, at AS set_at, JSONExtractString(body, 'set_by') AS set_by,
  JSONExtract(body, 'note', 'Nullable(String)') AS note, offset * 65536 + idx AS ordinal
FROM {generation}.admin_events WHERE type = 'currency_rate_set';
