-- Read in place of the tables of the same names ({homed} in views/*.sql) from the first decision (event writers_moved) on: only
-- then, since planning them takes 20 ms of CPU a query. A process is of the run that it tells, or of the one that it was moved
-- to. A condition on run_id reaches the keys of both parts; where nothing that moved is asked for, nothing of it is read.
CREATE OR REPLACE VIEW {generation}.moved_writers AS
SELECT writer_id, told_run_id, run_id FROM {generation}.writer_homes FINAL WHERE run_id != told_run_id;

-- Made once for each of HOMED_TABLES (migrate.py).
CREATE OR REPLACE VIEW {generation}.homed_{table} AS
SELECT * FROM {generation}.{table} WHERE writer_id NOT IN (SELECT writer_id FROM {generation}.moved_writers)
UNION ALL
SELECT p.* REPLACE (h.run_id AS run_id)
FROM {generation}.{table} AS p INNER JOIN {generation}.moved_writers AS h ON h.writer_id = p.writer_id
WHERE p.run_id IN (SELECT told_run_id FROM {generation}.moved_writers)
  AND p.writer_id IN (SELECT writer_id FROM {generation}.moved_writers);
