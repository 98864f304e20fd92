-- The lines of a holder, summed before it is asked who pays: reports of whole days read these.
-- One row: a node-hour, and in lists of the same length all who held a part of it.
CREATE OR REPLACE VIEW {views}.node_hour_holders (
  usage_hour DateTime('UTC') COMMENT 'start of the hour, UTC',
  node_id String COMMENT 'the node',
  presence_us UInt64 COMMENT 'microseconds of the hour the node was there',
  currency Nullable(String) COMMENT 'ISO 4217; NULL without a price',
  kinds Array(String) COMMENT 'run, untracked, idle, system or unknown',
  run_ids Array(Nullable(UUID)) COMMENT 'the run; NULL unless the kind is run',
  attempts Array(UInt16) COMMENT 'attempt of the run; 0 unless the kind is run',
  owners Array(Nullable(String)) COMMENT 'owner of the processes as they were seen; NULL where only the run tells it',
  accounts Array(Nullable(String)) COMMENT 'account:NAME of a scheduler or namespace:NAME of a pod that the job was for',
  held_shares Array(UInt64) COMMENT 'held millionths of microseconds of the node; they sum to its presence',
  costs_nano Array(UInt64) COMMENT 'money, 10^-9 of the currency; they sum to the bill; 0 without a price',
  line_shares Array(UInt64) COMMENT 'held millionths of microseconds of each line of view cost_lines, in its order',
  line_places Array(UInt16) COMMENT 'of each line the place of its holder in the lists above, from 1'
) AS
SELECT m.hour AS usage_hour, toString(m.node_id) AS node_id, m.presence_us AS presence_us,
  CAST(m.currency AS Nullable(String)) AS currency, m.holder_kinds AS kinds, m.holder_runs AS run_ids,
  m.holder_attempts AS attempts, m.holder_owners AS owners, m.holder_accounts AS accounts, m.holder_held AS held_shares,
  m.holder_costs AS costs_nano, h.held AS line_shares, m.places AS line_places
FROM (SELECT *, cityHash64(node_id, hour, lines_version) AS join_key FROM {generation}.node_hour_money FINAL) AS m
INNER JOIN (SELECT node_id, hour, version, held, cityHash64(node_id, hour, version) AS join_key
  FROM {generation}.node_hours FINAL) AS h ON h.join_key = m.join_key AND h.hour = m.hour
WHERE h.node_id = m.node_id;

