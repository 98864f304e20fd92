-- One row: a logged number.
CREATE OR REPLACE VIEW {views}.metrics (
  run_id UUID COMMENT 'the run',
  attempt UInt16 COMMENT 'attempt of the run, from 1',
  rank Nullable(UInt32) COMMENT 'rank of the process; NULL for a single process',
  key String COMMENT 'the metric; nested keys joined with /',
  step Int64 COMMENT 'step given to log(), or calls counted',
  at DateTime64(6, 'UTC') COMMENT 'when log() was called, UTC',
  value Float64 COMMENT 'the value; NaN and infinities as logged'
) AS
SELECT p.run_id AS run_id, w.attempt AS attempt, w.rank AS rank, toString(p.key) AS key, p.step AS step, p.at AS at,
  p.value AS value
FROM {homed}points AS p
LEFT ANY JOIN (SELECT writer_id, attempt, rank FROM {generation}.writer_states FINAL WHERE NOT gone) AS w ON w.writer_id = p.writer_id;

-- One row: a logged text.
CREATE OR REPLACE VIEW {views}.text_points (
  run_id UUID COMMENT 'the run',
  attempt UInt16 COMMENT 'attempt of the run, from 1',
  rank Nullable(UInt32) COMMENT 'rank of the process; NULL for a single process',
  key String COMMENT 'the key; nested keys joined with /',
  step Int64 COMMENT 'step given to log(), or calls counted',
  at DateTime64(6, 'UTC') COMMENT 'when log() was called, UTC',
  text String COMMENT 'the text, or a list as JSON'
) AS
SELECT p.run_id AS run_id, w.attempt AS attempt, w.rank AS rank, toString(p.key) AS key, p.step AS step, p.at AS at,
  p.text AS text
FROM {homed}text_points AS p
LEFT ANY JOIN (SELECT writer_id, attempt, rank FROM {generation}.writer_states FINAL WHERE NOT gone) AS w ON w.writer_id = p.writer_id;

-- One row: a run and a metric.
CREATE OR REPLACE VIEW {views}.metric_summary (
  run_id UUID COMMENT 'the run',
  key String COMMENT 'the metric',
  points UInt64 COMMENT 'points of all attempts and ranks',
  nan_points UInt64 COMMENT 'of these NaN',
  first_step Int64 COMMENT 'lowest step',
  last_step Int64 COMMENT 'step of last',
  last Float64 COMMENT 'value of the highest (attempt, step, time)',
  min Nullable(Float64) COMMENT 'smallest finite value; NULL if none is',
  max Nullable(Float64) COMMENT 'largest finite value; NULL if none is',
  best Nullable(Float64) COMMENT 'min or max by the goal; NULL without a goal',
  best_step Nullable(Int64) COMMENT 'step of best',
  goal Nullable(String) COMMENT 'min or max, as set by define_metric'
) AS
SELECT s.run_id AS run_id, toString(s.key) AS key, s.points AS points, s.nan_points AS nan_points,
  s.first_step AS first_step, s.last_step AS last_step, s.last AS last,
  if(s.finite > 0, s.low, NULL) AS min, if(s.finite > 0, s.high, NULL) AS max,
  multiIf(s.finite = 0, NULL, g.goal = 'min', s.low, g.goal = 'max', s.high, NULL) AS best,
  multiIf(s.finite = 0, NULL, g.goal = 'min', s.low_step, g.goal = 'max', s.high_step, NULL) AS best_step,
  g.goal AS goal
FROM (
  -- (attempt, step, time) as one number: a tuple is compared value by value, which took a third of the whole query.
  WITH toInt256(attempt) * toInt256('340282366920938463463374607431768211456') + newest AS place
  SELECT run_id, key, sum(n) AS points, sum(nans) AS nan_points, min(lowest_step) AS first_step,
    argMax(highest_step, place) AS last_step, argMax(newest_value, place) AS last,
    sum(finites) AS finite, minIf(lowest, finites > 0) AS low, maxIf(highest, finites > 0) AS high,
    argMinIf(lowest_at, lowest, finites > 0) AS low_step, argMaxIf(highest_at, highest, finites > 0) AS high_step
  FROM {homed}point_sums AS p
  LEFT ANY JOIN (SELECT writer_id, attempt FROM {generation}.writer_states FINAL WHERE NOT gone) AS w ON w.writer_id = p.writer_id
  GROUP BY run_id, key
) AS s
LEFT ANY JOIN (SELECT run_id, key, goal FROM {generation}.metric_goals FINAL WHERE NOT gone) AS g
  ON g.run_id = s.run_id AND g.key = s.key;
