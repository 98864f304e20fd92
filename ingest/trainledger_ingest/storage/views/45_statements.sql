-- A month counts as closed by the first event that closed it.
-- One row: a closed month.
CREATE OR REPLACE VIEW {views}.cost_periods (
  period String COMMENT 'the month, YYYY-MM, UTC',
  statement_id UUID COMMENT 'its statement',
  closed_at DateTime64(6, 'UTC') COMMENT 'when it was closed, UTC',
  closed_by String COMMENT 'who closed it',
  totals Map(String, Decimal(38, 9)) COMMENT 'money of its lines by currency',
  adjusted Map(String, Decimal(38, 9)) COMMENT 'money of the differences of earlier months that it books, by currency',
  unpriced_hours Float64 COMMENT 'node-hours that had no price',
  lines UInt64 COMMENT 'lines of the statement',
  adjustments UInt64 COMMENT 'differences of earlier months that it books',
  digest String COMMENT 'SHA-256 of lines and adjustments',
  note Nullable(String) COMMENT 'why',
  ordinal UInt64 COMMENT 'grows in the order in which currency_rates were set and months were closed: rates behind it are not of this month'
) AS
SELECT JSONExtractString(body, 'period') AS period, toUUID(JSONExtractString(body, 'statement_id')) AS statement_id,
  at AS closed_at, JSONExtractString(body, 'set_by') AS closed_by,
  CAST((arrayMap(t -> JSONExtractString(t, 'currency'), JSONExtractArrayRaw(body, 'totals')),
    arrayMap(t -> toDecimal128(JSONExtractString(t, 'amount'), 9), JSONExtractArrayRaw(body, 'totals')))
    AS Map(String, Decimal(38, 9))) AS totals,
  CAST((arrayMap(t -> JSONExtractString(t, 'currency'), JSONExtractArrayRaw(body, 'adjusted')),
    arrayMap(t -> toDecimal128(JSONExtractString(t, 'amount'), 9), JSONExtractArrayRaw(body, 'adjusted')))
    AS Map(String, Decimal(38, 9))) AS adjusted,
  JSONExtractFloat(body, 'unpriced_hours') AS unpriced_hours, JSONExtractUInt(body, 'lines') AS lines,
  JSONExtractUInt(body, 'adjustments') AS adjustments, JSONExtractString(body, 'digest') AS digest,
  JSONExtract(body, 'note', 'Nullable(String)') AS note, offset * 65536 + idx AS ordinal
FROM {generation}.admin_events WHERE type = 'period_closed' ORDER BY offset LIMIT 1 BY period;

-- One row: a line of a closed month, as it was when the month was closed.
CREATE OR REPLACE VIEW {views}.statement_lines (
  period String COMMENT 'the month, YYYY-MM, UTC',
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
  revision UInt64 COMMENT 'version of the node-hour that was closed',
  device_hours Nullable(Float64) COMMENT 'hours of the device that this line held; NULL for the host',
  declared_team Nullable(String) COMMENT 'the team that the run declared',
  payer_evidence Nullable(String) COMMENT 'where the paying team was known from; NULL without one',
  statement_id UUID COMMENT 'the statement',
  account Nullable(String) COMMENT 'account:NAME of a scheduler or namespace:NAME of a pod that the job was for; NULL outside of one'
) AS
SELECT period, usage_hour, node_id, kind, run_id, attempt, owner, team, project, experiment, resource, held_hours,
  used_hours, share, cost, currency, price_id, evidence, revision, device_hours, declared_team,
  payer_evidence, statement_id, account
FROM {generation}.statement_lines WHERE (period, statement_id) IN (SELECT period, statement_id FROM {views}.cost_periods);

-- One row: a node-hour of a closed month; the lines of the statement sum to its bill.
CREATE OR REPLACE VIEW {views}.statement_bills (
  period String COMMENT 'the month, YYYY-MM, UTC',
  usage_hour DateTime('UTC') COMMENT 'start of the hour, UTC',
  node_id String COMMENT 'the node',
  present_s Float64 COMMENT 'seconds of the hour the node was there',
  bill Nullable(Decimal(38, 9)) COMMENT 'money: price x presence; NULL without a price',
  currency Nullable(String) COMMENT 'ISO 4217; NULL without a price',
  statement_id UUID COMMENT 'the statement'
) AS
SELECT period, usage_hour, node_id, presence_us / 1e6 AS present_s, bill, currency, statement_id
FROM {generation}.statement_hours WHERE (period, statement_id) IN (SELECT period, statement_id FROM {views}.cost_periods);

