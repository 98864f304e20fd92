-- Not public: how many steps a running run will take, as far as it says so itself. A number of epochs counts together
-- with the steps of one, told or seen in a metric `epoch`; without them it stays unknown.
CREATE OR REPLACE VIEW {generation}.step_totals AS
WITH
  ['total_steps', 'max_steps', 'num_training_steps', 'max_train_steps', 'num_train_steps', 'training_steps', 'train_steps',
    'total_timesteps', 'max_iters', 'max_iterations', 'total_iters', 'total_iterations', 'num_iters', 'num_iterations',
    'train_iters', 'iterations', 'max_iter', 'max_updates', 'max_update', 'total_updates', 'steps'] AS names_of_steps,
  ['num_train_epochs', 'max_epochs', 'num_epochs', 'total_epochs', 'train_epochs', 'n_epochs', 'epochs'] AS names_of_epochs,
  ['steps_per_epoch', 'batches_per_epoch', 'iters_per_epoch', 'iterations_per_epoch'] AS names_of_lengths
SELECT c.run_id AS run_id,
  multiIf(c.steps.1 > 0, c.steps.1, c.epochs.1 <= 0, NULL, c.epoch_steps.1 > 0, c.epochs.1 * c.epoch_steps.1,
    e.passed > 0, c.epochs.1 * e.step / e.passed, NULL) AS total_steps,
  multiIf(c.steps.1 > 0, c.steps.2, c.epochs.1 <= 0, NULL, c.epoch_steps.1 > 0,
    concat(c.epochs.2, ' and ', c.epoch_steps.2), e.passed > 0, concat(c.epochs.2, ' and metric ', e.key), NULL) AS told_by
FROM (
  SELECT run_id,
    argMinIf(tuple(number, key), tuple(place_of_steps, length(key), key), place_of_steps > 0) AS steps,
    argMinIf(tuple(number, key), tuple(place_of_epochs, length(key), key), place_of_epochs > 0) AS epochs,
    argMinIf(tuple(number, key), tuple(place_of_lengths, length(key), key), place_of_lengths > 0) AS epoch_steps
  FROM (
    SELECT run_id, key, assumeNotNull(value_number) AS number, replaceAll(lower(extract(key, '[^/.]+$')), '-', '_') AS name,
      indexOf(names_of_steps, name) AS place_of_steps, indexOf(names_of_epochs, name) AS place_of_epochs,
      indexOf(names_of_lengths, name) AS place_of_lengths
    FROM (
      SELECT run_id, key, value_number, is_current FROM {generation}.param_changes FINAL
      WHERE NOT gone AND run_id IN (SELECT run_id FROM {generation}.run_states FINAL WHERE state = 'running')
      UNION ALL
      SELECT run_id, key, value_number, is_current FROM {generation}.summary_changes FINAL
      WHERE NOT gone AND run_id IN (SELECT run_id FROM {generation}.run_states FINAL WHERE state = 'running')
    )
    -- max_steps = -1 means none; the length of an evaluation or a warm-up is not that of the training.
    WHERE is_current AND value_number > 0 AND (place_of_steps + place_of_epochs + place_of_lengths) > 0
      AND NOT match(lower(key), '(^|[/._-])(eval|val|valid|validation|test|predict|warmup|scheduler)([/._-])')
  ) GROUP BY run_id
) AS c
LEFT ANY JOIN (
  -- Epochs counted from 1 begin with one that has not passed.
  SELECT run_id, toString(argMax(key, top)) AS key, argMax(top_at, top) AS step,
    max(top) - if(min(low) >= 1, 1, 0) AS passed
  FROM (
    SELECT run_id, key, writer_id, count() AS n, minIf(value, isFinite(value)) AS low,
      maxIf(value, isFinite(value)) AS top, argMaxIf(step, value, isFinite(value)) AS top_at
    FROM {homed}points
    WHERE run_id IN (SELECT run_id FROM {generation}.run_states FINAL WHERE state = 'running')
      AND key IN ('epoch', 'train/epoch', 'trainer/epoch', 'progress/epoch')
    GROUP BY run_id, key, writer_id
  ) GROUP BY run_id
) AS e ON e.run_id = c.run_id;

