-- The newest 1,000 steps of each metric, as far as a point of each rank says when it got there.
-- One row: a run, an attempt, a metric and a rank, of launches with several ranks.
CREATE OR REPLACE VIEW {views}.rank_steps (
  run_id UUID COMMENT 'the run',
  attempt UInt16 COMMENT 'attempt of the run, from 1',
  key String COMMENT 'the metric whose points are taken for the ends of steps',
  rank UInt32 COMMENT 'rank in the launch',
  node_id String COMMENT 'its node',
  ranks UInt64 COMMENT 'ranks that logged the metric',
  steps UInt64 COMMENT 'steps that are looked at',
  step_s Nullable(Float64) COMMENT 'median time of a step of this rank, seconds; NULL with one point',
  slower_pct Nullable(Float64) COMMENT 'by how much that is more than the median of the ranks, percent; below 0 is faster',
  late_s Nullable(Float64) COMMENT 'median time by which it logged a step after the first rank did, seconds; clocks of nodes differ',
  last_share Nullable(Float64) COMMENT 'share of the steps that several ranks logged in which it was the last, 0 to 1'
) AS
SELECT run_id, attempt, key, rank, node_id, ranks, steps, step_s,
  if(middle_s > 0, 100 * (step_s / middle_s - 1), NULL) AS slower_pct, late_s, last_share
FROM (
  SELECT run_id, attempt, key, rank, node_id, steps, late_s, last_share, step_s,
    count() OVER (PARTITION BY run_id, attempt, key) AS ranks,
    quantileExactInclusive(0.5)(step_s) OVER (PARTITION BY run_id, attempt, key) AS middle_s
  FROM (
    SELECT run_id, attempt, key, rank, any(node_id) AS node_id, count() AS steps,
      quantileExactInclusiveIf(0.5)(toNullable(took_s), took_s > 0) AS step_s,
      quantileExactInclusiveIf(0.5)(toNullable((at_us - first_us) / 1e6), others > 1) AS late_s,
      if(countIf(others > 1) > 0, countIf(others > 1 AND at_us = last_us) / countIf(others > 1), NULL) AS last_share
    FROM (
      SELECT run_id, attempt, key, rank, node_id, step, at_us, took_s,
        min(at_us) OVER (PARTITION BY run_id, attempt, key, step) AS first_us,
        max(at_us) OVER (PARTITION BY run_id, attempt, key, step) AS last_us,
        count() OVER (PARTITION BY run_id, attempt, key, step) AS others
      FROM (
        SELECT a.run_id AS run_id, w.attempt AS attempt, a.key AS key, assumeNotNull(w.rank) AS rank, w.node_id AS node_id,
          reached.1 AS step, reached.2 AS at_us, reached.3 AS took_s
        FROM (
          SELECT run_id, key, writer_id, arraySort(groupUniqArray(tuple(step, at_us))) AS sorted,
            -- A step that took several counts as their mean.
            arrayMap((now, before, place) -> tuple(now.1, now.2,
              if(place = 1, 0., (now.2 - before.2) / 1e6 / greatest(now.1 - before.1, 1))),
              sorted, arrayPushFront(arrayPopBack(sorted), sorted[1]), arrayEnumerate(sorted)) AS taken
          FROM (
            SELECT p.run_id AS run_id, toString(p.key) AS key, p.writer_id AS writer_id, p.step AS step,
              toUnixTimestamp64Micro(p.at) AS at_us
            FROM {homed}points AS p
            INNER JOIN (SELECT run_id, key, max(step) AS newest FROM {homed}points GROUP BY run_id, key) AS e
              ON e.run_id = p.run_id AND e.key = p.key
            WHERE p.step > e.newest - 1000
          ) GROUP BY run_id, key, writer_id
        ) AS a
        INNER JOIN (
          SELECT writer_id, attempt, rank, toString(node_id) AS node_id FROM {generation}.writer_states FINAL
          WHERE NOT gone AND rank IS NOT NULL AND decides
        ) AS w ON w.writer_id = a.writer_id
        ARRAY JOIN a.taken AS reached
      )
    ) GROUP BY run_id, attempt, key, rank
  )
) WHERE ranks > 1;