-- Money rows come from closed_hours, which the worker derives (cost/closed_hours.py), and count for whoever the books
-- have the line on; a line that is in no book, for whoever would have paid by the owners known at the last closing.
-- What is then left between the books and the newest lines is a change of who pays: it must sum to 0 over
-- the teams of a line, otherwise the derived rows are not done yet and nothing is said.
-- One row: a difference to a closed month, and why.
CREATE OR REPLACE VIEW {views}.cost_adjustments (
  period String COMMENT 'the closed month, YYYY-MM, UTC',
  usage_hour DateTime('UTC') COMMENT 'start of the hour, UTC',
  node_id String COMMENT 'the node',
  team Nullable(String) COMMENT 'the team that pays or is paid back',
  project Nullable(String) COMMENT 'project of the run',
  run_id Nullable(UUID) COMMENT 'the run; NULL for other holders',
  old_cost Nullable(Decimal(38, 9)) COMMENT 'money before; NULL without a price',
  new_cost Nullable(Decimal(38, 9)) COMMENT 'money after; NULL without a price',
  delta Decimal(38, 9) COMMENT 'money: new less old',
  currency String COMMENT 'ISO 4217',
  cause String COMMENT 'late, run, price, owner, presence or policy',
  event_ref String COMMENT 'the event: type, topic/partition/offset',
  booked_at DateTime64(6, 'UTC') COMMENT 'when it was learned, UTC',
  booked_by String COMMENT 'who set it, or the node that told it',
  booked_in String COMMENT 'the month that books it, YYYY-MM',
  is_booked Bool COMMENT 'whether that month is closed, so that the row stands for ever',
  kind String COMMENT 'run, untracked, idle, system or unknown',
  owner Nullable(String) COMMENT 'user who owned the processes',
  experiment Nullable(String) COMMENT 'experiment of the run',
  account Nullable(String) COMMENT 'account:NAME of a scheduler or namespace:NAME of a pod that the job was for; NULL outside of one'
) AS
WITH
  (SELECT formatDateTime(addMonths(toDateOrZero(concat(max(period), '-01')), 1), '%Y-%m') FROM {views}.cost_periods) AS open_month,
  (SELECT max(closed_at) FROM {views}.cost_periods) AS last_closed_at,
  -- What is behind it in the log was not known at the last closing.
  (SELECT argMax(end, (offset, idx)) FROM (
    SELECT arrayMax(arrayMap(x -> if(JSONExtractString(x, 'topic') = 'trainledger.admin', JSONExtractUInt(x, 'end'), 0),
      JSONExtractArrayRaw(body, 'positions'))) AS end, offset, idx
    FROM {generation}.admin_events WHERE type = 'period_closed'
    ORDER BY offset, idx LIMIT 1 BY JSONExtractString(body, 'period')
  )) AS known_end,
  booked AS (
    SELECT * FROM {generation}.statement_adjustments
    WHERE statement_id IN (SELECT statement_id FROM {views}.cost_periods)
  ),
  payers AS (
    SELECT usage_hour, node_id, holder, argMax(payer, balance) AS payer, true AS is_known
    FROM (
      SELECT usage_hour, node_id, toJSONString(tuple(kind, run_id, owner, account)) AS holder,
        tuple(team, project, experiment) AS payer, sum(amount) AS balance
      FROM (
        SELECT usage_hour, toString(node_id) AS node_id, toString(kind) AS kind, run_id, owner, account, team, project,
          experiment, ifNull(cost, toDecimal128(0, 9)) AS amount
        FROM {views}.statement_lines
        UNION ALL
        SELECT usage_hour, toString(node_id) AS node_id, toString(kind) AS kind, run_id, owner, account, team, project,
          experiment, delta AS amount
        FROM booked
      )
      WHERE (node_id, usage_hour) IN (SELECT toString(node_id), hour FROM {generation}.closed_hours WHERE notEmpty(deltas))
      GROUP BY usage_hour, node_id, holder, payer
    )
    GROUP BY usage_hour, node_id, holder
  ),
  fresh AS (
    SELECT formatDateTime(l.usage_hour, '%Y-%m', 'UTC') AS period, l.usage_hour AS usage_hour, l.node_id AS node_id,
      l.kind AS kind, l.run_id AS run_id, l.owner AS owner, l.account AS account,
      if(b.is_known, b.payer.1, {paying_team: t.1 <= l.usage_hour AND t.2 < known_end}) AS team,
      if(b.is_known, b.payer.2, r.project) AS project, if(b.is_known, b.payer.3, r.experiment) AS experiment,
      l.old_cost AS old_cost, l.new_cost AS new_cost, l.delta AS delta,
      l.currency AS currency, l.cause AS cause, l.event_ref AS event_ref, l.at AS booked_at, l.by AS booked_by
    FROM (
      SELECT d.hour AS usage_hour, toString(d.node_id) AS node_id, toString(kind) AS kind, run_id, owner, account, currency,
        old_cost, new_cost, delta, toString(cause) AS cause, event_ref, at, by,
        toJSONString(tuple(kind, run_id, owner, account)) AS holder
      FROM (
        SELECT * FROM {generation}.closed_hours FINAL
        WHERE closes = (SELECT count() FROM {views}.cost_periods)
      ) AS d
      INNER JOIN (SELECT node_id, hour, version FROM {generation}.node_hours FINAL) AS h
        ON h.node_id = d.node_id AND h.hour = d.hour AND h.version = d.version
      ARRAY JOIN d.kinds AS kind, d.run_ids AS run_id, d.owners AS owner, d.currencies AS currency,
        d.old_costs AS old_cost, d.new_costs AS new_cost, d.deltas AS delta, d.causes AS cause,
        d.event_refs AS event_ref, d.booked_at AS at, d.booked_by AS by, d.accounts AS account
    ) AS l
    LEFT ANY JOIN (
      SELECT toNullable(run_id) AS run_id, toNullable(project) AS project, experiment, team
      FROM {generation}.run_states FINAL
    ) AS r ON r.run_id = l.run_id
    LEFT ANY JOIN {generation}.owner_terms AS o ON o.name = coalesce(l.account, l.owner)
    LEFT ANY JOIN payers AS b ON b.usage_hour = l.usage_hour AND b.node_id = l.node_id AND b.holder = l.holder
  ),
  moved AS (
    SELECT period, usage_hour, node_id, kind, run_id, owner, account, team, project, experiment, currency,
      sum(before) AS old_cost, sum(after) AS new_cost, new_cost - old_cost AS delta,
      sum(delta) OVER (PARTITION BY usage_hour, node_id, kind, run_id, owner, account, currency) AS left_over
    FROM (
      SELECT period, usage_hour, node_id, kind, run_id, owner, account, team, project, experiment,
        assumeNotNull(currency) AS currency, assumeNotNull(cost) AS before, toDecimal128(0, 9) AS after
      FROM {views}.statement_lines WHERE cost IS NOT NULL
      UNION ALL
      SELECT period, usage_hour, node_id, kind, run_id, owner, account, team, project, experiment, currency, delta AS before,
        toDecimal128(0, 9) AS after FROM booked
      UNION ALL
      SELECT period, usage_hour, node_id, kind, run_id, owner, account, team, project, experiment, currency, delta AS before,
        toDecimal128(0, 9) AS after FROM fresh
      UNION ALL
      SELECT formatDateTime(usage_hour, '%Y-%m', 'UTC') AS period, usage_hour, node_id, kind, run_id, owner, account, team,
        project, experiment, assumeNotNull(currency) AS currency, toDecimal128(0, 9) AS before,
        assumeNotNull(cost) AS after
      FROM {views}.cost_lines
      WHERE cost IS NOT NULL AND period IN (SELECT period FROM {views}.cost_periods)
    )
    GROUP BY period, usage_hour, node_id, kind, run_id, owner, account, team, project, experiment, currency
  )