-- The rate is that from the sample which is a quarter of the process's time old (a minute to six hours) to the newest
-- one: long enough to hold evaluations and checkpoints, short enough to forget the start. Steps may come out of order
-- (an evaluation logged by epoch): the furthest of all counts. A run is as far as the rank with the longest to go; a
-- rank that is silent for as long as its rate looks back has no estimate, and does not count beside those that have.
-- One row: a run that is running and has logged steps.
CREATE OR REPLACE VIEW {views}.run_progress (
  run_id UUID COMMENT 'the run',
  step Int64 COMMENT 'furthest step of the rank, in the newest attempt, that eta_s is of; of the furthest rank while that is NULL; at most ten seconds old',
  at DateTime64(6, 'UTC') COMMENT 'when it was logged, UTC',
  steps_per_s Nullable(Float64) COMMENT 'steps of that rank in one of the last seconds, on average; NULL until it is measured',
  total_steps Nullable(Float64) COMMENT 'steps in all, as far as parameters or summary tell; NULL if unknown',
  total_from Nullable(String) COMMENT 'the parameters, keys of the summary and metrics that tell it',
  eta_s Nullable(Float64) COMMENT 'estimated seconds until the slowest rank of the newest attempt is done; ranks that have logged no step for long do not count; NULL if unknown, or no rank logs'
) AS
SELECT run_id, slowest.1 AS step, slowest.2 AS at, slowest.3 AS steps_per_s, total_steps, total_from, slowest.4 AS eta_s
FROM (
  SELECT run_id, any(total) AS total_steps, any(told_by) AS total_from,
    argMax(tuple(step, at, rate, left_s), tuple(isNotNull(left_s), ifNull(left_s, 0), step, at)) AS slowest
  FROM (
    SELECT p.run_id AS run_id, p.newest.1 AS step, p.newest.2 AS at, t.total_steps AS total, t.told_by AS told_by,
      if(p.span_s > 0 AND p.newest.1 > p.old.1, (p.newest.1 - p.old.1) / p.span_s, NULL) AS rate,
      -- `greatest` passes over NULL.
      if(isNull(rate) OR isNull(total) OR total < p.newest.1 OR p.silent_s > greatest(300, p.window_s),
        NULL, greatest(0, (total - p.newest.1) / rate - p.silent_s)) AS left_s
    FROM (
      SELECT run_id, writer_id, max(tuple(step, at)) AS newest,
        least(greatest(dateDiff('millisecond', min(at), max(at)) / 4000, 60), 21600) AS window_s,
        arrayFilter(sample -> sample.2 <= max(at) - toIntervalMillisecond(toInt64(window_s * 1000)), groupArray(tuple(step, at))) AS older,
        if(empty(older), argMin(tuple(step, at), at), arrayReduce('max', older)) AS old,
        dateDiff('microsecond', old.2, newest.2) / 1e6 AS span_s,
        greatest(0, dateDiff('millisecond', max(at), now64(6, 'UTC')) / 1000) AS silent_s
      FROM {homed}progress_samples
      WHERE (run_id, writer_id) IN (
        SELECT run_id, arrayJoin(arrayFilter((writer, attempt) -> attempt = arrayMax(attempts), writers, attempts))
        FROM (
          SELECT run_id, groupArray(writer_id) AS writers, groupArray(attempt) AS attempts
          FROM {generation}.writer_states FINAL
          WHERE NOT gone AND run_id IN (SELECT run_id FROM {generation}.run_states FINAL WHERE state = 'running')
          GROUP BY run_id
        )
      )
      GROUP BY run_id, writer_id
    ) AS p
    LEFT ANY JOIN {generation}.step_totals AS t ON t.run_id = p.run_id
  ) GROUP BY run_id
);
