-- Money is exact: costs were dealt in 10^-9 of the currency when the node-hour was priced, so that the lines of
-- a node-hour sum to its bill; these views only add them up.

-- Internal. A node-hour with its price. One 64-bit key joins in half the time of three columns; the columns are compared
-- after it, so that two node-hours of one key could at worst be shown without a price, never with another's.
CREATE OR REPLACE VIEW {generation}.priced_node_hours AS
SELECT h.* EXCEPT (join_key),
  p.node_id = h.node_id AND p.hour = h.hour AND p.lines_version = h.version AS has_price,
  if(has_price, p.price_id, NULL) AS price_id, if(has_price, CAST(p.currency AS Nullable(String)), NULL) AS currency,
  if(has_price, p.bill, NULL) AS bill,
  arrayResize(if(has_price, p.costs, []), length(h.kinds), CAST(NULL AS Nullable(Decimal(38, 9)))) AS costs
FROM (SELECT *, cityHash64(node_id, hour, version) AS join_key FROM {generation}.node_hours FINAL) AS h
LEFT ANY JOIN (
  SELECT node_id, hour, lines_version, price_id, currency, bill, costs, cityHash64(node_id, hour, lines_version) AS join_key
  FROM {generation}.node_hour_money FINAL
) AS p ON p.join_key = h.join_key;

-- One row: a node-hour and who held a part of it.
CREATE OR REPLACE VIEW {views}.cost_lines (
  usage_hour DateTime('UTC') COMMENT 'start of the hour, UTC',
  node_id String COMMENT 'the node',
  kind String COMMENT 'run, untracked, idle, system or unknown',
  run_id Nullable(UUID) COMMENT 'the run; NULL unless kind is run',
  attempt Nullable(UInt16) COMMENT 'attempt of the run',
  owner Nullable(String) COMMENT 'user who owned the processes',
  team Nullable(String) COMMENT 'the team that pays',
  project Nullable(String) COMMENT 'project of the run',
  experiment Nullable(String) COMMENT 'experiment of the run',
  resource String COMMENT 'host, or a device',
  held_hours Float64 COMMENT 'hours of the whole node that this line held',
  used_hours Nullable(Float64) COMMENT 'of the held hours used; NULL where not measured',
  share Float64 COMMENT 'held part of the presence of the node in this hour, 0 to 1',
  cost Nullable(Decimal(38, 9)) COMMENT 'money; NULL without a price',
  currency Nullable(String) COMMENT 'ISO 4217; NULL without a price',
  price_id Nullable(UUID) COMMENT 'the price that was used',
  evidence String COMMENT 'where the share is known from',
  revision UInt64 COMMENT 'version of the node-hour; higher is newer',
  device_hours Nullable(Float64) COMMENT 'hours of the device that this line held; NULL for the host',
  declared_team Nullable(String) COMMENT 'the team that the run declared; it pays only if its owner may use it',
  payer_evidence Nullable(String) COMMENT 'where the paying team is known from; NULL without one',
  unknown_hours Float64 COMMENT 'of the held hours those whose use was not measured',
  unused_hours Float64 COMMENT 'of the held hours those that were measured as not used',
  cost_used Nullable(Decimal(38, 9)) COMMENT 'of the cost, money for what was measured as used; the three sum to it exactly',
  cost_unused Nullable(Decimal(38, 9)) COMMENT 'of the cost, money for what was measured as not used',
  cost_unknown Nullable(Decimal(38, 9)) COMMENT 'of the cost, money for what was not measured',
  account Nullable(String) COMMENT 'account:NAME of a scheduler or namespace:NAME of a pod that the job was for; NULL outside of one',
  line UInt32 COMMENT 'number of the line in its node-hour, from 1',
  held_share UInt64 COMMENT 'held millionths of microseconds of the node; the lines of a node-hour sum to its presence'
) AS
SELECT l.usage_hour AS usage_hour, l.node_id AS node_id, l.kind AS kind, l.run_id AS run_id,
  if(l.kind = 'run', toNullable(l.attempt), NULL) AS attempt, coalesce(l.owner, r.user) AS owner,
  {paying_team: t.1 <= l.usage_hour} AS team,
  r.project AS project, r.experiment AS experiment, l.resource AS resource,
  l.held / 3.6e15 AS held_hours, l.used / 3.6e15 AS used_hours,
  l.held / (l.presence_us * 1e6) AS share, l.cost AS cost, l.currency AS currency,
  l.price_id AS price_id, l.evidence AS evidence, l.revision AS revision, l.device_hours AS device_hours,
  r.team AS declared_team,
  multiIf(empty(teams), if(r.team IS NULL, NULL, 'declared team'), r.team IS NULL,
    (if(l.account IS NULL, concat('owner ', o.name),
      replaceOne(replaceOne(l.account, 'account:', 'slurm account '), 'namespace:', 'pod namespace ')) AS payer_name),
    has(teams, ifNull(r.team, '')), concat('declared team, which ', payer_name, ' may use'),
    concat(payer_name, ' may not use the declared team ', r.team)) AS payer_evidence,
  l.unseen / 3.6e15 AS unknown_hours,
  -- Of whole numbers: a difference of floats would leave a rest.
  (toInt64(l.held) - toInt64(ifNull(l.used, 0)) - toInt64(l.unseen)) / 3.6e15 AS unused_hours,
  -- Cut at whole 10^-9 along used, unknown, not used: a part that is nothing gets nothing, and the three sum to the cost.
  CAST(toDecimal128(if(l.held = 0, 0, intDiv(toInt256(l.cost * 1000000000) * ifNull(l.used, 0), l.held)), 9) / 1000000000
    AS Nullable(Decimal(38, 9))) AS cost_used,
  l.cost - cost_used - cost_unknown AS cost_unused,
  CAST(toDecimal128(if(l.held = 0, toInt256(l.cost * 1000000000),
    intDiv(toInt256(l.cost * 1000000000) * (ifNull(l.used, 0) + l.unseen), l.held)), 9) / 1000000000
    AS Nullable(Decimal(38, 9))) - cost_used AS cost_unknown,
  l.account AS account, l.line AS line, l.held AS held_share