SELECT period, usage_hour, node_id, team, project, run_id, old_cost, new_cost, delta, currency, cause, event_ref,
  booked_at, booked_by, booked_in, true AS is_booked, kind, owner, experiment, account
FROM booked
UNION ALL
SELECT period, usage_hour, node_id, team, project, run_id, old_cost, new_cost, delta, currency, cause, event_ref,
  booked_at, booked_by, assumeNotNull(open_month) AS booked_in, false AS is_booked, kind, owner, experiment, account
FROM fresh
UNION ALL
SELECT m.period AS period, m.usage_hour AS usage_hour, m.node_id AS node_id, m.team AS team, m.project AS project,
  m.run_id AS run_id, toNullable(m.old_cost) AS old_cost, toNullable(m.new_cost) AS new_cost, m.delta AS delta,
  m.currency AS currency, 'owner' AS cause,
  ifNull(if((o.newest_at > assumeNotNull(last_closed_at)) AS is_by_owner, o.newest_ref, concat('run ', toString(m.run_id))), '') AS event_ref,
  if(is_by_owner, o.newest_at, greatest(w.last_event_at, assumeNotNull(last_closed_at))) AS booked_at,
  if(is_by_owner, o.newest_by, ifNull(w.user, '')) AS booked_by, assumeNotNull(open_month) AS booked_in, false AS is_booked,
  m.kind AS kind, m.owner AS owner, m.experiment AS experiment, m.account AS account
FROM (SELECT * FROM moved WHERE delta != 0 AND left_over = 0) AS m
LEFT ANY JOIN (
  SELECT toNullable(run_id) AS run_id, last_event_at, user FROM {generation}.run_states FINAL
) AS w ON w.run_id = m.run_id
LEFT ANY JOIN {generation}.owner_terms AS o ON o.name = coalesce(m.account, m.owner);
