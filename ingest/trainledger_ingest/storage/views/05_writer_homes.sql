-- Internal. Which run a row is of is said by {homed} in the names of tables: as long as nobody moved a process to another run,
-- that is the run that it tells, and the table itself is read; then the views of the folder `moved_views` are.
-- Summed before they are homed, so that the projection of `points` is read and not the points.
CREATE OR REPLACE VIEW {generation}.point_sums AS
SELECT run_id, key, writer_id, count() AS n, countIf(isNaN(value)) AS nans, min(step) AS lowest_step,
  max(step) AS highest_step,
  argMax(value, bitShiftLeft(toInt128(step), 64) + toUnixTimestamp64Micro(at)) AS newest_value,
  max(bitShiftLeft(toInt128(step), 64) + toUnixTimestamp64Micro(at)) AS newest,
  countIf(isFinite(value)) AS finites, minIf(value, isFinite(value)) AS lowest,
  maxIf(value, isFinite(value)) AS highest, argMinIf(step, value, isFinite(value)) AS lowest_at,
  argMaxIf(step, value, isFinite(value)) AS highest_at
FROM {generation}.points GROUP BY run_id, key, writer_id;