FROM (
  SELECT h.hour AS usage_hour, toString(h.node_id) AS node_id, toString(kind) AS kind, run_id, attempt, owner, account,
    resource, held, used, evidence, cost, h.presence_us AS presence_us, h.version AS revision, unseen, line,
    if(resource = 'host' OR held_of_device = 0, NULL, h.presence_us / 3.6e9 * held / held_of_device) AS device_hours,
    h.price_id AS price_id, h.currency AS currency
  FROM (
    -- The lines of a device sum to the time it was there, as those of the node do to the node's.
    SELECT *, arrayEnumerateDense(resources) AS places,
      arrayMap(k -> arraySum((x, place) -> if(place = k, x, 0), held, places), range(1, arrayMax(places) + 1)) AS sums,
      arrayMap(place -> sums[place], places) AS held_of_devices,
      if(empty(unseen), arrayMap((kind, part, use) -> toUInt64(if(kind = 'idle', 0, part - ifNull(use, 0))), kinds, held, used),
        unseen) AS unseens
    FROM {generation}.priced_node_hours
  ) AS h
  ARRAY JOIN h.kinds AS kind, h.run_ids AS run_id, h.attempts AS attempt, h.owners AS owner, h.resources AS resource,
    h.held AS held, h.used AS used, h.evidence AS evidence, h.held_of_devices AS held_of_device,
    h.costs AS cost, h.unseens AS unseen, h.accounts AS account, arrayEnumerate(h.kinds) AS line
) AS l
LEFT ANY JOIN (
  SELECT toNullable(run_id) AS run_id, toNullable(project) AS project, experiment, team, user
  FROM {generation}.run_states FINAL
) AS r ON r.run_id = l.run_id
LEFT ANY JOIN {generation}.owner_terms AS o ON o.name = coalesce(l.account, l.owner, r.user);

-- One row: a node and a day.
CREATE OR REPLACE VIEW {views}.node_bills (
  day Date COMMENT 'UTC day',
  node_id String COMMENT 'the node',
  present_s Float64 COMMENT 'seconds the node was there',
  observed_s Float64 COMMENT 'of these, seconds observed by the agent',
  bill Nullable(Decimal(38, 9)) COMMENT 'money: price x presence; NULL without a price',
  run Nullable(Decimal(38, 9)) COMMENT 'of the bill, money for runs',
  untracked Nullable(Decimal(38, 9)) COMMENT 'money for processes without a run',
  idle Nullable(Decimal(38, 9)) COMMENT 'money for what nobody held',
  system Nullable(Decimal(38, 9)) COMMENT 'money for the system',
  unknown Nullable(Decimal(38, 9)) COMMENT 'money for time that was not observed',
  difference Nullable(Decimal(38, 9)) COMMENT 'money: bill less its parts, always 0',
  currency Nullable(String) COMMENT 'ISO 4217; NULL without a price'
) AS
SELECT day, node_id, present_s, observed_s, if(priced, total_bill, NULL) AS bill,
  if(priced, parts[1], NULL) AS run, if(priced, parts[2], NULL) AS untracked, if(priced, parts[3], NULL) AS idle,
  if(priced, parts[4], NULL) AS system, if(priced, parts[5], NULL) AS unknown,
  if(priced, total_bill - parts[1] - parts[2] - parts[3] - parts[4] - parts[5], NULL) AS difference,
  currency
FROM (
  SELECT toDate(h.hour, 'UTC') AS day, toString(h.node_id) AS node_id, h.currency AS currency,
    isNotNull(currency) AS priced, sum(h.presence_us) / 1e6 AS present_s, sum(h.observed_us) / 1e6 AS observed_s,
    sum(ifNull(h.bill, toDecimal128(0, 9))) AS total_bill,
    sumForEach(arrayMap(k -> arraySum(arrayMap((kind, cost) -> if(kind = k, ifNull(cost, toDecimal128(0, 9)),
      toDecimal128(0, 9)), h.kinds, h.costs)), ['run', 'untracked', 'idle', 'system', 'unknown'])) AS parts
  FROM {generation}.priced_node_hours AS h
  GROUP BY day, node_id, currency
);

-- One row: a node and an hour.
CREATE OR REPLACE VIEW {views}.node_hour_bills (
  usage_hour DateTime('UTC') COMMENT 'start of the hour, UTC',
  node_id String COMMENT 'the node',
  present_s Float64 COMMENT 'seconds of the hour the node was there',
  observed_s Float64 COMMENT 'of these, seconds observed by the agent',
  bill Nullable(Decimal(38, 9)) COMMENT 'money: price x presence; NULL without a price',
  currency Nullable(String) COMMENT 'ISO 4217; NULL without a price',
  price_id Nullable(UUID) COMMENT 'the price that was used'
) AS
SELECT hour AS usage_hour, toString(node_id) AS node_id, presence_us / 1e6 AS present_s,
  observed_us / 1e6 AS observed_s, bill, CAST(currency AS Nullable(String)) AS currency, price_id
FROM {generation}.node_hour_money FINAL;
