-- Read in place of the tables of the same names ({homed} in views/*.sql) from the first decision (event writers_moved) on: only
-- then, since planning them takes 20 ms of CPU a query. A process is of the run that it tells, or of the one that it was moved
-- to. A condition on run_id reaches the keys of both parts; where nothing that moved is asked for, nothing of it is read.
CREATE OR REPLACE VIEW {generation}.moved_writers AS
SELECT writer_id, told_run_id, run_id FROM {generation}.writer_homes FINAL WHERE run_id != told_run_id;

CREATE OR REPLACE VIEW {generation}.homed_points AS
SELECT run_id, key, writer_id, step, at, value
FROM {generation}.points WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT h.run_id AS run_id, p.key AS key, p.writer_id AS writer_id, p.step AS step, p.at AS at, p.value AS value
FROM {generation}.points AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);

CREATE OR REPLACE VIEW {generation}.homed_text_points AS
SELECT run_id, key, writer_id, step, at, text
FROM {generation}.text_points WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT h.run_id AS run_id, p.key AS key, p.writer_id AS writer_id, p.step AS step, p.at AS at, p.text AS text
FROM {generation}.text_points AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);

CREATE OR REPLACE VIEW {generation}.homed_log_lines AS
SELECT run_id, writer_id, stream, line_no, at, text
FROM {generation}.log_lines WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT h.run_id AS run_id, p.writer_id AS writer_id, p.stream AS stream, p.line_no AS line_no, p.at AS at, p.text AS
  text
FROM {generation}.log_lines AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);

CREATE OR REPLACE VIEW {generation}.homed_run_events AS
SELECT run_id, writer_id, type, at, body, offset
FROM {generation}.run_events WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT h.run_id AS run_id, p.writer_id AS writer_id, p.type AS type, p.at AS at, p.body AS body, p.offset AS offset
FROM {generation}.run_events AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);

CREATE OR REPLACE VIEW {generation}.homed_run_usage_windows AS
SELECT run_id, writer_id, node_id, start_at, end_at, cpu_us, memory_peak_bytes
FROM {generation}.run_usage_windows WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT h.run_id AS run_id, p.writer_id AS writer_id, p.node_id AS node_id, p.start_at AS start_at, p.end_at AS
  end_at, p.cpu_us AS cpu_us, p.memory_peak_bytes AS memory_peak_bytes
FROM {generation}.run_usage_windows AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);

CREATE OR REPLACE VIEW {generation}.homed_run_gpu_windows AS
SELECT run_id, writer_id, node_id, device_id, part_id, start_at, observed_us, busy_us, memory_peak_bytes, energy_mj,
  quality
FROM {generation}.run_gpu_windows WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT h.run_id AS run_id, p.writer_id AS writer_id, p.node_id AS node_id, p.device_id AS device_id, p.part_id AS
  part_id, p.start_at AS start_at, p.observed_us AS observed_us, p.busy_us AS busy_us, p.memory_peak_bytes AS
  memory_peak_bytes, p.energy_mj AS energy_mj, p.quality AS quality
FROM {generation}.run_gpu_windows AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);

CREATE OR REPLACE VIEW {generation}.homed_progress_samples AS
SELECT run_id, writer_id, at, step
FROM {generation}.progress_samples WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT h.run_id AS run_id, p.writer_id AS writer_id, p.at AS at, p.step AS step
FROM {generation}.progress_samples AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);

CREATE OR REPLACE VIEW {generation}.homed_point_sums AS
SELECT run_id, key, writer_id, n, nans, lowest_step, highest_step, newest_value, newest, finites, lowest, highest,
  lowest_at, highest_at
FROM {generation}.point_sums WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT h.run_id AS run_id, p.key AS key, p.writer_id AS writer_id, p.n AS n, p.nans AS nans, p.lowest_step AS
  lowest_step, p.highest_step AS highest_step, p.newest_value AS newest_value, p.newest AS newest, p.finites
  AS finites, p.lowest AS lowest, p.highest AS highest, p.lowest_at AS lowest_at, p.highest_at AS highest_at
FROM {generation}.point_sums AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);
