-- By the rules of `show` (docs/ranks.md): a rank that is 5 % slower than the median, or one that is the last in half of the
-- steps by 5 % of a step. Of several metrics the one that most ranks logged, then the one with most steps, counts.
-- What a rank costs is the cost of its attempt on its node, by equal parts of the ranks there.
-- One row: a rank that waited for the slowest rank of its attempt, as far as the newest 1,000 steps tell.
CREATE OR REPLACE VIEW {views}.straggler_costs (
  run_id UUID COMMENT 'the run',
  attempt UInt16 COMMENT 'attempt of the run, from 1',
  key String COMMENT 'the metric whose points are taken for the ends of steps',
  rank UInt32 COMMENT 'the rank that waited',
  node_id String COMMENT 'its node',
  straggler UInt32 COMMENT 'the rank that it waited for',
  straggler_node String COMMENT 'the node of that',
  evidence String COMMENT 'slower steps (it would have waited that long in step), or late (it was the last, against ranks of its node)',
  wait_pct Float64 COMMENT 'part of its time that the rank waited, percent',
  cost Nullable(Decimal(38, 9)) COMMENT 'money for the rank so far; NULL without a price',
  cost_waited Nullable(Decimal(38, 9)) COMMENT 'of this, money for waiting: an estimate, as if all steps were like the newest',
  currency Nullable(String) COMMENT 'ISO 4217; NULL without a price'
) AS
SELECT s.run_id AS run_id, s.attempt AS attempt, s.key AS key, s.rank AS rank, s.node_id AS node_id, s.straggler AS straggler,
  s.straggler_node AS straggler_node, s.evidence AS evidence, s.wait_ppm / 10000 AS wait_pct,
  CAST(toDecimal128(intDiv(toInt256(c.nano), s.mates), 9) / 1000000000 AS Nullable(Decimal(38, 9))) AS cost,
  CAST(toDecimal128(intDiv(toInt256(c.nano) * s.wait_ppm, toInt256(s.mates) * 1000000), 9) / 1000000000
    AS Nullable(Decimal(38, 9))) AS cost_waited,
  c.money AS currency
FROM (
  SELECT run_id, attempt, key, one.1 AS rank, one.2 AS node_id, worst.1 AS straggler, worst.2 AS straggler_node, evidence,
    arrayCount(other -> other.2 = one.2, ranks) AS mates,
    toInt64(round(1000000 * if(evidence = 'late', lag_s / worst.3, greatest(0, 1 - one.3 / worst.3)))) AS wait_ppm
  FROM (
    SELECT run_id, attempt, key, ranks, slowest.4 >= 5 AS is_slower,
      arraySort(r -> (-r.4, r.1), ranks)[1] AS slowest, arraySort(r -> (-r.6, r.1), ranks)[1] AS last,
      if(is_slower, slowest, last) AS worst, if(is_slower, 'slower steps', 'late') AS evidence,
      arrayMap(r -> r.5, arrayFilter(r -> r.2 = last.2 AND r.1 != last.1, ranks)) AS mates_late,
      last.5 - if(empty(mates_late), 0, arrayReduce('quantileExactInclusive(0.5)', mates_late)) AS lag_s
    FROM (
      SELECT run_id, attempt, key, arraySort(groupArray((rank, node_id, ifNull(step_s, 0), ifNull(slower_pct, 0),
        ifNull(late_s, 0), ifNull(last_share, 0)))) AS ranks, max(steps) AS most_steps
      FROM {views}.rank_steps GROUP BY run_id, attempt, key
      ORDER BY length(ranks) DESC, most_steps DESC, key LIMIT 1 BY run_id, attempt
    )
  )
  ARRAY JOIN ranks AS one
  WHERE one.1 != worst.1 AND worst.3 > 0 AND (is_slower OR (worst.6 >= 0.5 AND lag_s / worst.3 >= 0.05 AND lag_s / worst.3 < 1))
) AS s
LEFT JOIN (
  SELECT assumeNotNull(run_id) AS run_id, assumeNotNull(attempt) AS attempt, node_id, currency AS money,
    toInt256(sumOrNull(cost) * 1000000000) AS nano
  FROM {views}.cost_lines WHERE kind = 'run' AND cost IS NOT NULL GROUP BY run_id, attempt, node_id, money
) AS c ON c.run_id = s.run_id AND c.attempt = s.attempt AND c.node_id = s.node_id;