-- One row: a node, a day and a holder of parts of it, with all its hours and resources together.
CREATE OR REPLACE VIEW {views}.cost_days (
  day Date COMMENT 'UTC day',
  node_id String COMMENT 'the node',
  kind String COMMENT 'run, untracked, idle, system or unknown',
  run_id Nullable(UUID) COMMENT 'the run; NULL unless kind is run',
  attempt Nullable(UInt16) COMMENT 'attempt of the run',
  owner Nullable(String) COMMENT 'user who owned the processes',
  team Nullable(String) COMMENT 'the team that pays',
  project Nullable(String) COMMENT 'project of the run',
  experiment Nullable(String) COMMENT 'experiment of the run',
  account Nullable(String) COMMENT 'account:NAME of a scheduler or namespace:NAME of a pod that the job was for; NULL outside of one',
  outcome Nullable(String) COMMENT 'state of the run, or retried for attempts before its last; NULL unless kind is run',
  held_hours Float64 COMMENT 'hours of the whole node that were held',
  used_hours Float64 COMMENT 'of these hours, those that were measured as used',
  unused_hours Float64 COMMENT 'of these hours, those that were measured as not used',
  unknown_hours Float64 COMMENT 'of these hours, those whose use was not measured',
  device_hours Nullable(Float64) COMMENT 'hours of devices that were held; NULL without a device',
  device_used_hours Float64 COMMENT 'of the hours of devices, those that were measured as used',
  device_unknown_hours Float64 COMMENT 'of the hours of devices, those whose use was not measured',
  empty_lines UInt64 COMMENT 'lines of view cost_lines in which nothing was held, as of a run that used no CPU',
  cost Nullable(Decimal(38, 9)) COMMENT 'money; NULL without a price',
  currency Nullable(String) COMMENT 'ISO 4217; NULL without a price',
  cost_used Nullable(Decimal(38, 9)) COMMENT 'of the cost, money for what was measured as used; the three sum to it exactly',
  cost_unused Nullable(Decimal(38, 9)) COMMENT 'of the cost, money for what was measured as not used',
  cost_unknown Nullable(Decimal(38, 9)) COMMENT 'of the cost, money for what was not measured',
  told_owner Nullable(String) COMMENT 'owner of the processes as they were seen; NULL where only the run tells it',
  owners_from DateTime('UTC') COMMENT 'hour, UTC, from which the rules of view owners count that these hours are under; 1970 before the first'
) AS
WITH (SELECT arraySort(groupUniqArray(from_hour)) FROM {views}.owners) AS begins
SELECT l.day AS day, toString(l.node_id) AS node_id, l.kind AS kind, l.run_id AS run_id,
  if(l.kind = 'run', toNullable(l.attempt), NULL) AS attempt, coalesce(l.owner, r.user) AS owner,
  {paying_team: t.1 <= l.owners_from} AS team,
  r.project AS project, r.experiment AS experiment, l.account AS account,
  if(l.kind != 'run', NULL, if(l.attempt < r.attempts, 'retried', toNullable(toString(r.state)))) AS outcome,
  l.held / 3.6e15 AS held_hours, l.used / 3.6e15 AS used_hours,
  (toInt128(l.held) - toInt128(l.used) - toInt128(l.unseen)) / 3.6e15 AS unused_hours, l.unseen / 3.6e15 AS unknown_hours,
  l.device_hours AS device_hours, l.device_used AS device_used_hours, l.device_unseen AS device_unknown_hours,
  l.empty_lines AS empty_lines,
  if(l.currency IS NULL, NULL, CAST(toDecimal128(l.nano, 9) / 1000000000 AS Decimal(38, 9))) AS cost, l.currency AS currency,
  if(l.currency IS NULL, NULL, CAST(toDecimal128(l.nano_used, 9) / 1000000000 AS Decimal(38, 9))) AS cost_used,
  cost - cost_used - cost_unknown AS cost_unused,
  if(l.currency IS NULL, NULL, CAST(toDecimal128(l.nano_unseen, 9) / 1000000000 AS Decimal(38, 9))) AS cost_unknown,
  l.owner AS told_owner, l.owners_from AS owners_from
FROM (
  SELECT toDate(hour, 'UTC') AS day, node_id, kind, run_id, attempt, owner, account,
    CAST(currency AS Nullable(String)) AS currency, owners_from,
    -- A sum of 10^-9 may be beyond 64 bits.
    sum(toInt128(held)) AS held, sum(toInt128(used)) AS used, sum(toInt128(unseen)) AS unseen,
    sumOrNull(device_hours) AS device_hours, sum(device_used) AS device_used, sum(device_unseen) AS device_unseen,
    sum(empty_lines) AS empty_lines, sum(toInt128(cost)) AS nano,
    sum(toInt128(cost_used)) AS nano_used, sum(toInt128(cost_unseen)) AS nano_unseen
  FROM (
    SELECT *, arrayLast(since -> since <= hour, begins) AS owners_from FROM {generation}.node_hour_money FINAL
  )
  ARRAY JOIN holder_kinds AS kind, holder_runs AS run_id, holder_attempts AS attempt, holder_owners AS owner,
    holder_accounts AS account, holder_held AS held, holder_used AS used, holder_unseen AS unseen,
    holder_device_hours AS device_hours, holder_device_used AS device_used, holder_device_unseen AS device_unseen,
    holder_empty_lines AS empty_lines, holder_costs AS cost,
    holder_costs_used AS cost_used, holder_costs_unseen AS cost_unseen
  GROUP BY day, node_id, kind, run_id, attempt, owner, account, currency, owners_from
) AS l
LEFT ANY JOIN (
  SELECT toNullable(run_id) AS run_id, toNullable(project) AS project, experiment, team, user, state, attempts
  FROM {generation}.run_states FINAL
) AS r ON r.run_id = l.run_id
LEFT ANY JOIN {generation}.owner_terms AS o ON o.name = coalesce(l.account, l.owner, r.user);
