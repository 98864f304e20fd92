-- What a node-hour costs, in the place of node_hour_prices: beside the money of each line it holds, once for each holder, who
-- held the node and the sums of its lines, so that reports read a fifth of what they read before, and from one table. It is
-- cut by months, so that the report of a month reads that month. `places` says of each line which holder it is of.
CREATE TABLE {generation}.node_hour_money (
  node_id LowCardinality(String), hour DateTime('UTC'), version UInt64, lines_version UInt64,
  price_id Nullable(UUID), currency LowCardinality(Nullable(String)),
  bill Nullable(Decimal(38, 9)), costs Array(Nullable(Decimal(38, 9))),
  presence_us UInt64, observed_us UInt64, places Array(UInt16),
  -- Shares are millionths of microseconds of the node, money 10^-9 of the currency: 0 without a price.
  -- No LowCardinality: it makes an insert three times as dear, and reading no faster.
  holder_kinds Array(String), holder_runs Array(Nullable(UUID)), holder_attempts Array(UInt16),
  holder_owners Array(Nullable(String)), holder_accounts Array(Nullable(String)),
  holder_held Array(UInt64), holder_used Array(UInt64), holder_unseen Array(UInt64),
  holder_device_hours Array(Nullable(Float64)), holder_device_used Array(Float64), holder_device_unseen Array(Float64),
  holder_empty_lines Array(UInt16),
  holder_costs Array(UInt64), holder_costs_used Array(UInt64), holder_costs_unseen Array(UInt64)
) ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(hour) ORDER BY (node_id, hour) SETTINGS {table_settings};

-- Gone when this file is applied a second time, after a crash.
CREATE TABLE {generation}.node_hour_prices (
  node_id LowCardinality(String), hour DateTime('UTC'), version UInt64, lines_version UInt64,
  price_id Nullable(UUID), currency LowCardinality(Nullable(String)),
  bill Nullable(Decimal(38, 9)), costs Array(Nullable(Decimal(38, 9)))
) ENGINE = ReplacingMergeTree(version) ORDER BY (node_id, hour) SETTINGS {table_settings};

INSERT INTO {generation}.node_hour_money
SELECT node_id, hour, money_version, version, price_id, currency, bill, costs, presence_us, observed_us, places,
  arrayMap(i -> kinds[i], firsts), arrayMap(i -> run_ids[i], firsts), arrayMap(i -> attempts[i], firsts),
  arrayMap(i -> owners[i], firsts), arrayMap(i -> accounts[i], firsts),
  arrayMap(k -> arraySum((x, place) -> if(place = k, x, 0), held, places), numbers),
  arrayMap(k -> arraySum((x, place) -> if(place = k, ifNull(x, 0), 0), used, places), numbers),
  arrayMap(k -> arraySum((x, place) -> if(place = k, x, 0), unseens, places), numbers),
  arrayMap(k -> if(arrayExists((x, place) -> place = k AND x >= 0, device_hours, places),
    toNullable(arraySum((x, place) -> if(place = k AND x >= 0, x, 0), device_hours, places)), NULL), numbers),
  arrayMap(k -> arraySum((x, part, use, place) -> if(place = k AND x >= 0 AND part > 0, x * ifNull(use, 0) / part, 0),
    device_hours, held, used, places), numbers),
  -- A line that was not measured at all counts whole, without the error of a division.
  arrayMap(k -> arraySum((x, part, blind, place) -> if(place = k AND x >= 0 AND part > 0, if(blind = part, x, x * blind / part), 0),
    device_hours, held, unseens, places), numbers),
  arrayMap(k -> arrayCount((x, place) -> place = k AND x = 0, held, places), numbers),
  arrayMap(k -> arraySum((x, place) -> if(place = k, x, 0), nanos, places), numbers),
  arrayMap(k -> arraySum((x, place) -> if(place = k, x, 0), nanos_used, places), numbers),
  arrayMap(k -> arraySum((x, u, place) -> if(place = k, x - u, 0), nanos_not_unused, nanos_used, places), numbers)
FROM (
  SELECT *, range(1, arrayMax(places) + 1) AS numbers, arrayMap(k -> indexOf(places, k), numbers) AS firsts,
    if(empty(unseen), arrayMap((kind, part, use) -> toUInt64(if(kind = 'idle', 0, part - ifNull(use, 0))), kinds, held, used),
      unseen) AS unseens,
    -- As in view cost_lines; below 0 where there is no device.
    arrayEnumerateDense(resources) AS device_places,
    arrayMap(k -> arraySum((x, place) -> if(place = k, x, 0), held, device_places), range(1, arrayMax(device_places) + 1))
      AS device_sums,
    arrayMap((name, part, place) -> if(name = 'host' OR device_sums[place] = 0, -1,
      presence_us / 3.6e9 * part / device_sums[place]), resources, held, device_places) AS device_hours,
    arrayMap(cost -> toUInt64(ifNull(cost, 0) * 1000000000), costs) AS nanos,
    arrayMap((cost, part, use) -> toUInt64(intDiv(toUInt128(cost) * ifNull(use, 0), greatest(part, 1))), nanos, held, used)
      AS nanos_used,
    arrayMap((cost, part, use, blind) -> if(part = 0, cost, toUInt64(intDiv(toUInt128(cost) * (ifNull(use, 0) + blind),
      greatest(part, 1)))), nanos, held, used, unseens) AS nanos_not_unused
  FROM (
    SELECT h.*, arrayEnumerateDense(kinds, run_ids, attempts, owners, accounts) AS places, p.version AS money_version,
      p.price_id AS price_id, p.currency AS currency, p.bill AS bill, p.costs AS costs
    FROM (SELECT *, accounts FROM {generation}.node_hours FINAL) AS h
    INNER JOIN (SELECT * FROM {generation}.node_hour_prices FINAL) AS p
      ON p.node_id = h.node_id AND p.hour = h.hour AND p.lines_version = h.version
  )
)
SETTINGS max_partitions_per_insert_block = 0;

DROP TABLE {generation}.node_hour_prices;
