-- Read in place of the tables of the same names ({homed} in views/*.sql) from the first decision (event writers_moved) on: only
-- then, since planning them takes 20 ms of CPU a query. A process is of the run that it tells, or of the one that it was moved
-- to. A condition on run_id reaches the keys of both parts; where nothing that moved is asked for, nothing of it is read.
CREATE OR REPLACE VIEW {generation}.moved_writers AS
SELECT writer_id, told_run_id, run_id FROM {generation}.writer_homes FINAL WHERE run_id != told_run_id;

CREATE OR REPLACE VIEW {generation}.homed_points AS
SELECT * FROM {generation}.points WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT p.* REPLACE (h.run_id AS run_id)
FROM {generation}.points AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);

CREATE OR REPLACE VIEW {generation}.homed_text_points AS
SELECT * FROM {generation}.text_points WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT p.* REPLACE (h.run_id AS run_id)
FROM {generation}.text_points AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);

CREATE OR REPLACE VIEW {generation}.homed_log_lines AS
SELECT * FROM {generation}.log_lines WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT p.* REPLACE (h.run_id AS run_id)
FROM {generation}.log_lines AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);

CREATE OR REPLACE VIEW {generation}.homed_run_events AS
SELECT * FROM {generation}.run_events WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT p.* REPLACE (h.run_id AS run_id)
FROM {generation}.run_events AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);

CREATE OR REPLACE VIEW {generation}.homed_run_usage_windows AS
SELECT * FROM {generation}.run_usage_windows WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT p.* REPLACE (h.run_id AS run_id)
FROM {generation}.run_usage_windows AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);

CREATE OR REPLACE VIEW {generation}.homed_run_gpu_windows AS
SELECT * FROM {generation}.run_gpu_windows WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT p.* REPLACE (h.run_id AS run_id)
FROM {generation}.run_gpu_windows AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);

CREATE OR REPLACE VIEW {generation}.homed_progress_samples AS
SELECT * FROM {generation}.progress_samples WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT p.* REPLACE (h.run_id AS run_id)
FROM {generation}.progress_samples AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);

CREATE OR REPLACE VIEW {generation}.homed_point_sums AS
SELECT * FROM {generation}.point_sums WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT p.* REPLACE (h.run_id AS run_id)
FROM {generation}.point_sums AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);
