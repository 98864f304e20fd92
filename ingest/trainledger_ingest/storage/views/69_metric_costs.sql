-- What a run had cost when it logged a point: the hours before, and of that hour the part of the run's time in it that was
-- over. One row is a point that is better than all before it, over all ranks and attempts.
-- One row: a run, a metric and an improvement of its best value; both goals where none was set.
CREATE OR REPLACE VIEW {views}.metric_costs (
  run_id UUID COMMENT 'the run',
  key String COMMENT 'the metric',
  goal String COMMENT 'min or max',
  is_set Bool COMMENT 'whether define_metric set this goal; otherwise there are rows for both',
  step Int64 COMMENT 'step of the point',
  at DateTime64(6, 'UTC') COMMENT 'when it was logged, UTC',
  value Float64 COMMENT 'the value: better than all before it',
  gain Nullable(Float64) COMMENT 'by how much it is better than the best before; NULL for the first',
  cost_so_far Nullable(Decimal(38, 9)) COMMENT 'money for the run up to then; NULL while a part has no price',
  cost_since Nullable(Decimal(38, 9)) COMMENT 'of this, money since the improvement before, or since its start',
  cost_per_unit Nullable(Float64) COMMENT 'money for a gain of 1: cost_since / gain; NULL for the first',
  currency Nullable(String) COMMENT 'ISO 4217; NULL without a price'
) AS
SELECT run_id, key, goal, is_set, step, at, value, gain,
  CAST(toDecimal128(nano, 9) / 1000000000 AS Nullable(Decimal(38, 9))) AS cost_so_far,
  CAST(toDecimal128(nano - ifNull(before_nano, if(isNull(nano), NULL, toInt256(0))), 9) / 1000000000 AS Nullable(Decimal(38, 9)))
    AS cost_since,
  if(gain > 0, toFloat64(cost_since) / gain, NULL) AS cost_per_unit, currency
FROM (
  SELECT run_id, key, goal, is_set, step, at, value, gain, currency, nano,
    if(row_number() OVER improvements = 1, NULL, lagInFrame(nano) OVER improvements) AS before_nano
  FROM (
    SELECT i.run_id AS run_id, i.key AS key, i.goal AS goal, i.is_set AS is_set, i.step AS step, i.at AS at,
      i.value AS value, i.gain AS gain, c.money AS currency,
      if(isNull(c.money) OR arrayExists(h -> h.1 <= i.at AND isNull(h.2), c.hours), NULL, arraySum(h -> multiIf(
        h.1 > i.at, toInt256(0),
        addHours(h.1, 1) <= i.at, toInt256(assumeNotNull(h.2)),
        intDiv(toInt256(assumeNotNull(h.2)) * greatest(0, least(dateDiff('microsecond', greatest(toDateTime64(h.1, 6, 'UTC'),
          c.began), i.at), dateDiff('microsecond', greatest(toDateTime64(h.1, 6, 'UTC'), c.began), least(addHours(
          toDateTime64(h.1, 6, 'UTC'), 1), c.ended)))), greatest(1, dateDiff('microsecond', greatest(toDateTime64(h.1, 6,
          'UTC'), c.began), least(addHours(toDateTime64(h.1, 6, 'UTC'), 1), c.ended))))), c.hours)) AS nano
    FROM (
      SELECT run_id, key, if(sign > 0, 'max', 'min') AS goal, is_set, step, at, value,
        if(isNull(best), NULL, sign * value - best) AS gain
      FROM (
        SELECT p.run_id AS run_id, toString(p.key) AS key, p.step AS step, p.at AS at, p.value AS value, sign,
          g.goal IS NOT NULL AS is_set,
          max(toNullable(sign * p.value)) OVER (PARTITION BY p.run_id, p.key, sign ORDER BY p.at, p.step, p.value
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS best
        FROM {homed}points AS p
        LEFT ANY JOIN (SELECT run_id, key, goal FROM {generation}.metric_goals FINAL) AS g ON g.run_id = p.run_id AND g.key = p.key
        ARRAY JOIN multiIf(g.goal = 'max', [1], g.goal = 'min', [-1], [1, -1]) AS sign
        WHERE isFinite(p.value)
      ) WHERE isNull(best) OR sign * value > best
    ) AS i
    LEFT JOIN (
      SELECT l.run_id AS run_id, l.money AS money, l.hours AS hours, ifNull(r.started_at, l.hours[1].1) AS began,
        coalesce(r.ended_at, r.last_event_at) AS ended
      FROM (
        SELECT d.run_id AS run_id, any(d.money) AS money, arraySort(groupArray((d.usage_hour, d.nano))) AS hours FROM (
          SELECT assumeNotNull(run_id) AS run_id, usage_hour, any(currency) AS money,
            if(countIf(cost IS NULL) > 0 OR uniqExact(currency) > 1, NULL, toInt256(sum(cost) * 1000000000)) AS nano
          FROM {views}.cost_lines WHERE kind = 'run' GROUP BY run_id, usage_hour
        ) AS d GROUP BY run_id HAVING uniqExact(d.money) <= 1
      ) AS l
      LEFT ANY JOIN (SELECT run_id, started_at, ended_at, last_event_at FROM {generation}.run_states FINAL) AS r ON r.run_id = l.run_id
    ) AS c ON c.run_id = i.run_id
  )
  WINDOW improvements AS (PARTITION BY run_id, key, goal ORDER BY at, step, value ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
);
