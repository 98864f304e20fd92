-- Internal. The processes of newest attempts of which some still live, as far as one would wait for them: those that live,
-- and ranks that ended other than by finishing. `run_seen_at`: when any of them was seen alive last.
CREATE OR REPLACE VIEW {generation}.awaited_writers AS
SELECT run_id, writer_id, attempt, rank, decides, node_id, state, started_at, last_seen_at, run_seen_at FROM (
  SELECT *, max(attempt) OVER (PARTITION BY run_id) AS newest,
    maxIf(last_seen_at, state = 'running') OVER (PARTITION BY run_id, attempt) AS run_seen_at
  FROM {views}.run_writers
  -- One that a rank has crashed of is `crashed` while the other ranks wait for it.
  WHERE role = 'sdk' AND (run_id IN (SELECT run_id FROM {generation}.run_states FINAL WHERE state = 'running')
    OR run_id IN (SELECT run_id FROM {generation}.writer_states FINAL
      WHERE state = 'running' AND decides AND rank IS NOT NULL AND NOT gone))
) WHERE attempt = newest AND run_seen_at > toDateTime64(0, 6, 'UTC')
  AND (state = 'running' OR (decides AND rank IS NOT NULL AND state IN ('failed', 'killed', 'crashed', 'lost')));

-- Internal. How fast each process of a run went that has logged no step for a minute, or of which fewer than all ranks have:
-- the median over the samples of progress, as far as they go back. Not looked at for other runs: to look each minute must
-- cost little where many run.
CREATE OR REPLACE VIEW {generation}.silent_paces AS
SELECT run_id, writer_id, max(step) AS furthest, max(at) AS newest_at,
  arraySort(sample -> sample.1, groupArray((at, step))) AS samples,
  ifNotFinite(arrayReduce('median', arrayFilter(x -> x > 0, arrayMap(
    (newer, older) -> if(newer.2 > older.2, dateDiff('millisecond', older.1, newer.1) / 1000 / (newer.2 - older.2), 0),
    arraySlice(samples, 2), arraySlice(samples, 1, length(samples) - 1)))), 0) AS median_s
FROM {homed}progress_samples
WHERE run_id IN (
  SELECT a.run_id FROM {generation}.awaited_writers AS a
  LEFT ANY JOIN (
    SELECT run_id, writer_id, true AS moves FROM {homed}progress_samples
    WHERE at >= now64(6, 'UTC') - INTERVAL 60 SECOND GROUP BY run_id, writer_id
  ) AS m ON m.run_id = a.run_id AND m.writer_id = a.writer_id
  GROUP BY a.run_id
  HAVING max(m.moves) = 0 OR (uniqExactIf(a.rank, m.moves) < uniqExact(a.rank)
    AND 2 * uniqExactIf(a.rank, m.moves) >= uniqExact(a.rank))
)
GROUP BY run_id, writer_id;

-- The newest sample of any rank of the newest attempt, against the newest word of its processes: both come from the node,
-- so that events which are late make no run look as if it stood still. A step's time is the median over the samples.
-- One row: a run whose process lives, which has logged steps in the last two days and none in the last minute.
CREATE OR REPLACE VIEW {views}.silent_runs (
  run_id UUID COMMENT 'the run',
  step Int64 COMMENT 'furthest step of all ranks',
  moved_at DateTime64(6, 'UTC') COMMENT 'when any rank logged a step last, UTC; at most ten seconds early',
  seen_at DateTime64(6, 'UTC') COMMENT 'when a process of it was seen alive last, UTC',
  silent_s Float64 COMMENT 'seconds from one to the other',
  median_step_s Nullable(Float64) COMMENT 'median seconds of a step; NULL before there are two samples'
) AS
SELECT s.run_id AS run_id, max(s.furthest) AS step, max(s.newest_at) AS moved_at, max(w.run_seen_at) AS seen_at,
  greatest(0, dateDiff('millisecond', moved_at, seen_at) / 1000) AS silent_s,
  nullIf(max(s.median_s), 0) AS median_step_s
FROM {generation}.silent_paces AS s
ANY INNER JOIN {generation}.awaited_writers AS w ON w.run_id = s.run_id AND w.writer_id = s.writer_id
GROUP BY s.run_id HAVING moved_at < now64(6, 'UTC') - INTERVAL 60 SECOND;

-- A step is the furthest of the metrics that most of the ranks log: an evaluation that rank 0 alone logs says nothing of
-- who is behind. Ranks that finished are not among them.
-- One row: a rank of a launch with several, of which not all have logged a step in the last minute while one or more live.
CREATE OR REPLACE VIEW {views}.silent_ranks (
  run_id UUID COMMENT 'the run',
  attempt UInt16 COMMENT 'its newest attempt, from 1',
  rank UInt32 COMMENT 'rank in the launch',
  node_id String COMMENT 'its node',
  state String COMMENT 'running, or how it ended while others live: failed, killed, crashed, lost',
  step Nullable(Int64) COMMENT 'furthest step that it logged; NULL if it never logged one',
  moved_at Nullable(DateTime64(6, 'UTC')) COMMENT 'when it logged a step last, UTC; NULL if it never did',
  started_at Nullable(DateTime64(6, 'UTC')) COMMENT 'its start, UTC',
  seen_at DateTime64(6, 'UTC') COMMENT 'newest evidence of it, UTC; of one that ended its end',
  silent_s Nullable(Float64) COMMENT 'seconds from its last step, or from its start where there is none, to that evidence',
  median_step_s Nullable(Float64) COMMENT 'median seconds of its steps; NULL before there are two samples'
) AS
SELECT w.run_id AS run_id, any(w.attempt) AS attempt, assumeNotNull(w.rank) AS rank, argMax(w.node_id, w.last_seen_at) AS node_id,
  if(max(w.state = 'running'), 'running', argMax(w.state, w.last_seen_at)) AS state, max(p.step) AS step,
  -- `greatest` passes over NULL.
  greatest(max(p.at), max(s.newest_at)) AS moved_at, min(w.started_at) AS started_at, max(w.last_seen_at) AS seen_at,
  greatest(0, dateDiff('millisecond', ifNull(moved_at, started_at), seen_at) / 1000) AS silent_s,
  nullIf(max(s.median_s), 0) AS median_step_s
FROM {generation}.awaited_writers AS w
LEFT ANY JOIN (
  SELECT run_id, writer_id, toNullable(newest_at) AS newest_at, toNullable(median_s) AS median_s FROM {generation}.silent_paces
) AS s ON s.run_id = w.run_id AND s.writer_id = w.writer_id
LEFT ANY JOIN (
  SELECT run_id, writer_id, toNullable(max(highest_step)) AS step,
    toNullable(max(fromUnixTimestamp64Micro(toInt64(bitAnd(newest, 18446744073709551615)), 'UTC'))) AS at
  FROM (
    SELECT *, max(sharers) OVER (PARTITION BY run_id) AS sharers_most FROM (
      SELECT *, count() OVER (PARTITION BY run_id, key) AS sharers FROM {homed}point_sums
      WHERE run_id IN (SELECT run_id FROM {generation}.silent_paces)
        AND writer_id IN (SELECT writer_id FROM {generation}.awaited_writers WHERE decides AND rank IS NOT NULL)
    )
  ) WHERE sharers = sharers_most GROUP BY run_id, writer_id
) AS p ON p.run_id = w.run_id AND p.writer_id = w.writer_id
WHERE w.decides AND w.rank IS NOT NULL AND w.run_id IN (SELECT run_id FROM {generation}.silent_paces)
GROUP BY run_id, rank;
